"""Corrections for having asked more than one question.

NaN means "not tested": it stays NaN, and counts as no test.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import false_discovery_control

from cutaway.errors import BadInput


def benjamini_hochberg(p: Any) -> Float[np.ndarray, "..."]:
    """Adjusted p-values (q): rejecting q <= a keeps the expected share of false discoveries at or below a.

    Any shape in, same shape out (for example layers x concepts). Valid for independent or positively
    dependent tests (Benjamini and Hochberg 1995; Benjamini and Yekutieli 2001).
    """
    return _adjust(p, lambda tested: np.asarray(false_discovery_control(tested, method="bh")))


def holm(p: Any) -> Float[np.ndarray, "..."]:
    """Adjusted p-values: rejecting those <= a keeps the chance of any false claim at or below a (Holm 1979).

    Any shape in, same shape out; no assumption on dependence.
    """
    return _adjust(p, _holm)


def _holm(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Step-down by hand: statsmodels' multipletests gives the same numbers, 300 times slower (a test compares)."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def _adjust(p: Any, correct: Any) -> Float[np.ndarray, "..."]:
    values = np.asarray(p, dtype=np.float64)
    tested = ~np.isnan(values)
    if ((values[tested] < 0) | (values[tested] > 1)).any():
        raise BadInput(f"p-values must lie in [0, 1], found {values[tested].min():.3g} to {values[tested].max():.3g}.")
    adjusted = np.full(values.shape, np.nan)
    if tested.any():
        adjusted[tested] = correct(values[tested])
    return adjusted
