"""A whole layer at once: modes, separation and likeness of every unit, cheap enough to compare layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import Interval, Measurement, benjamini_hochberg, bootstrap_interval, permutation_p
from cutaway.evidence import proportion_interval as wilson
from cutaway.features.activity import Activity
from cutaway.features.polysemanticity.choice import EXAMPLES, FEWEST_EXAMPLES, Chosen, choose
from cutaway.features.polysemanticity.gaps import count_modes
from cutaway.features.polysemanticity.likeness import monosemanticity
from cutaway.features.polysemanticity.modes import FEWEST_OTHERS, check_units, mixed_sets, silhouette, unit_scale
from cutaway.features.polysemanticity.representation import Representation

SHUFFLES = 1999
ROUNDED = 8
"""The null is drawn for numbers of examples rounded up to this, so that a layer shares a few of them."""
Column = Float[np.ndarray, " unit"]


@dataclass(frozen=True, eq=False)
class LayerModes:
    """One row for each unit; NaN (``modes``: 0) where a unit has too few examples.

    ``gap_p`` tests more than one mode against a continuum, ``q`` is the same corrected over units
    (Benjamini-Hochberg). ``separation_z`` (balanced silhouette) and ``likeness_z`` (monosemanticity) are distances, in
    standard deviations, from as many mixed examples: those of random other units of the activity, of the levels that
    its units have on average. ``score`` is the one number per unit that layers are compared by: the cleanness of its
    best cut, 1 for a gap, 0 for a continuum along a line, negative for one cloud.
    """

    site: str
    representation: str
    units: tuple[int, ...]
    examples: Int[np.ndarray, " unit"]
    modes: Int[np.ndarray, " unit"]
    effective: Column
    cleanness: Column
    gap_p: Column
    separation: Column
    separation_z: Column
    likeness: Column
    likeness_z: Column
    seed: int = 0

    @property
    def q(self) -> Column:
        """:attr:`gap_p` corrected over units."""
        return benjamini_hochberg(self.gap_p)

    @property
    def score(self) -> Column:
        """:attr:`cleanness`: higher is more polysemantic."""
        return self.cleanness

    @property
    def tested(self) -> Bool[np.ndarray, " unit"]:
        """Units with enough examples."""
        return self.modes > 0

    @property
    def polysemantic(self) -> Measurement:
        """Share of the tested units with more than one mode at q <= 0.05, Wilson's interval; null: none has."""
        n = int(self.tested.sum())
        if n == 0:
            return Measurement(float("nan"), n=0, seed=self.seed)
        count = int((self.q[self.tested] <= 0.05).sum())
        return Measurement(count / n, *wilson(count, n), null_mean=0.0, n=n, seed=self.seed)

    def median(self, column: str = "score") -> Measurement:
        """The median over tested units of a column, with a bootstrap interval over units."""
        values = self.values(column)
        found = Interval(np.nan, np.nan)
        if len(values) > 1:
            found = bootstrap_interval(lambda drawn: float(np.median(drawn)), values, method="percentile",
                                       seed=self.seed)  # fmt: skip
        value = float(np.median(values)) if len(values) else float("nan")
        return Measurement(value, found.low, found.high, n=len(values), seed=self.seed)

    def values(self, column: str) -> Column:
        """A column without the units that were not tested."""
        found = np.asarray(getattr(self, column), dtype=float)
        return found[self.tested & np.isfinite(found)]

    def to_json(self) -> dict[str, Any]:
        """Plain values: the summary, and a row for each unit."""
        columns = ("effective", "cleanness", "gap_p", "q", "separation", "separation_z", "likeness", "likeness_z")
        values = {name: getattr(self, name).tolist() for name in columns}
        counts = {"examples": self.examples.tolist(), "modes": self.modes.tolist()}
        rows = [
            {"unit": unit} | {name: counts[name][row] for name in counts}
            | {name: None if np.isnan(values[name][row]) else values[name][row] for name in columns}
            for row, unit in enumerate(self.units)
        ]  # fmt: skip
        return {
            "site": self.site, "representation": self.representation, "seed": self.seed,
            "polysemantic": self.polysemantic.to_json(), "median": self.median().to_json(),
            "effective": self.median("effective").to_json(), "units": rows,
        }  # fmt: skip


