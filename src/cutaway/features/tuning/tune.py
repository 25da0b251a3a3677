"""Tuning a site: show drawings to all of its units at once, and to null networks as often."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cutaway.errors import BadInput
from cutaway.evidence import permutation_p_units, shuffled_weights, untrained_twin
from cutaway.features.tuning.criteria import CurveCriterion, FamilyTiling, tiling
from cutaway.features.tuning.responses import NaturalScale, View, natural_scale, respond, view_of
from cutaway.features.tuning.summaries import UnitTuning, summarise
from cutaway.networks.network import Network
from cutaway.stimuli import StimulusSet
from cutaway.stimuli.drawings import Drawings, drawings, lines

Progress = Callable[[int, int, str], None]


def _silent(_done: int, _total: int, _what: str) -> None:
    pass


@dataclass(frozen=True)
class NullTuning:
    """The same question asked of a network in which the answer means nothing: its kind, seed, units that passed."""

    kind: str  # "untrained twin" or "shuffled weights"
    seed: int
    passing: int
    statistic: tuple[float, ...]  # of every unit: coherence, or the peak where nothing turns


@dataclass(frozen=True)
class Tuning:
    """How the units of a site answer to one kind of drawing, with the same from null networks."""

    network: str
    fingerprint: str
    site: str
    kind: str
    canvas_px: int
    drawings: int
    natural_pictures: int
    rows: tuple[UnitTuning, ...]
    nulls: tuple[NullTuning, ...]
    family: FamilyTiling | None
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Everything but the nulls' single units, as JSON values."""
        return {
            "site": self.site,
            "kind": self.kind,
            "canvas_px": self.canvas_px,
            "drawings": self.drawings,
            "natural_pictures": self.natural_pictures,
            "units": [row.to_json() for row in self.rows],
            "nulls": [{"kind": n.kind, "seed": n.seed, "passing": n.passing} for n in self.nulls],
            "family": None if self.family is None else {"units": self.family.units, "gap_deg": self.family.gap_deg},
            "seed": self.seed,
        }


def tune(
    network: Network,
    site: str,
    kind: str = "curves",
    *,
    units: Sequence[int] | None = None,
    nulls: int = 1,
    stimuli: StimulusSet | None = None,
    shown: Drawings | None = None,
    seed: int = 0,
    progress: Progress = _silent,
) -> Tuning:
    """What every unit of a feature map prefers among drawings of one kind, and whether null networks prefer as much.

    ``nulls`` seeds of two null networks each are asked the same: an untrained twin and one with shuffled weights. p is
    the share of all their units (with +1) whose coherence (peak in natural sigma, for drawings that do not turn) is at
    least the unit's. ``stimuli`` are the natural pictures that set the scale; ``shown`` replaces the default drawings.
    ``units`` selects rows of the result; nulls always have all units. Raises ``NotTestable`` for a site that is no
    feature map, ``BadInput`` for an unknown unit, ``UnknownName`` for an unknown kind.
    """
    view = view_of(network, site)
    width = network.site(site).width or 0
    wrong = [unit for unit in units or () if not 0 <= unit < width]
    if wrong:
        raise BadInput(f"Unit {wrong[0]} of {site} was asked for; it has units 0 to {width - 1}.")
    chosen = shown if shown is not None else drawings(kind, view.canvas.size)
    worlds = [(name, number) for number in range(nulls) for name in _NULLS]
    progress(0, 1 + len(worlds), f"{len(chosen)} drawings to {network.name}")
    scale = natural_scale(network, site, stimuli, seed=seed)
    rows = _rows(network, site, view, chosen, scale)
    found = []
    for index, (name, number) in enumerate(worlds):
        progress(1 + index, 1 + len(worlds), f"the same to the {name}, seed {seed + number}")
        world = _NULLS[name](network, seed + number)
        null = _rows(world, site, view, chosen, natural_scale(world, site, stimuli, seed=seed))
        found.append(
            NullTuning(name, seed + number, sum(bool(row.passes) for row in null), tuple(row.strength for row in null))
        )
    rows = _with_p(rows, found)
    return Tuning(
        network.name, network.fingerprint, site, chosen.kind, view.canvas.size, len(chosen),
        scale.pictures, rows if units is None else tuple(rows[unit] for unit in units),
        tuple(found), tiling(rows, chosen.period) if chosen.kind == "curves" else None, seed,
    )  # fmt: skip


_NULLS: dict[str, Callable[[Network, int], Network]] = {
    "untrained twin": lambda network, seed: untrained_twin(network, seed=seed),
    "shuffled weights": lambda network, seed: shuffled_weights(network, seed=seed),
}


def _rows(network: Network, site: str, view: View, chosen: Drawings, scale: NaturalScale) -> tuple[UnitTuning, ...]:
    """One network's units, summarised and judged."""
    straight = lines(view.canvas.size) if chosen.kind in ("curves", "corners") else None
    values = respond(network, site, [chosen, straight] if straight is not None else chosen, view)
    sigma = scale.sigma(values)
    rows = summarise(chosen, sigma[:, : len(chosen)], sigma[:, len(chosen) :] if straight is not None else None)
    if chosen.kind != "curves":
        return rows
    criterion = CurveCriterion()
    return tuple(replace(row, passes=criterion.passes(row)) for row in rows)


def _with_p(rows: tuple[UnitTuning, ...], nulls: Sequence[NullTuning]) -> tuple[UnitTuning, ...]:
    if not nulls:
        return rows
    pooled = np.concatenate([null.statistic for null in nulls])
    observed = np.array([row.strength for row in rows])
    null = np.broadcast_to(pooled[:, None], (len(pooled), len(observed)))
    p = permutation_p_units(observed, null, alternative="greater")
    return tuple(replace(row, p=float(value)) for row, value in zip(rows, p))
