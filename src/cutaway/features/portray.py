"""Making what a card shows only when asked: pictures for the units of a site, and their tuning to drawings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from cutaway.errors import BadInput, NotTestable, UnknownName
from cutaway.evidence import Measurement
from cutaway.features.collect import Progress, peers, silent
from cutaway.features.portrait import Portrait, Preference
from cutaway.features.tuning.responses import spatial_site
from cutaway.features.tuning.tune import Tuning, tune
from cutaway.features.visualize.checks import Sanity, natural_activity, sanity
from cutaway.features.visualize.make import best_activations, visualize
from cutaway.features.visualize.result import Visualization
from cutaway.networks.network import Network
from cutaway.networks.sites import Site, parse_address
from cutaway.stimuli import StimulusSet
from cutaway.stimuli.drawings import KINDS


def check_wish(
    network: Network, name: str, *, visualize: bool = False, tune: str | None = None, steps: int = 1
) -> None:
    """One sentence, before any work, if a site's units cannot be visualized or tuned.

    Raises ``NotTestable`` for a site that is no feature map, ``BadInput`` for one without channels or for fewer than
    one step, ``UnknownName`` for a kind of drawing.
    """
    if not visualize and tune is None:
        return
    _check_maps(network, network.site(name))
    if visualize and steps < 1:
        raise BadInput(f"{steps} steps of gradient ascent were asked for; ask for at least 1.")
    if tune is not None and tune not in KINDS:
        raise UnknownName("kind of drawing", tune, KINDS)
    if tune is not None:
        spatial_site(network, name)


def _check_maps(network: Network, site: Site) -> None:
    if site.spatial:
        return
    maps = [each.name for each in network.sites() if each.spatial]
    hint = f"choose one, for example {maps[-1]}" if maps else f"{network.name} has none"
    raise NotTestable(
        f"A picture or tuning was asked for units of {site.name}, whose axes are {site.layout!r}; these are measured "
        f"for feature maps: {hint}."
    )


def portraits(
    network: Network,
    site: Site,
    units: Sequence[int],
    natural: StimulusSet,
    *,
    others: int = 8,
    compared: int = 24,
    steps: int = 64,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[int, Portrait]:
    """A picture for each of ``units``, in one batch with pictures for ``others`` random units, their null.

    Pictures are rounded to eight bits before anything is measured, so that every number is about the PNG. ``compared``
    other units lend their own natural pictures to the checks (:class:`Sanity`).
    """
    wanted = [*dict.fromkeys(units), *peers(site, units, others, seed)]
    addresses = [f"{site.name}:{unit}" for unit in wanted]
    made = [
        _as_saved(network, each) for each in visualize(network, addresses, steps=steps, seed=seed, progress=progress)
    ]
    beside = peers(site, units, compared, seed)
    activity = natural_activity(network, site.name, [*wanted, *beside], natural, progress=progress)
    checks = sanity(network, made, activity, seed=seed)
    shown = len(activity.groups)
    found = {unit: _portrait(each, check, shown) for unit, each, check in zip(wanted, made, checks)}
    return {unit: found[unit] for unit in dict.fromkeys(units)}


def _as_saved(network: Network, made: Visualization) -> Visualization:
    """The image with the eight bits a colour that a PNG has, and the activation on that."""
    address = parse_address(made.address)
    image = (made.image * 255).round() / 255
    best = best_activations(network, address.site, image[None].to(network.device))
    return dataclasses.replace(made, image=image, activation=float(best[0, address.unit]))


def _portrait(made: Visualization, check: Sanity, natural: int) -> Portrait:
    rows, columns = made.image.shape[1:]
    steps = int(made.settings["steps"])
    return Portrait(
        made.png(), (rows, columns), made.activation, check.sigma, check.rank, natural, made.objective, steps
    )


def preferences(
    network: Network,
    site: Site,
    units: Sequence[int],
    kind: str,
    natural: StimulusSet,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[int, Preference]:
    """What each of ``units`` prefers among drawings of one kind: one pass for all, and one for each null network."""
    found = tune(network, site.name, kind, units=list(units), stimuli=natural, seed=seed, progress=progress)
    return {row.unit: preference_in(found, place) for place, row in enumerate(found.rows)}


def preference_in(tuning: Tuning, place: int) -> Preference:
    """One row of a tuning, with its strength as a measurement against all units of the null networks."""
    row = tuning.rows[place]
    pooled = np.array([value for null in tuning.nulls for value in null.statistic if math.isfinite(value)])
    mean, std = (float(pooled.mean()), float(pooled.std())) if len(pooled) else (math.nan, math.nan)
    strength = Measurement(row.strength, null_mean=mean, null_std=std, p=row.p, n=tuning.drawings, seed=tuning.seed)
    nulls = tuple((null.kind, null.seed) for null in tuning.nulls)
    return Preference(row, strength, nulls, tuning.drawings, tuning.canvas_px, tuning.natural_pictures)