def measure_layer(
    activity: Activity,
    representation: Representation,
    *,
    units: Sequence[int] | None = None,
    count: int = EXAMPLES,
    draws: int = 99,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> LayerModes:
    """:class:`LayerModes` of ``units`` (default: all of the activity); the activity's other units are the null.

    At most ``count`` examples of each are looked up in the representation: the costly part where that is a network.
    """
    shown = tuple(activity.units if units is None else units)
    check_units(activity, shown)
    chosen = {unit: choose(activity, unit, count, seed=seed) for unit in activity.units}
    usable = [found for found in chosen.values() if len(found) >= FEWEST_EXAMPLES]
    null = _SharedNull(activity, usable, representation, draws, seed)
    rows = np.full((len(shown), 7), np.nan)
    counts = np.zeros(len(shown), dtype=int)
    for row, unit in enumerate(shown):
        if len(chosen[unit]) >= FEWEST_EXAMPLES:
            counts[row], rows[row] = null.of(unit, chosen[unit])
        if progress is not None:
            progress(row + 1, len(shown), f"kinds of examples at {activity.site.name}")
    sizes = np.array([len(chosen[unit]) for unit in shown])
    return LayerModes(activity.site.name, representation.what, shown, sizes, counts, *rows.T, seed=seed)


class _SharedNull:
    """Mixed examples, drawn once for each number of examples, and the statistics of units against them."""

    def __init__(self, activity: Activity, usable: list[Chosen], shown: Representation, draws: int, seed: int) -> None:
        self._activity, self._usable, self._shown = activity, usable, shown
        self._draws, self._seed = draws, seed
        self._sets: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._levels = np.sort(np.concatenate([found.levels for found in usable])) if usable else np.empty(0)
        pairs = list(dict.fromkeys(pair for found in usable for pair in found.pairs))
        self._centre = shown.of(pairs).mean(axis=0) if pairs else 0.0

    def of(self, unit: int, chosen: Chosen) -> tuple[int, Float[np.ndarray, " statistic"]]:
        vectors = self._shown.of(chosen.pairs)
        partition = count_modes(vectors)
        values = unit_scale(self._activity, unit, chosen)
        apart, alike = silhouette(vectors), float(monosemanticity(values, vectors - self._centre))
        sets, silhouettes = self._mixed(len(chosen))
        # Where sizes were rounded, the strongest examples are compared with as many: the others hardly weigh.
        few = min(len(values), sets.shape[1])
        values = np.broadcast_to(values[:few], (len(sets), few))
        likeness = monosemanticity(values, sets[:, :few]) if len(sets) else np.empty(0)
        found = (
            partition.effective, partition.cleanness, partition.p,
            apart, standardised(apart, silhouettes), alike, standardised(alike, likeness),
        )  # fmt: skip
        return partition.modes, np.array(found)

    def _mixed(self, count: int) -> tuple[Float[np.ndarray, "draw example axis"], Float[np.ndarray, " draw"]]:
        size = -(-count // ROUNDED) * ROUNDED
        if size not in self._sets:
            enough = len(self._usable) >= FEWEST_OTHERS
            arguments = (self._activity, self._typical(size), self._usable, self._shown, self._draws, self._seed)
            sets = mixed_sets(*arguments) if enough else []
            vectors = np.stack(sets) - self._centre if sets else np.empty((0, 0, 0))
            self._sets[size] = vectors, np.array([silhouette(each) for each in sets])
        return self._sets[size]

    def _typical(self, size: int) -> Chosen:
        """Nobody's examples, of the levels that units have on average."""
        levels = self._levels[np.linspace(0, len(self._levels) - 1, size).round().astype(int)]
        nothing = np.zeros(size, dtype=int)
        return Chosen(nothing, nothing, np.zeros(size), levels)


def standardised(value: float, null: Float[np.ndarray, " draw"]) -> float:
    """(value - mean) / standard deviation of the null; NaN with fewer than two draws or a constant null."""
    if len(null) < 2 or float(null.std()) == 0:
        return float("nan")
    return (value - float(null.mean())) / float(null.std(ddof=1))


def compare_layers(first: LayerModes, second: LayerModes, *, column: str = "score", seed: int = 0) -> Measurement:
    """Median of the second minus that of the first; below zero the second is less polysemantic.

    Null: units exchange layers (they are not paired); two-sided p. Raises ``BadInput`` for different representations,
    ``NotTestable`` where a side has fewer than two tested units.
    """
    if first.representation != second.representation:
        raise BadInput(
            f"{first.site} was judged in {first.representation} and {second.site} in {second.representation}; judge "
            "both in one representation."
        )
    a, b = first.values(column), second.values(column)
    if min(len(a), len(b)) < 2:
        raise NotTestable(f"{len(a)} and {len(b)} units were tested; a comparison needs two on each side at least.")
    rng = np.random.default_rng(seed)
    pool = rng.permuted(np.tile(np.concatenate([a, b]), (SHUFFLES, 1)), axis=1)
    null = np.median(pool[:, len(a) :], axis=1) - np.median(pool[:, : len(a)], axis=1)
    value = float(np.median(b) - np.median(a))
    resampled = [np.median(rng.choice(side, (SHUFFLES, len(side))), axis=1) for side in (a, b)]
    low, high = np.quantile(resampled[1] - resampled[0], (0.025, 0.975))
    p = permutation_p(value, null)
    return Measurement(
        value, float(low), float(high), float(null.mean()), float(null.std(ddof=1)), p, len(a) + len(b), seed
    )
