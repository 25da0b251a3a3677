"""How many kinds of input does one feature answer to? Measured in another representation, with intervals and nulls.

    chosen examples -> vectors elsewhere -> kinds (gaps) ─┬─ effective number of modes   null: mixed examples
                                                          ├─ separation (silhouette)     null: mixed examples
                                                          └─ monosemanticity             null: mixed examples

*Mixed examples* are as many examples, of the same levels of activation, of random other units of the site: what a unit
would have if it had no preference of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import Measurement, measure_against_null
from cutaway.features.activity import Activity
from cutaway.features.polysemanticity.choice import EXAMPLES, FEWEST_EXAMPLES, Chosen, choose, mixed_examples
from cutaway.features.polysemanticity.gaps import Partition, count_modes, line_cleanness, principal_axes
from cutaway.features.polysemanticity.likeness import monosemanticity, resampled_scores, scaled
from cutaway.features.polysemanticity.representation import Representation
from cutaway.features.polysemanticity.score import separation

FEWEST_OTHERS = 8
KEPT = 0.8
"""Share of the examples in each subsample, drawn without replacement: copies would make gaps of their own."""


@dataclass(frozen=True, eq=False)
class Mode:
    """One kind: its share of the examples, its share of those above 75 % of the maximum, its members among them all."""

    share: float
    top_share: float
    members: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class FeatureModes:
    """What was found about one feature.

    ``effective`` is 1 / sum of squared shares of the modes: interval from subsamples of 80 % of the examples, null
    mixed examples. ``gap`` is the cleanness of the best cut (1 nothing crosses it, 0 like a continuum along a line);
    its null and p are the continuum's, and ``count`` is 1 unless that p is at most 0.05. ``separation`` (balanced
    silhouette) and ``likeness`` (monosemanticity, vectors centred) have mixed examples as null; ``among_units`` is the
    separation against that of other units' own examples. Without eight other units these have no null.
    """

    address: str
    representation: str
    modes: tuple[Mode, ...]
    effective: Measurement
    gap: Measurement
    separation: Measurement
    likeness: Measurement
    among_units: Measurement | None
    examples: Chosen

    @property
    def count(self) -> int:
        """Number of modes."""
        return len(self.modes)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the members of modes as (row, place) of the activity."""
        pairs = self.examples.pairs
        return {
            "address": self.address,
            "representation": self.representation,
            "examples": len(pairs),
            "modes": [
                {"share": m.share, "top_share": m.top_share, "examples": [list(pairs[i]) for i in m.members]}
                for m in self.modes
            ],
            "effective": self.effective.to_json(),
            "gap": self.gap.to_json(),
            "separation": self.separation.to_json(),
            "monosemanticity": self.likeness.to_json(),
            "among_units": self.among_units and self.among_units.to_json(),
        }


def modes(
    activity: Activity,
    unit: int,
    representation: Representation,
    *,
    others: Sequence[int] | None = None,
    count: int = EXAMPLES,
    draws: int = 99,
    subsamples: int = 100,
    seed: int = 0,
) -> FeatureModes:
    """The kinds of input that ``unit`` answers to; ``others`` (default: all other units of the activity) are its null.

    Raises ``NotTestable`` where it has fewer than 16 examples of different origins, ``BadInput`` for an unknown unit.
    """
    check_units(activity, [unit, *(others or ())])
    chosen = choose(activity, unit, count, seed=seed)
    if len(chosen) < FEWEST_EXAMPLES:
        raise NotTestable(
            f"{activity.site.name}:{unit} is active in {len(chosen)} stimuli of different origins, and modes need "
            f"{FEWEST_EXAMPLES}; show it more stimuli."
        )
    peers = [each for each in (activity.units if others is None else others) if each != unit]
    found = [choice for each in peers if len(choice := choose(activity, each, count, seed=seed)) >= FEWEST_EXAMPLES]
    null = _Null.of(activity, chosen, found, representation, draws, seed)
    vectors = representation.of(chosen.pairs)
    partition = count_modes(vectors)
    values = unit_scale(activity, unit, chosen)
    return FeatureModes(
        f"{activity.site.name}:{unit}",
        representation.what,
        modes_of(partition, chosen),
        null.effective(partition, vectors, subsamples),
        null.gap(partition),
        null.against(silhouette(vectors), [silhouette(each) for each in null.mixed]),
        null.likeness(values, vectors),
        null.among(silhouette(vectors), found, representation),
        chosen,
    )


def check_units(activity: Activity, units: Sequence[int]) -> None:
    """``BadInput`` for a unit whose activity was not collected."""
    for unit in units:
        if unit not in activity.units:
            raise BadInput(
                f"Unit {unit} of {activity.site.name} was asked for; the activity holds {len(activity.units)} units "
                f"({activity.units[0]} to {activity.units[-1]}); collect it first."
            )


