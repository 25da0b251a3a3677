"""Joint tuning: the strongest natural examples of a unit, turned step by step, seen by a whole family of units.

For each example the picture is turned about the centre of the receptive field and every unit of interest is read where
the unit was strongest (Cammarata et al., "Curve Detectors", Distill 2020). Curves of different examples are shifted so
that a chosen unit's peaks coincide, and averaged.

Each picture is shown twice with independent pixel noise: the shifts come from the first copy, the averages from the
second, because shifting curves to their own maxima would make a peak out of noise (:mod:`.curve_alignment` has the
numbers that say what is left). For a null of the whole network, show the same places to its untrained twin
(``places=``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import Measurement
from cutaway.features.activity import Activity
from cutaway.features.collect import as_stimulus_set, check_address, collect, prepared
from cutaway.features.curve_alignment import aligned, coherence, consistency
from cutaway.features.examples import limited
from cutaway.features.pictures import Pictures
from cutaway.features.receptive_field import Box, ReceptiveField, receptive_field
from cutaway.networks.network import Network
from cutaway.networks.sites import Address, Site
from cutaway.stimuli import Stimulus

_CANVAS_STEP, _LARGEST_CANVAS = 32, 1024


@dataclass(frozen=True, eq=False)
class Place:
    """Where an example is turned: a picture (RGB, 0..1), and the centre of the receptive field in it, in pixels."""

    source: str
    picture: Float[np.ndarray, "y x 3"]
    centre: tuple[float, float]
    value: float  # the unit's activation on the whole picture


@dataclass(frozen=True, eq=False)
class JointUnit:
    """One unit of the family: its averaged curve over offsets from the aligning unit's peak, and what it is worth."""

    unit: int
    average: Float[np.ndarray, " angle"]
    preferred_offset_deg: float  # of the averaged curve's maximum, in -180 to 180
    coherence: Measurement
    consistency: Measurement


@dataclass(frozen=True, eq=False)
class JointTuning:
    """Curves of all units on all turned examples; angles are in degrees, counterclockwise as the picture is seen.

    ``curves`` is the copy that is averaged, ``aligned_by`` the angle of each example's peak in the other copy.
    """

    address: str
    angles: Float[np.ndarray, " angle"]
    places: tuple[Place, ...]
    curves: Float[np.ndarray, "example angle unit"]
    aligned_by: Float[np.ndarray, " example"]
    units: tuple[JointUnit, ...]
    seed: int


def joint_tuning(
    network: Network,
    address: str | Address,
    stimuli: Any = None,
    *,
    family: Sequence[int] = (),
    places: Sequence[Place] | None = None,
    examples: int = 8,
    step_deg: float | int = 1,
    noise: float | int = 0.02,
    batch_size: int = 32,
    shuffles: int = 499,
    seed: int = 0,
) -> JointTuning:
    """Turns the ``examples`` strongest stimuli of a unit through 360 degrees and reads the unit and its ``family``.

    ``family`` are other units of the same site. ``noise`` is the standard deviation of the pixel noise (pixels are 0 to
    1) that tells the aligning copy from the averaged one; it must be above 0. ``places`` (of an earlier result) replace
    the stimuli. Raises ``NotTestable`` where the unit is never above zero on three stimuli or sees the whole input.
    """
    steps = _steps(step_deg, noise)
    checked = check_address(network, address)
    site = network.site(checked.site)
    units = [network.address(Address(site.name, unit)).unit for unit in dict.fromkeys((checked.unit, *family))]
    chosen = tuple(places) if places is not None else tuple(_places(network, site, checked, stimuli, examples))
    if len(chosen) < 3:
        raise NotTestable(f"{checked} is above zero on {len(chosen)} of the stimuli; turning needs three examples.")
    angles = np.arange(steps) * (360 / steps)
    square = _square(network, site)
    generator = torch.Generator().manual_seed(seed)
    copies = [
        np.stack([_read(network, site, units, square, place, angles, noise, batch_size, generator) for place in chosen])
        for _ in range(2)
    ]
    tuned = tuple(
        _unit_tuning(unit, copies[0][..., 0], copies[1][..., column], angles, shuffles, seed)
        for column, unit in enumerate(units)
    )
    peaks = angles[copies[0][..., 0].argmax(1)]
    return JointTuning(str(checked), angles, chosen, copies[1], peaks, tuned, seed)


