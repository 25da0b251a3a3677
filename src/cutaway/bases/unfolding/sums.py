"""Sums by entity: what intervals over documents or pictures need, however many rows these have."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from cutaway.evidence import Measurement

RESAMPLES = 1000


@dataclass
class Sums:
    """Named sums of rows for each entity (a document, a photograph), which stimuli are added to one by one.

    Memory: one number for each name and entity.
    """

    names: tuple[str, ...]
    _rows: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, entity: str, *values: float | int) -> None:
        """Adds one number to each sum of an entity, in the order of ``names``."""
        row = self._rows.setdefault(entity, np.zeros(len(self.names)))
        row += np.asarray(values, dtype=np.float64)

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, name: str) -> Float[np.ndarray, " entity"]:
        """One sum of every entity, in order of first appearance."""
        column = self.names.index(name)
        return np.array([row[column] for row in self._rows.values()])

    def total(self, name: str) -> float:
        """One sum over all entities."""
        return float(self.of(name).sum())

    def same_entities(self, other: Sums) -> bool:
        """True if both count the same entities in the same order, so that they can be resampled together."""
        return list(self._rows) == list(other._rows)


def ratio(sums: Sums, above: str, below: str, *, seed: int = 0) -> Measurement:
    """sum(above) / sum(below) over all rows, with a bootstrap interval over entities (BCa); n = entities."""
    return statistic(lambda a, b: a / b, sums.of(above), sums.of(below), seed=seed)


def statistic(
    function: Callable[..., Any],
    *columns: Float[np.ndarray, " entity"],
    value: float | None = None,
    seed: int = 0,
) -> Measurement:
    """Any elementwise function of columns' totals, entities resampled; NaN ends where resamples leave it undefined.

    ``value``: the statistic itself, where another function computes it.
    """
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # equal resamples are handled below
        found = float(function(*(column.sum() for column in columns))) if value is None else value
        low, high = _interval(function, columns, seed)
    return Measurement(found, low, high, n=len(columns[0]), seed=seed)


def _interval(function: Callable[..., Any], columns: Sequence[np.ndarray], seed: int) -> tuple[float, float]:
    """As :func:`cutaway.evidence.bootstrap_interval`, all resamples at once: statistics of totals allow it."""
    count = len(columns[0])
    if count < 2:
        return math.nan, math.nan

    def of_entities(drawn: Any, axis: int) -> Any:
        places = np.asarray(drawn, dtype=int)
        return function(*(column[places].sum(axis=axis) for column in columns))

    result = stats.bootstrap(
        (np.arange(count),), of_entities, vectorized=True, n_resamples=RESAMPLES, method="BCa",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    if np.isnan(result.confidence_interval.low) and np.ptp(result.bootstrap_distribution) == 0:
        return float(result.bootstrap_distribution[0]), float(result.bootstrap_distribution[0])
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
