"""Permutation p-values: how often a null does as well as what was seen, which counts as a null too."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Num

from cutaway.errors import BadInput
from cutaway.evidence._arrays import Numbers, as_numbers

Alternative = Literal["two-sided", "greater", "less"]

# Statistics that are equal in exact arithmetic differ in their last bits; they must count as ties.
TIE = 1e-12


def permutation_p(observed: float, null: Numbers, *, alternative: Alternative = "two-sided") -> float:
    """p = (1 + number of nulls at least as extreme) / (K + 1), in [1/(K+1), 1] (Phipson and Smyth 2010).

    "two-sided" doubles the smaller tail, so the null need not be symmetric about anything.
    """
    draws = as_numbers(null, "The null distribution")
    return float(permutation_p_units(np.array([observed], dtype=float), draws[:, None], alternative=alternative)[0])


def permutation_p_units(
    observed: Num[np.ndarray, " unit"],
    null: Num[np.ndarray, "draw unit"],
    *,
    alternative: Alternative = "two-sided",
) -> Float[np.ndarray, " unit"]:
    """:func:`permutation_p` of many units at once, each against its own column; correct them for multiplicity
    after.
    """
    _check(observed, null)
    greater = (1 + _reaches(null, observed).sum(axis=0)) / (len(null) + 1)
    less = (1 + _reaches(-null, -observed).sum(axis=0)) / (len(null) + 1)
    if alternative == "two-sided":
        return np.minimum(1.0, 2 * np.minimum(greater, less))
    return greater if alternative == "greater" else less


def familywise_p(
    observed: Num[np.ndarray, " unit"],
    null: Num[np.ndarray, "draw unit"],
    *,
    alternative: Alternative = "two-sided",
) -> Float[np.ndarray, " unit"]:
    """p of each unit against the maximum over units: controls the chance of one false claim among all of
    them.

    Single-step max-T (Westfall and Young 1993). Each draw must come from one permutation applied to all
    units, which keeps their dependence. Units are compared in standard deviations of their own null, the
    observed value counted as one more draw; "two-sided" takes distances from the null's mean.
    """
    _check(observed, null)
    stacked = np.vstack([observed[None], null]).astype(float)
    scale = stacked.std(axis=0)
    standard = (stacked - stacked.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    standard = {"two-sided": np.abs(standard), "greater": standard, "less": -standard}[alternative]
    largest = standard[1:].max(axis=1, keepdims=True)
    return (1 + _reaches(largest, standard[0]).sum(axis=0)) / (len(null) + 1)


def _reaches(null: Num[np.ndarray, "draw #unit"], observed: Num[np.ndarray, " unit"]) -> Bool[np.ndarray, "draw unit"]:
    return null >= observed - TIE * np.abs(observed)


def _check(observed: np.ndarray, null: np.ndarray) -> None:
    if len(null) == 0:
        raise BadInput("The null distribution is empty; draw at least 19 nulls for p = 0.05.")
    if not (np.isfinite(observed).all() and np.isfinite(null).all()):
        raise BadInput("Observed values and nulls must be finite; drop the units that were not measured.")