def modes_of(partition: Partition, chosen: Chosen) -> tuple[Mode, ...]:
    """The kinds with their members, the largest first."""
    top = chosen.levels == 0
    return tuple(
        Mode(share, float((partition.labels[top] == label).mean()) if top.any() else float("nan"),
             tuple(np.flatnonzero(partition.labels == label).tolist()))
        for label, share in enumerate(partition.shares)
    )  # fmt: skip


def silhouette(vectors: Float[np.ndarray, "example axis"]) -> float:
    """The best balanced silhouette of 2, 3 or 4 Ward clusters on the ten main axes; 0 if all points are the same."""
    axes = principal_axes(vectors)
    return separation(axes)[0] if axes.shape[1] else 0.0


def unit_scale(activity: Activity, unit: int, chosen: Chosen) -> Float[np.ndarray, " example"]:
    """The examples' activations scaled from the unit's least (at least 0) to its greatest value."""
    column = activity.column(unit)
    return scaled(chosen.values, max(0.0, float(activity.lowest[:, column].min())), float(chosen.values.max()))


def subsampled_effective(
    vectors: Float[np.ndarray, "example axis"], count: int, *, seed: int = 0
) -> Float[np.ndarray, " draw"]:
    """The effective number of modes in random subsets of 80 % of the examples."""
    rng = np.random.default_rng(seed)
    kept = max(2, round(KEPT * len(vectors)))
    return np.array([count_modes(vectors[rng.permutation(len(vectors))[:kept]]).effective for _ in range(count)])


@dataclass(frozen=True, eq=False)
class _Null:
    """Vectors of mixed examples, and every statistic of a unit against them."""

    mixed: list[Float[np.ndarray, "example axis"]]
    centre: Float[np.ndarray, " axis"]
    n: int
    seed: int

    @classmethod
    def of(
        cls, activity: Activity, chosen: Chosen, others: list[Chosen], shown: Representation, draws: int, seed: int
    ) -> _Null:
        sets = mixed_sets(activity, chosen, others, shown, draws, seed) if len(others) >= FEWEST_OTHERS else []
        centre = np.mean([each.mean(axis=0) for each in sets or [shown.of(chosen.pairs)]], axis=0)
        return cls(sets, centre, len(chosen), seed)

    def against(self, value: float, null: Sequence[float], bootstrap: Any = None) -> Measurement:
        if len(null) < 2:
            low, high = (float("nan"),) * 2 if bootstrap is None else np.quantile(bootstrap, (0.025, 0.975))
            return Measurement(value, float(low), float(high), n=self.n, seed=self.seed)
        options = {"n": self.n, "alternative": "greater", "seed": self.seed}
        return measure_against_null(value, null, bootstrap=bootstrap, **options)

    def effective(
        self, partition: Partition, vectors: Float[np.ndarray, "example axis"], subsamples: int
    ) -> Measurement:
        drawn = subsampled_effective(vectors, subsamples, seed=self.seed) if subsamples else None
        return self.against(partition.effective, [count_modes(each).effective for each in self.mixed], drawn)

    def gap(self, partition: Partition) -> Measurement:
        line = line_cleanness(self.n)
        return Measurement(
            partition.cleanness, null_mean=float(line.mean()), null_std=float(line.std(ddof=1)), p=partition.p,
            n=self.n, seed=self.seed,
        )  # fmt: skip

    def likeness(self, values: np.ndarray, vectors: np.ndarray) -> Measurement:
        centred = vectors - self.centre
        value = float(monosemanticity(values, centred))
        null = [float(monosemanticity(values, each - self.centre)) for each in self.mixed]
        return self.against(value, null, resampled_scores(values, centred, seed=self.seed))

    def among(self, value: float, others: list[Chosen], shown: Representation) -> Measurement | None:
        same = [each for each in others if len(each) == self.n]
        if len(same) < FEWEST_OTHERS:
            return None
        return self.against(value, [silhouette(shown.of(each.pairs)) for each in same])


def mixed_sets(
    activity: Activity, chosen: Chosen, others: list[Chosen], shown: Representation, draws: int, seed: int
) -> list[Float[np.ndarray, "example axis"]]:
    """The vectors of ``draws`` sets of mixed examples; fewer where origins run out."""
    rng = np.random.default_rng([seed, len(chosen)])
    origins = activity.entities
    drawn = [mixed_examples(chosen, others, origins, rng) for _ in range(draws)]
    return [shown.of(pairs) for pairs in drawn if pairs is not None]
