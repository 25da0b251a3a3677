"""Which stimuli to show on a card: not only the strongest ones, but some of every level of activation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from cutaway.features.activity import Activity
from cutaway.features.card import INTERVALS, NEGATIVE, TOP, Example
from cutaway.features.pictures import Pictures, png
from cutaway.networks.network import Network

PER_ORIGIN = 2
"""Examples of one level that may come from the same photograph or document."""
CONTEXT = 12
"""Tokens shown on each side of a text's highlighted token."""


@dataclass(frozen=True)
class Counts:
    """How many examples a card shows: the strongest, in each interval below, and the most negative."""

    top: int = 12
    interval: int = 6
    negative: int = 6


@dataclass(frozen=True)
class Pick:
    """A chosen position: which stimulus (row of the activity), which place, which value, of which level."""

    level: str
    row: int
    place: int
    value: float


def pick(activity: Activity, unit: int, counts: Counts, *, seed: int = 0) -> list[Pick]:
    """Positions to show: the strongest stimuli, a random sample of every interval of the unit's maximum, the lowest.

    A stimulus occurs once in each level, and its origin (a photograph that several stimuli are crops of) at most
    twice. Intervals are shares of the largest activation over all stimuli.
    """
    column = activity.column(unit)
    top = top_picks(activity, unit, counts.top)
    taken = {(each.row, each.place) for each in top}
    highest = float(activity.highest[:, column].max())
    rng = np.random.default_rng([seed, unit])
    picks = list(top)
    for name, low, high in INTERVALS if highest > 0 else ():
        picks += _interval(activity, column, (name, low * highest, high * highest), counts.interval, taken, rng)
    return picks + _lowest(activity, column, counts.negative)


def top_picks(activity: Activity, unit: int, count: int, *, per_origin: int = PER_ORIGIN) -> list[Pick]:
    """The strongest position of each of the ``count`` stimuli on which the unit is strongest (and above zero).

    At most ``per_origin`` of them have the same origin.
    """
    column = activity.column(unit)
    values, places = activity.highest[:, column], activity.highest_place[:, column]
    order = [int(row) for row in np.argsort(-values, kind="stable") if values[row] > 0]
    return [Pick(TOP, row, int(places[row]), float(values[row])) for row in limited(activity, order, count, per_origin)]


def limited(activity: Activity, rows: Sequence[int], count: int, per_origin: int) -> list[int]:
    """The first ``count`` of ``rows`` of which no more than ``per_origin`` have the same origin."""
    origins, used, kept = activity.entities, Counter[str](), []
    for row in rows:
        if used[origins[row]] < per_origin and len(kept) < count:
            used[origins[row]] += 1
            kept.append(row)
    return kept


def _lowest(activity: Activity, column: int, count: int) -> list[Pick]:
    values, places = activity.lowest[:, column], activity.lowest_place[:, column]
    order = [int(row) for row in np.argsort(values, kind="stable") if values[row] < 0]
    rows = limited(activity, order, count, PER_ORIGIN)
    return [Pick(NEGATIVE, row, int(places[row]), float(values[row])) for row in rows]


def _interval(
    activity: Activity,
    column: int,
    level: tuple[str, float, float],
    count: int,
    taken: set[tuple[int, int]],
    rng: np.random.Generator,
) -> list[Pick]:
    """One random sampled position each of at most ``count`` random stimuli that have one in the interval."""
    name, low, high = level
    values = activity.values[:, :, column]
    inside = (values > low) & (values <= high)
    picks: list[Pick] = []
    free = {int(row): _free(activity, int(row), inside[row], taken) for row in np.flatnonzero(inside.any(axis=1))}
    order = [int(row) for row in rng.permutation([row for row, samples in free.items() if len(samples)])]
    for row in limited(activity, order, count, PER_ORIGIN):
        chosen = int(rng.choice(free[row]))
        picks.append(Pick(name, row, int(activity.places[row, chosen]), float(values[row, chosen])))
    return sorted(picks, key=lambda each: -each.value)


def _free(activity: Activity, row: int, inside: Bool[np.ndarray, " sample"], taken: set[tuple[int, int]]) -> np.ndarray:
    places = activity.places[row]
    return np.array([s for s in np.flatnonzero(inside) if (row, int(places[s])) not in taken], dtype=int)


def show(
    network: Network, activity: Activity, unit: int, picks: Sequence[Pick], pictures: Pictures | None
) -> tuple[Example, ...]:
    """The picks as a reader sees them: with crops for pictures, with tokens in context for texts."""
    return tuple(_example(network, activity, unit, each, pictures) for each in picks)


def _example(network: Network, activity: Activity, unit: int, chosen: Pick, pictures: Pictures | None) -> Example:
    stimulus = activity.stimuli[chosen.row]
    position = activity.position(chosen.place)
    common: dict[str, Any] = {
        "stimulus": stimulus.id, "source": stimulus.source, "value": chosen.value, "level": chosen.level,
        "position": position,
    }  # fmt: skip
    if pictures is not None:
        return Example(**common, crop=png(pictures.crop(chosen.row, position)))
    if activity.tokens and position:
        return Example(**common, **_in_context(network, activity, unit, chosen.row, position[0]))
    return Example(**common)


def _in_context(network: Network, activity: Activity, unit: int, row: int, position: int) -> dict[str, Any]:
    ids = activity.tokens[row]
    start, end = max(0, position - CONTEXT), min(len(ids), position + CONTEXT + 1)
    by_place = dict(zip(activity.places[row].tolist(), activity.values[row, :, activity.column(unit)].tolist()))
    return {
        "tokens": tuple(token_text(network, token) for token in ids[start:end]),
        "activations": tuple(by_place.get(place, float("nan")) for place in range(start, end)),
        "highlight": position - start,
    }


def token_text(network: Network, token: int) -> str:
    """A token as a reader knows it; its number where there is no tokenizer or it is part of a character."""
    if network.tokenizer is None:
        return f"<{token}>"
    text = network.tokenizer.decode([token])
    if "\ufffd" in text or not text:
        text = str(network.tokenizer.convert_ids_to_tokens(token))
    return text
