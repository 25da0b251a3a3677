"""What labels are made from and scored on: two halves of the stimuli that share no origin.

A *case* is one position of one stimulus as a reader sees it, never its activation. Positive cases are positions at
which the feature is above a quarter of its maximum; negative ones are of two kinds, scored apart: positions at which it
is silent, and positions at which *other* features of the site fire and it is silent (a label that fits every feature
passes the first and fails the second).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cutaway.errors import BadInput, NotTestable
from cutaway.features.activity import Activity
from cutaway.features.examples import token_text
from cutaway.networks.network import Network

FIRES, SILENT_BELOW = 0.25, 0.05
FEWEST_POSITIVE = 5


@dataclass(frozen=True)
class Case:
    """A position of a stimulus: row and place in the activity; for texts the tokens, and which one is meant."""

    row: int
    place: int
    origin: str
    tokens: tuple[str, ...] = ()
    at: int | None = None

    @property
    def token(self) -> str:
        """The token at the position; empty where there are no tokens."""
        return "" if self.at is None else self.tokens[self.at]

    @property
    def next_token(self) -> str | None:
        """The token after it; None at the end, or without tokens."""
        return None if self.at is None or self.at + 1 >= len(self.tokens) else self.tokens[self.at + 1]


@dataclass(frozen=True)
class Cases:
    """Cases at which a feature fires, at which it is silent, and at which only other features fire."""

    fires: tuple[Case, ...]
    silent: tuple[Case, ...]
    others: tuple[Case, ...]


def halves(activity: Activity, *, seed: int = 0) -> tuple[Activity, Activity]:
    """The activity on two halves of the origins: to make labels from, and to score them on."""
    origins = sorted(set(activity.entities))
    if len(origins) < 4:
        raise NotTestable(
            f"Labels are scored on held-out stimuli, and there are {len(origins)} origins; show 4 or more."
        )
    shuffled = np.random.default_rng(seed).permutation(origins)
    chosen = set(shuffled[: len(origins) // 2].tolist())
    sides = [
        {s.id for s, origin in zip(activity.stimuli, activity.entities) if (origin in chosen) == first}
        for first in (True, False)
    ]
    return activity.restricted(sides[0]), activity.restricted(sides[1])


def cases_of(
    network: Network,
    activity: Activity,
    unit: int,
    *,
    highest: float | int | None = None,
    others: Sequence[int] | None = None,
    count: int = 24,
    seed: int = 0,
) -> Cases:
    """At most ``count`` cases of each kind, one of each origin as far as that goes, drawn at random.

    ``highest`` is the maximum that shares are taken of (that of the half from which labels are made); without it the
    activity's own. Raises ``NotTestable`` with fewer than five positions at which the feature fires.
    """
    if unit not in activity.units:
        raise BadInput(
            f"Unit {unit} of {activity.site.name} was not collected; the activity holds {activity.units[:8]} ..."
        )
    column = activity.column(unit)
    top = float(activity.highest[:, column].max() if highest is None else highest)
    values = activity.values[:, :, column]
    rng = np.random.default_rng([seed, unit])
    quiet = values <= SILENT_BELOW * top
    loud = np.zeros(values.shape, dtype=bool)
    for other in (each for each in (activity.units if others is None else others) if each != unit):
        theirs = activity.column(other)
        peak = float(activity.highest[:, theirs].max())
        loud |= (activity.values[:, :, theirs] > FIRES * peak) if peak > 0 else False
    texts = _Texts(network, activity)
    drawn = [_spread(mask, activity, count, rng) for mask in (values > FIRES * top, quiet, quiet & loud)]
    found = Cases(*(tuple(texts.case(row, sample) for row, sample in each) for each in drawn))
    if top <= 0 or len(found.fires) < FEWEST_POSITIVE:
        raise NotTestable(
            f"{activity.site.name}:{unit} fires at {len(found.fires)} of the positions shown, and a label needs "
            f"{FEWEST_POSITIVE}; show it more stimuli."
        )
    return found


def _spread(mask: np.ndarray, activity: Activity, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Random places of the mask: one of every origin, then a second one, until there are ``count``."""
    waiting: dict[str, list[tuple[int, int]]] = {}
    origins = activity.entities
    for row, sample in rng.permutation(np.argwhere(mask)).tolist():
        queue = waiting.setdefault(origins[row], [])
        if len(queue) < count:
            queue.append((row, sample))
    rounds = max((len(queue) for queue in waiting.values()), default=0)
    return [queue[turn] for turn in range(rounds) for queue in waiting.values() if turn < len(queue)][:count]


class _Texts:
    def __init__(self, network: Network, activity: Activity) -> None:
        self._network, self._activity = network, activity
        self._known: dict[int, tuple[str, ...]] = {}

    def case(self, row: int, sample: int) -> Case:
        activity = self._activity
        place = int(activity.places[row, sample])
        origin = activity.entities[row]
        if not (activity.tokens and activity.grid_axes == 1):
            return Case(row, place, origin)
        if row not in self._known:
            self._known[row] = tuple(token_text(self._network, token) for token in activity.tokens[row])
        return Case(row, place, origin, self._known[row], activity.position(place)[0])