def _steps(step_deg: float | int, noise: float | int) -> int:
    steps = round(360 / step_deg) if step_deg > 0 else 0
    if steps < 8 or not math.isclose(steps * step_deg, 360):
        raise BadInput(f"Steps of {step_deg:g} degrees were asked for; give a divisor of 360 up to 45.")
    if noise <= 0:
        raise BadInput(f"Pixel noise of {noise:g} was asked for; above 0 it tells the aligning copy from the other.")
    return steps


# -- places and canvas ---------------------------------------------------------------------------------------------


def _places(network: Network, site: Site, address: Address, stimuli: Any, examples: int) -> list[Place]:
    """The strongest position of each of the strongest stimuli, one for each origin, where the field is in the picture.

    At the border units often answer to the border. A stimulus on which every field sticks out keeps its strongest one.
    """
    if stimuli is None:
        raise BadInput("Neither stimuli nor places were given; give pictures whose strongest ones are to be turned.")
    if not site.spatial:
        raise NotTestable(f"{site.name} is not a feature map, so nothing can be turned about a receptive field.")
    activity = collect(network, site, [address.unit], as_stimulus_set(stimuli), seed=0)
    pictures = Pictures(network, activity)
    best = [_best(activity, pictures, row) for row in range(len(activity))]
    order = sorted((row for row in range(len(best)) if best[row][0] > 0), key=lambda row: -best[row][0])
    return [
        Place(
            activity.stimuli[row].source,
            _rgb(network, activity.stimuli[row], pictures, row),
            best[row][1],
            best[row][0],
        )
        for row in limited(activity, order, examples, per_origin=1)
    ]


def _best(activity: Activity, pictures: Pictures, row: int) -> tuple[float, tuple[float, float]]:
    """The largest activation on a stimulus at a position whose field is inside, and the centre of that field."""
    field = pictures.field(row)
    if field is None:
        raise NotTestable(f"Units of {activity.site.name} see the whole input, so there is no centre to turn it about.")
    rows, columns = pictures.shown(row).shape[:2]
    sampled = [*zip(activity.values[row, :, 0], activity.places[row], strict=True)]
    sampled.append((activity.highest[row, 0], activity.highest_place[row, 0]))
    inside: list[tuple[float, tuple[float, float]]] = []
    for value, place in sampled:
        box = field.at(*activity.position(int(place)))
        if box.top >= 0 and box.left >= 0 and box.bottom <= rows and box.right <= columns and np.isfinite(value):
            inside.append((float(value), _centre(box)))
    strongest = field.at(*activity.position(int(activity.highest_place[row, 0])))
    return max(inside) if inside else (float(activity.highest[row, 0]), _centre(strongest))


def _rgb(network: Network, stimulus: Stimulus, pictures: Pictures, row: int) -> Float[np.ndarray, "y x 3"]:
    """What ``prepare_rgb`` turns into the network's input: without preprocessing the input itself, not stretched."""
    if network.preprocess is not None:
        return pictures.shown(row)
    pixels = next(iter(prepared(network, [stimulus.loaded()]).inputs.values()))[0]
    return pixels.expand(3, -1, -1).permute(1, 2, 0).double().cpu().numpy()


def _centre(box: Box) -> tuple[float, float]:
    """The middle of a box in the coordinates of pixel centres: 1.0 for rows 0 to 3."""
    return (box.top + box.bottom - 1) / 2, (box.left + box.right - 1) / 2


@dataclass(frozen=True)
class CentredSquare:
    """A square input just larger than the receptive field, and the map position whose field is nearest its middle."""

    size: int
    position: tuple[int, int]
    centre: tuple[float, float]


