"""Showing drawings to a network: one number for each unit and drawing, in units of the unit's natural spread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from PIL import ImageOps
from torch import Tensor

from cutaway.errors import BadInput, NotTestable
from cutaway.features.receptive_field import receptive_field
from cutaway.networks.network import Network
from cutaway.networks.sites import Site
from cutaway.stimuli import StimulusSet, builtin_photographs
from cutaway.stimuli.drawings import Canvas, Drawings

PROBE = 128  # pixels: a size at which receptive fields are measured
MULTIPLE = 32  # canvases are multiples of this, so that strides divide them
NATURAL_PICTURES, NATURAL_SIDE = 32, 128
BATCH = 32


@dataclass(frozen=True)
class View:
    """How a site is looked at: the canvas, with its origin at the centre of the middle position's receptive field, and
    how many positions on each side of the middle one are taken in (rows and columns ``middle - window`` to ``+``).
    """

    canvas: Canvas
    middle: tuple[int, int]
    window: int
    field_px: int  # side of the receptive field; the canvas's where it is unknown


@dataclass(frozen=True, eq=False)
class NaturalScale:
    """Mean and standard deviation of every unit over all positions of natural pictures."""

    mean: Float[np.ndarray, " unit"]
    std: Float[np.ndarray, " unit"]
    pictures: int

    def sigma(self, values: Float[np.ndarray, "unit drawing"]) -> Float[np.ndarray, "unit drawing"]:
        """Values as distances from the natural mean in natural standard deviations; 0 for a unit that never varies."""
        spread = np.where(self.std > 0, self.std, np.inf)
        return (values - self.mean[:, None]) / spread[:, None]


def spatial_site(network: Network, name: str) -> Site:
    """The site of that name, which must be a feature map of known width; else ``NotTestable`` or ``BadInput``."""
    site = network.site(name)
    if not site.spatial:
        raise NotTestable(f"Tuning of {name} was asked for; it is no feature map (its layout is {site.layout!r}).")
    if not site.width:
        raise BadInput(f"Tuning of {name} was asked for, a site without units; choose a site after a convolution.")
    return site


def view_of(network: Network, name: str) -> View:
    """A canvas that holds the receptive field of the site's middle positions with a margin.

    The window takes in positions up to an eighth of the field away (at least one), so that a unit whose preferred
    place is not quite in the middle of its field answers fully, and no position sees the border of the canvas.
    """
    site = spatial_site(network, name)
    field = receptive_field(network, site, (PROBE, PROBE))
    if field is None:
        return _whole(network, site)
    side, stride = max(field.first.size), max(field.stride)
    window = max(1, round(side / 8 / stride))
    size = _multiple(side + 2 * (window + 1) * stride)
    box_of = _middle(network, site, size)
    box = field.at(*box_of)
    centre = ((box.top + box.bottom - 1) / 2, (box.left + box.right - 1) / 2)
    return View(Canvas(size, centre), box_of, window, side)


def _whole(network: Network, site: Site) -> View:
    """The network's own input size, where a unit sees all of it."""
    size = getattr(network.preprocess, "size", None) or 224
    middle = _middle(network, site, size)
    return View(Canvas(size), middle, min(1, *middle) if min(middle) else 0, size)


def _multiple(size: int) -> int:
    return int(-(-size // MULTIPLE) * MULTIPLE)


def _middle(network: Network, site: Site, size: int) -> tuple[int, int]:
    acts = network.run(network.prepare_rgb(torch.full((1, 3, size, size), 0.5)), capture=[site.name], stop_at=True)
    rows, columns = acts[site.name].shape[-2:]
    return rows // 2, columns // 2


def respond(
    network: Network,
    name: str,
    drawings: Drawings | Sequence[Drawings],
    view: View | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "unit drawing"]:
    """The strongest activation of every unit around the middle of each drawing; several sets are put side by side."""
    view = view or view_of(network, name)
    sets = [part.on(view.canvas) for part in ([drawings] if isinstance(drawings, Drawings) else drawings)]
    total, done, found = sum(map(len, sets)), 0, []
    for part in sets:
        for _, pixels in part.batches(BATCH):
            acts = _acts(network, name, torch.from_numpy(np.ascontiguousarray(pixels)))
            found.append(_around(acts, view).cpu().numpy())
            done += len(pixels)
            if progress is not None:
                progress(done, total)
    return np.concatenate(found).T


def _acts(network: Network, name: str, pixels: Tensor) -> Tensor:
    return network.run(network.prepare_rgb(pixels), capture=[name], stop_at=True)[name]


def _around(acts: Float[Tensor, "batch unit y x"], view: View) -> Float[Tensor, "batch unit"]:
    (y, x), reach = view.middle, view.window
    near = acts[:, :, max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
    return near.float().amax((2, 3))


def natural_scale(network: Network, name: str, stimuli: StimulusSet | None = None, *, seed: int = 0) -> NaturalScale:
    """Mean and spread of each unit over natural pictures (the embedded photographs unless given), 128 pixels a side."""
    spatial_site(network, name)
    chosen = stimuli if stimuli is not None else builtin_photographs()
    chosen = chosen.take(min(NATURAL_PICTURES, len(chosen)), seed=seed)
    total: Tensor | None = None
    squares: Tensor | None = None
    count = pictures = 0
    for group in chosen.batches(8):
        acts = _acts(network, name, torch.stack([natural_pixels(stimulus.load()) for stimulus in group])).double()
        rows = acts.movedim(1, 0).flatten(1)
        sums, powers = rows.sum(1), rows.square().sum(1)
        total, squares = (sums, powers) if total is None or squares is None else (total + sums, squares + powers)
        count, pictures = count + rows.shape[1], pictures + len(group)
    if total is None or squares is None:
        raise BadInput("No natural picture could be used to scale responses; give other stimuli.")
    mean = total / count
    return NaturalScale(mean.cpu().numpy(), (squares / count - mean**2).clamp_min(0).sqrt().cpu().numpy(), pictures)


def natural_pixels(picture: object, side: int = NATURAL_SIDE) -> Float[Tensor, "3 side side"]:
    """The middle of a picture as RGB in 0..1."""
    if isinstance(picture, Tensor):
        return picture
    fitted = ImageOps.fit(picture.convert("RGB"), (side, side))  # type: ignore[attr-defined]
    return torch.from_numpy(np.asarray(fitted, dtype=np.float32).transpose(2, 0, 1) / 255)


def without_window(view: View) -> View:
    """The same view of the middle position only."""
    return replace(view, window=0)
