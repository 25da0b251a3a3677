"""A finished visualization: the picture, what the unit does on it, and how it was made."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image as Pillow
from PIL import ImageDraw
from torch import Tensor

from cutaway.errors import BadInput

_CAPTION, _GAP = 14, 4  # pixels of a contact sheet
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


@dataclass(frozen=True, eq=False)
class Visualization:
    """One image made for one address.

    ``image`` is RGB in 0..1 (what lies under transparency included), ``alpha`` its opacity or None. ``activation`` is
    the unit's value at its best position (the lowest for a minimum image) on the finished image, nothing moved, on
    gray where transparent. ``history`` holds the objective at every step.
    """

    address: str
    image: Float[Tensor, "3 y x"]
    alpha: Float[Tensor, "y x"] | None
    activation: float
    history: tuple[float, ...]
    objective: str
    settings: dict[str, Any]

    def shown(self) -> Float[Tensor, "3 y x"]:
        """The image as the unit was judged on: on middle gray where it is transparent."""
        return self.image if self.alpha is None else self.image * self.alpha + 0.5 * (1 - self.alpha)

    def picture(self, least: int = 0) -> Pillow.Image:
        """A Pillow image, RGB or RGBA; enlarged (bicubic) if its longer side has fewer than ``least`` pixels."""
        planes = [*self.image] if self.alpha is None else [*self.image, self.alpha]
        array = np.stack([np.clip(np.rint(plane.numpy() * 255), 0, 255) for plane in planes], axis=-1)
        made = Pillow.fromarray(array.astype(np.uint8))
        grow = least / max(made.size)
        if grow <= 1:
            return made
        sides = [math.ceil(side * grow) for side in made.size]
        return made.resize((sides[0], sides[1]), Pillow.Resampling.BICUBIC)

    def png(self, *, least: int = 0) -> bytes:
        """:meth:`picture` as PNG."""
        buffer = io.BytesIO()
        self.picture(least).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def save(self, path: str | Path, *, least: int = 0) -> Path:
        """Writes :meth:`png` to a file, making its folder."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.png(least=least))
        return path

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels and the history, as plain values."""
        return {
            "address": self.address,
            "activation": self.activation if math.isfinite(self.activation) else None,
            "objective": self.objective,
            "size": list(self.image.shape[1:]),
            "settings": self.settings,
        }


def contact_sheet(
    visualizations: Sequence[Visualization],
    *,
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    tile: int = 112,
) -> Pillow.Image:
    """All images on one sheet, each above its caption (its address by default), row by row in the given order."""
    if not visualizations:
        raise BadInput("A contact sheet of no images was asked for; give at least one.")
    captions = [each.address for each in visualizations] if captions is None else list(captions)
    if len(captions) != len(visualizations):
        raise BadInput(f"{len(captions)} captions were given for {len(visualizations)} images; give one for each.")
    columns = columns or min(len(visualizations), max(4, math.ceil(math.sqrt(len(visualizations)))))
    rows = -(-len(visualizations) // columns)
    wide, high = tile + _GAP, tile + _CAPTION + _GAP
    sheet = Pillow.new("RGB", (columns * wide + _GAP, rows * high + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (each, caption) in enumerate(zip(visualizations, captions)):
        left, top = _GAP + index % columns * wide, _GAP + index // columns * high
        _paste(sheet, each, (left, top), tile)
        draw.text((left + 1, top + tile + 1), _fitting(draw, caption, tile), fill=_INK)
    return sheet


def _paste(sheet: Pillow.Image, each: Visualization, corner: tuple[int, int], tile: int) -> None:
    picture = each.picture(tile)
    picture.thumbnail((tile, tile), Pillow.Resampling.LANCZOS)
    sheet.paste(picture, corner, picture if picture.mode == "RGBA" else None)


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """The text, or as much of its end as fits: the end names the unit."""
    while len(text) > 1 and draw.textlength(text) > width:
        text = "…" + text.lstrip("…")[1:]
    return text
