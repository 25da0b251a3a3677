"""From addresses to finished images: sites one after the other, many units of a site in one batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from cutaway.errors import BadInput, UnknownName
from cutaway.features.collect import Progress, check_address, silent
from cutaway.features.visualize.ascent import Effort, activations, finished, on_gray, optimize
from cutaway.features.visualize.canvas import canvas_size, check_site, reach_of
from cutaway.features.visualize.objectives import Objective, channel, neuron, paid_by_opacity
from cutaway.features.visualize.parametrize import Image, ImageSpec, seeds_for
from cutaway.features.visualize.parametrize import parametrization as named
from cutaway.features.visualize.result import Visualization
from cutaway.features.visualize.transforms import Transforms, for_field
from cutaway.networks.network import Network
from cutaway.networks.sites import Address

PIXELS_AT_ONCE = 400_000
"""Of all images of a batch together, by default: bounds the memory for activations."""
MOST_AT_ONCE = 64
LEAST_SIDE = 4

#: Makes the objective of a batch: (site, one unit for each image).
Maker = Callable[[str, Sequence[int]], Objective]
#: Where it is not :class:`Effort`'s own: phases are angles and have farther to go.
LEARNING_RATES = {"phase": 0.2}
OBJECTIVES: dict[str, Maker] = {"channel": channel, "neuron": neuron}


@dataclass(frozen=True)
class _Plan:
    """Everything about the images of one site but which units."""

    site: str
    size: tuple[int, int]
    objective: Maker
    image: Callable[[ImageSpec], Image]
    transforms: Transforms
    settings: dict[str, Any]


def visualize(
    network: Network,
    addresses: str | Address | Sequence[str | Address],
    *,
    objective: str | Maker = "channel",
    parametrization: str | Callable[[ImageSpec], Image] = "fourier",
    size: int | tuple[int, int] | None = None,
    transforms: Transforms | None = None,
    steps: int = 64,
    learning_rate: float | int | None = None,
    redirect_steps: int = 16,
    damping: float | int = 0.05,
    minimum: bool = False,
    gray: bool = False,
    alpha: bool = False,
    seed: int = 0,
    channels_last: bool = True,
    precision: str = "float32",
    batch_size: int | None = None,
    progress: Progress = silent,
) -> tuple[Visualization, ...]:
    """Images that make units strong (or, with ``minimum``, weak), in the order of the addresses.

    ``objective`` is channel (mean over positions), neuron (centre position) or a function (site, units) -> Objective;
    ``parametrization`` fourier, phase, pixels or a function of a :class:`ImageSpec`. ``size`` and ``transforms`` follow
    from the receptive field where they are not given, ``learning_rate`` from the parametrization. The same address
    twice gives two images from different starts, and an image is the same alone and in company, up to rounding.
    Raises ``NotTestable`` for networks that take no pictures, ``BadInput`` and ``UnknownName`` for addresses that the
    network does not have.
    """
    listed = [addresses] if isinstance(addresses, (str, Address)) else list(addresses)
    checked = _checked(network, listed)
    rate = LEARNING_RATES.get(str(parametrization), Effort.learning_rate) if learning_rate is None else learning_rate
    effort = Effort(steps, rate, redirect_steps, damping=damping, channels_last=channels_last, precision=precision)
    words = _words(objective=objective, parametrization=parametrization)
    settings = {**words, **asdict(effort), "gray": gray, "alpha": alpha, "minimum": minimum, "seed": seed}
    seeds = seeds_for([str(address) for address in checked], seed)
    made: dict[int, Visualization] = {}
    for site, rows in _by_site(checked).items():
        plan = _plan(network, site, size, transforms, objective, named(parametrization), settings)
        for chunk in _chunks(rows, batch_size, plan.size):
            told = _told(progress, len(made), len(chunk), len(checked), site)
            units = [checked[row].unit for row in chunk]
            made.update(zip(chunk, _make(network, plan, effort, units, [seeds[row] for row in chunk], told)))
    return tuple(made[row] for row in range(len(checked)))


def _checked(network: Network, addresses: Sequence[str | Address]) -> list[Address]:
    if not addresses:
        raise BadInput("No address was given; name at least one, for example SITE:0.")
    if network.modality != "text":
        checked = [check_address(network, address) for address in addresses]
    else:
        checked = [network.address(address) for address in addresses]
    for site in dict.fromkeys(address.site for address in checked):
        check_site(network, network.site(site))
    return checked


def _plan(
    network: Network,
    site: str,
    size: int | tuple[int, int] | None,
    transforms: Transforms | None,
    objective: str | Maker,
    image: Callable[[ImageSpec], Image],
    settings: dict[str, Any],
) -> _Plan:
    reach = reach_of(network, network.site(site))
    sides = _sides(canvas_size(network, reach) if size is None else size)
    field = None if reach is None else reach.field
    moved = transforms or for_field(field)
    maker = _maker(objective, 0 if reach is None else reach.border)
    places = {"size": list(sides), "receptive_field": field, "transforms": asdict(moved)}
    return _Plan(site, sides, maker, image, moved, {**settings, **places})


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else size
    if min(sides) < LEAST_SIDE:
        raise BadInput(
            f"Images of {sides[0]} x {sides[1]} pixels were asked for; ask for at least {LEAST_SIDE} a side."
        )
    return sides


def _make(
    network: Network, plan: _Plan, effort: Effort, units: list[int], seeds: list[int], progress: Progress
) -> Iterator[Visualization]:
    """The images of one batch."""
    gray, alpha, minimum = (plan.settings[key] for key in ("gray", "alpha", "minimum"))
    image = plan.image(ImageSpec(plan.size, tuple(seeds), gray, alpha, network.device))
    history = optimize(
        network,
        _wanted(plan, units),
        image,
        effort=effort,
        transforms=plan.transforms,
        seed=_movements(plan),
        progress=progress,
    )
    rgb, opacity = finished(image)
    best = best_activations(network, plan.site, on_gray(rgb, opacity), minimum=minimum)
    for row, unit in enumerate(units):
        yield Visualization(
            f"{plan.site}:{unit}",
            rgb[row].cpu(),
            None if opacity is None else opacity[row].cpu(),
            float(best[row, unit]),
            tuple(history[:, row].tolist()),
            _wanted(plan, [unit]).text,
            plan.settings,
        )


def _wanted(plan: _Plan, units: list[int]) -> Objective:
    objective = plan.objective(plan.site, units)
    objective = -objective if plan.settings["minimum"] else objective
    return paid_by_opacity(objective) if plan.settings["alpha"] else objective


def _movements(plan: _Plan) -> int:
    """The seed of the movements: one for all units of a site, so that it does not depend on the batch."""
    digest = hashlib.sha256(f"{plan.settings['seed']}|{plan.site}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def best_activations(
    network: Network, site: str, pictures: Float[Tensor, "batch 3 y x"], *, minimum: bool = False
) -> Float[Tensor, "batch unit"]:
    """Every unit's highest (or lowest) activation over positions on pictures (RGB, 0..1)."""
    acts = activations(network, site, pictures)
    maps = acts.unsqueeze(-1) if acts.ndim == 2 else acts.flatten(2)
    return maps.amin(2) if minimum else maps.amax(2)


