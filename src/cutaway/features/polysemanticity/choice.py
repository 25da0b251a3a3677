"""Which examples of a feature are compared: of every level down to a quarter of its maximum, strong ones most."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from cutaway.errors import BadInput
from cutaway.features.activity import Activity

EXAMPLES, FEWEST_EXAMPLES = 80, 16
LEVELS = ("75-100 %", "50-75 %", "25-50 %")
LEAST_LEVEL = 0.25


@dataclass(frozen=True, eq=False)
class Chosen:
    """Positions at which a unit is active: rows of the activity, place codes, activations, index in :data:`LEVELS`."""

    rows: Int[np.ndarray, " example"]
    places: Int[np.ndarray, " example"]
    values: Float[np.ndarray, " example"]
    levels: Int[np.ndarray, " example"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(row, place) of every example."""
        return list(zip(self.rows.tolist(), self.places.tolist()))


def choose(activity: Activity, unit: int, count: int = EXAMPLES, *, seed: int = 0) -> Chosen:
    """At most ``count`` examples of a unit, one of each origin, so that they are independent of each other.

    Stimuli, and in each of them a position, are drawn at random with a chance that grows with the square of the
    activation, among positions above a quarter of the unit's maximum. Strong examples come first and weak ones are
    there too, without a jump between them: taking the strongest and some of every interval below would leave gaps along
    the activation that look like separate kinds.
    """
    if count < FEWEST_EXAMPLES:
        raise BadInput(f"{count} examples were asked for; modes need {FEWEST_EXAMPLES} at least.")
    column, rng = activity.column(unit), np.random.default_rng([seed, unit])
    highest = max(float(activity.highest[:, column].max()), 0.0)
    weights = _chances(activity, column, LEAST_LEVEL * highest)
    rows, samples = _drawn(weights, activity.entities, count, rng)
    inside = samples < activity.values.shape[1]  # the last column is the exact maximum
    kept = np.where(inside, samples, 0)
    values = np.where(inside, activity.values[rows, kept, column], activity.highest[rows, column])
    places = np.where(inside, activity.places[rows, kept], activity.highest_place[rows, column])
    order = np.argsort(-values, kind="stable")
    values = values[order].astype(float)
    levels = np.searchsorted([-0.75, -0.5], -values / highest if len(values) else values)
    return Chosen(rows[order], places[order].astype(int), values, levels)


def _chances(activity: Activity, column: int, least: float) -> Float[np.ndarray, "stimulus sample"]:
    """The square of every sampled activation above ``least``, and of each stimulus's exact maximum."""
    values = np.concatenate([activity.values[:, :, column], activity.highest[:, column, None]], axis=1)
    return np.square(np.where(values > least, values, 0.0))


def _drawn(
    weights: Float[np.ndarray, "stimulus sample"], origins: list[str], count: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " example"], Int[np.ndarray, " example"]]:
    """Stimuli without replacement, by their largest weight (Efraimidis and Spirakis 2006); one sample of each."""
    largest = weights.max(axis=1)
    keys = np.log(rng.random(len(largest))) / np.maximum(largest / max(float(largest.max()), 1e-300), 1e-300)
    rows: list[int] = []
    used = set[str]()
    for row in np.argsort(-keys, kind="stable").tolist():
        if len(rows) < count and largest[row] > 0 and origins[row] not in used:
            used.add(origins[row])
            rows.append(row)
    totals = np.cumsum(weights[rows], axis=1)
    ends = totals[:, -1:] * rng.random((len(rows), 1))
    return np.array(rows, dtype=int), (totals <= ends).sum(axis=1)


def mixed_examples(
    chosen: Chosen, others: Sequence[Chosen], origins: Sequence[str], rng: np.random.Generator
) -> list[tuple[int, int]] | None:
    """As many (row, place) pairs, each an example of the same level of a random other unit, of different origins.

    The activation-matched null of "these examples belong together": every one of them excites some unit as much.
    Where a level has no example of a new origin left, one of another level stands in; None if there is none at all.
    """
    pool = [(level, pair) for other in others for level, pair in zip(other.levels.tolist(), other.pairs)]
    order = [pool[index] for index in rng.permutation(len(pool)).tolist()]
    used, drawn = set[str](), []
    for level, needed in zip(*np.unique(chosen.levels, return_counts=True)):
        drawn += _draw((pair for kind, pair in order if kind == level), origins, used, int(needed))
    drawn += _draw((pair for _, pair in order), origins, used, len(chosen) - len(drawn))
    return drawn if len(drawn) == len(chosen) else None


def _draw(
    pairs: Iterator[tuple[int, int]], origins: Sequence[str], used: set[str], count: int
) -> list[tuple[int, int]]:
    drawn = []
    for row, place in pairs:
        if len(drawn) == count:
            break
        if origins[row] not in used:
            used.add(origins[row])
            drawn.append((row, place))
    return drawn


def in_directions(
    activity: Activity, directions: Float[np.ndarray, "direction unit"], name: str = "directions"
) -> Activity:
    """The activity along directions of the site instead of its units: random ones, principal axes, a dictionary's.

    ``directions`` count along ``activity.units``. Extremes are those over the sampled positions (all positions, where
    a stimulus has no more than 1,024). Its units are 0, 1, ...; its site is called ``SITE@NAME``.
    """
    if directions.shape[1] != len(activity.units):
        raise BadInput(
            f"Directions of {directions.shape[1]} units were given, and the activity holds {len(activity.units)}; "
            "collect the units that the directions are made of."
        )
    values = activity.values @ directions.T
    least, most = np.nan_to_num(values, nan=np.inf), np.nan_to_num(values, nan=-np.inf)
    low, high = least.argmin(axis=1), most.argmax(axis=1)
    site = dataclasses.replace(activity.site, name=f"{activity.site.name}@{name}", width=len(directions), heads=None)
    return dataclasses.replace(
        activity, site=site, units=tuple(range(len(directions))), values=values,
        highest=most.max(axis=1), highest_place=np.take_along_axis(activity.places, high, axis=1),
        lowest=least.min(axis=1), lowest_place=np.take_along_axis(activity.places, low, axis=1),
        mean=torch.from_numpy(np.nanmean(values, axis=(0, 1))),
    )  # fmt: skip