def _square(network: Network, site: Site) -> CentredSquare:
    """The smallest canvas (a multiple of 32 pixels) on which a position sees no border."""
    field = receptive_field(network, site, (_CANVAS_STEP, _CANVAS_STEP))
    start = 0 if field is None else max(field.first.size) // _CANVAS_STEP * _CANVAS_STEP
    for size in range(max(start, _CANVAS_STEP), _LARGEST_CANVAS + 1, _CANVAS_STEP) if field is not None else ():
        field = receptive_field(network, site, (size, size))
        place = None if field is None else _middle(field, size)
        if place is not None and field is not None:
            return CentredSquare(size, place, _centre(field.at(*place)))
    raise NotTestable(
        f"Units of {site.name} see the whole input or too much of it, so pictures cannot be turned for them."
    )


def _middle(field: ReceptiveField, size: int) -> tuple[int, int] | None:
    """The position whose field lies in the middle of the canvas; None if that field sticks out."""
    centre, stride = _centre(field.first), field.stride
    y, x = (max(0, round(((size - 1) / 2 - c) / s)) for c, s in zip(centre, stride, strict=True))
    box = field.at(y, x)
    inside = min(box.top, box.left) >= 0 and max(box.bottom, box.right) <= size
    return (y, x) if inside else None


# -- showing -------------------------------------------------------------------------------------------------------


def turned(
    picture: Float[Tensor, "3 y x"],
    centre: tuple[float, float],
    angles_deg: Float[Tensor, " angle"],
    size: int,
    middle: tuple[float, float],
) -> Float[Tensor, "angle 3 size size"]:
    """A square cut from a picture turned counterclockwise about ``centre`` (row, column), which comes to ``middle``.

    Bilinear; beyond its border the picture is mirrored. At angle 0 pixels are copied if both centres have the same
    fraction.
    """
    rows, columns = torch.meshgrid(torch.arange(size) - middle[0], torch.arange(size) - middle[1], indexing="ij")
    angle = torch.deg2rad(angles_deg.double())[:, None, None]
    # A point of the turned picture comes from the point turned back; rows run downwards.
    y = centre[0] + rows * torch.cos(angle) + columns * torch.sin(angle)
    x = centre[1] + columns * torch.cos(angle) - rows * torch.sin(angle)
    height, width = picture.shape[-2:]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1).to(picture.dtype)
    many = picture.expand(len(angles_deg), -1, -1, -1)
    return functional.grid_sample(many, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _read(
    network: Network,
    site: Site,
    units: Sequence[int],
    square: CentredSquare,
    place: Place,
    angles: Float[np.ndarray, " angle"],
    noise: float | int,
    batch_size: int,
    generator: torch.Generator,
) -> Float[np.ndarray, "angle unit"]:
    """The units at the position of the square on one example at all angles, with fresh pixel noise."""
    picture = torch.from_numpy(place.picture).permute(2, 0, 1).float()
    y, x = square.position
    read: list[np.ndarray] = []
    for some in torch.from_numpy(angles).split(batch_size):
        pixels = turned(picture, place.centre, some, square.size, square.centre)
        noisy = pixels + noise * torch.randn(pixels.shape, generator=generator)
        run = network.run(network.prepare_rgb(noisy.to(network.device)), capture=[site.name], stop_at=True)
        read.append(run[site.name][:, list(units), y, x].detach().double().cpu().numpy())
    return np.concatenate(read)


def _unit_tuning(
    unit: int,
    aligning: Float[np.ndarray, "example angle"],
    curves: Float[np.ndarray, "example angle"],
    angles: Float[np.ndarray, " angle"],
    shuffles: int,
    seed: int,
) -> JointUnit:
    shifts = aligning.argmax(1)
    average = aligned(curves, shifts).mean(0)
    preferred = float((angles[average.argmax()] + 180) % 360 - 180)
    options: dict[str, Any] = {"shuffles": shuffles, "seed": seed}
    return JointUnit(
        unit, average, preferred, coherence(curves, shifts, **options), consistency(aligning, curves, **options)
    )