def _by_site(addresses: Sequence[Address]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, address in enumerate(addresses):
        rows.setdefault(address.site, []).append(row)
    return rows


def _chunks(rows: list[int], batch_size: int | None, size: tuple[int, int]) -> Iterator[list[int]]:
    if batch_size is not None and batch_size < 1:
        raise BadInput(f"A batch of {batch_size} images was asked for; ask for at least 1.")
    count = batch_size or min(MOST_AT_ONCE, max(1, PIXELS_AT_ONCE // (size[0] * size[1])))
    for start in range(0, len(rows), count):
        yield rows[start : start + count]


def _told(progress: Progress, before: int, batch: int, total: int, site: str) -> Progress:
    """Counts images of all batches together; those of a batch grow at the same time."""
    return lambda step, steps, _what: progress(before + batch * step // steps, total, f"images for {site}")


def _maker(objective: str | Maker, border: int) -> Maker:
    if callable(objective):
        return objective
    if objective not in OBJECTIVES:
        raise UnknownName("objective", objective, OBJECTIVES, f"Choose {', '.join(OBJECTIVES)}, or give a function.")
    return partial(channel, border=border) if objective == "channel" else OBJECTIVES[objective]


def _words(**chosen: object) -> dict[str, str]:
    """What was chosen, by name."""
    return {key: each if isinstance(each, str) else getattr(each, "__name__", "own") for key, each in chosen.items()}
