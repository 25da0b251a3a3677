"""Pictures as the network saw them: shown inputs, crops with a border, PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cutaway.features.activity import Activity
from cutaway.features.collect import prepared
from cutaway.features.receptive_field import Box, ReceptiveField, receptive_field
from cutaway.networks.network import Network

BORDER = 0.86
"""Grey level of what lies outside the picture."""
_MOST_PIXELS = 112  # of a stored crop's longer side
_FEWEST_PIXELS = 48
_COLOURS = 96  # of a stored crop's palette


class Pictures:
    """The shown inputs of an activity's stimuli, prepared when first asked for, with their receptive fields."""

    def __init__(self, network: Network, activity: Activity) -> None:
        self._network, self._activity = network, activity
        self._shown: dict[int, Float[np.ndarray, "y x 3"]] = {}
        #: descriptions of crops by row and place, kept here by those who make them
        self.described: dict[tuple[int, int], Float[np.ndarray, " feature"]] = {}

    def shown(self, row: int) -> Float[np.ndarray, "y x 3"]:
        """Stimulus ``row`` as the network saw it: RGB, 0..1."""
        if row not in self._shown:
            self._shown[row] = self._prepare(row)
        return self._shown[row]

    def field(self, row: int) -> ReceptiveField | None:
        """The receptive field of the site on inputs of this stimulus's size; None: the whole input."""
        rows, columns = self.shown(row).shape[:2]
        return receptive_field(self._network, self._activity.site, (rows, columns))

    def crop(self, row: int, position: Sequence[int]) -> Float[np.ndarray, "y x 3"]:
        """What a unit at ``position`` can see of stimulus ``row``; light grey where its field sticks out."""
        picture, field = self.shown(row), None
        if len(position) == 2:
            field = self.field(row)
        return picture if field is None else cropped(picture, field.at(position[0], position[1]))

    def _prepare(self, row: int) -> Float[np.ndarray, "y x 3"]:
        batch = prepared(self._network, [self._activity.stimuli[row].loaded()])
        pixels = next(iter(batch.inputs.values()))[0]
        return displayed(self._network, pixels)


def displayed(network: Network, pixels: Float[Tensor, "channel y x"]) -> Float[np.ndarray, "y x 3"]:
    """A network's input as an RGB picture in 0..1: by the inverse of its preprocessing, otherwise stretched."""
    inverse = getattr(network.preprocess, "inverse", None)
    picture = inverse(pixels) if inverse is not None else _stretched(pixels.detach().float().cpu())
    picture = picture[:3] if len(picture) >= 3 else picture[:1].expand(3, -1, -1)
    return picture.permute(1, 2, 0).contiguous().numpy().astype(np.float64)


def _stretched(pixels: Tensor) -> Tensor:
    low, high = pixels.min(), pixels.max()
    return (pixels - low) / (high - low).clamp(min=1e-12)


def cropped(picture: Float[np.ndarray, "y x 3"], box: Box) -> Float[np.ndarray, "yy xx 3"]:
    """The box of a picture; :data:`BORDER` grey outside of it."""
    crop = np.full((*box.size, 3), BORDER)
    rows, columns = picture.shape[:2]
    top, bottom = max(box.top, 0), min(box.bottom, rows)
    left, right = max(box.left, 0), min(box.right, columns)
    if top < bottom and left < right:
        crop[top - box.top : bottom - box.top, left - box.left : right - box.left] = picture[top:bottom, left:right]
    return crop


def resized(picture: Float[np.ndarray, "y x 3"], size: int) -> Float[np.ndarray, "size size 3"]:
    """A picture at ``size`` by ``size``: area means down, bilinear up."""
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None]
    if min(picture.shape[:2]) >= size:
        small = functional.adaptive_avg_pool2d(tensor, size)
    else:
        small = functional.interpolate(tensor, size=(size, size), mode="bilinear", align_corners=False)
    return small[0].permute(1, 2, 0).numpy()


def png(picture: Float[np.ndarray, "y x 3"]) -> bytes:
    """A picture as PNG of 48 to 112 pixels with a palette: a few kilobytes."""
    image = Image.fromarray(np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8))
    longer = max(image.size)
    if longer > _MOST_PIXELS:
        image.thumbnail((_MOST_PIXELS, _MOST_PIXELS), Image.Resampling.LANCZOS)
    elif longer < _FEWEST_PIXELS:
        # Whole pixels, so that a reader sees what the unit sees: three by three pixels are nine squares.
        grow = -(-_FEWEST_PIXELS // longer)
        image = image.resize((image.width * grow, image.height * grow), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.quantize(_COLOURS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
