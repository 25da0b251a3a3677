"""Does a circuit do what the network does? Faithfulness, its integrals over circuit size, and the tests beside it.

m is any behaviour metric (a mean logit difference, say): m(N) of the whole network, m(C) with everything outside the
circuit replaced, m(empty) with everything replaced. Formulas: Wang et al. 2023 (faithfulness, completeness,
minimality), Mueller et al. 2025 (CPR, CMD), Geiger et al. 2021 (interchange), Chan et al. 2022 (causal scrubbing).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence._arrays import Numbers, as_numbers
from cutaway.evidence.metrics._ratio import Number, share_of_way

SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # the grid of MIB: CPR and CMD depend on it


def faithfulness(circuit: Number, *, network: Number, empty: Number) -> float:
    """(m(C) - m(empty)) / (m(N) - m(empty)): 0 as if everything were replaced, 1 like the network; unbounded.

    :class:`NotTestable` where m(N) and m(empty) coincide: the inputs do not make the network do anything.
    """
    return share_of_way(
        circuit, empty, network, what="Faithfulness", because="replacing everything does not change the behaviour"
    )


def faithfulness_curve(circuits: Numbers, *, network: Number, empty: Number) -> Float[np.ndarray, " size"]:
    """:func:`faithfulness` of several circuits."""
    values = as_numbers(circuits, "Circuit metrics")
    return np.array([faithfulness(float(each), network=network, empty=empty) for each in values])


def cpr(sizes: Numbers, faithfulness: Numbers) -> float:
    """Area under faithfulness over size, by trapezoids from the first size to the last: higher is better, unbounded.

    ``sizes`` are shares (of edges, say) in increasing order. Areas are comparable only over the same :data:`SIZES`.
    """
    k, f = _curve(sizes, faithfulness)
    return _trapezoid(f, k)


def cmd(sizes: Numbers, faithfulness: Numbers, *, crossings: bool = False) -> float:
    """Area between the curve and 1, by trapezoids of |1 - f|: 0 is best.

    Where the curve crosses 1 between two sizes the trapezoid is too large; ``crossings`` integrates the straight
    line between them exactly instead. The default is the published definition.
    """
    k, f = _curve(sizes, faithfulness)
    if crossings:
        k, f = _with_crossings(k, f, 1.0)
    return _trapezoid(np.abs(1.0 - f), k)


def k90(sizes: Numbers, faithfulness: Numbers, *, level: float | int = 0.9, interpolate: bool = True) -> float:
    """The smallest size at which f >= ``level``; NaN if the curve never gets there.

    Between two measured sizes the curve is taken as straight and its first crossing is returned; without
    ``interpolate``, the first measured size that reaches the level (a circuit that exists). A curve that starts at
    or above the level gives its first size. ``sizes`` may be shares of edges, of parameters or of compute.
    """
    k, f = _curve(sizes, faithfulness)
    reached = np.flatnonzero(f >= level)
    if not len(reached):
        return math.nan
    i = int(reached[0])
    if i == 0 or not interpolate:
        return float(k[i])
    return float(k[i - 1] + (level - f[i - 1]) / (f[i] - f[i - 1]) * (k[i] - k[i - 1]))


def completeness(circuit_without: Numbers, network_without: Numbers) -> float:
    """max over K of |F(C without K) - F(M without K)|: 0 if the circuit misses nothing, in units of F.

    Entry i of both is the metric after removing the same i-th subset K of the circuit, once from the circuit and
    once from the whole network. A maximum over tried subsets is a lower bound of the true one: say how many.
    """
    circuit, network = as_numbers(circuit_without, "Circuit metrics"), as_numbers(network_without, "Network metrics")
    if len(circuit) != len(network):
        raise BadInput(f"Completeness compares the same subsets, found {len(circuit)} and {len(network)}.")
    return float(np.abs(circuit - network).max())


def minimality(
    kept: Float[np.ndarray, "part subset"],
    removed: Float[np.ndarray, "same_part same_subset"],
    *,
    scale: float | int = 1.0,
) -> Float[np.ndarray, " part"]:
    """How much each part matters: max over K of |F(C without K and v) - F(C without K)| / |scale|.

    ``kept[v, i]`` is the metric without the i-th subset tried for part v, ``removed[v, i]`` without the subset and
    v. A circuit is minimal if no part scores near 0. NaN marks a subset not tried; a part with none scores NaN.
    ``scale`` is F of the network, to make scores comparable between tasks.
    """
    if kept.shape != removed.shape:
        raise BadInput(f"Minimality compares the same subsets, found shapes {kept.shape} and {removed.shape}.")
    if not (math.isfinite(scale) and scale):
        raise NotTestable(f"Minimality is undefined on a scale of {scale}: the network does not do the task.")
    moved = np.abs(removed.astype(np.float64) - kept) / abs(scale)
    tried = ~np.isnan(moved)
    largest = np.max(np.where(tried, moved, -np.inf), axis=1, initial=-np.inf)
    return np.where(tried.any(axis=1), largest, np.nan)


def interchange_accuracy(
    outputs: Shaped[np.ndarray, " pair"] | Sequence[Any], counterfactuals: Shaped[np.ndarray, " pair"] | Sequence[Any]
) -> float:
    """IIA: share of interchanges after which the network's output equals what the algorithm says it should be.

    Report it beside the same number of an untrained network, and on pairs whose output changes under the
    algorithm: elsewhere doing nothing is right.
    """
    said, expected = np.asarray(outputs), np.asarray(counterfactuals)
    if said.shape != expected.shape or said.ndim != 1 or not said.size:
        raise BadInput(f"IIA needs one output and one answer a pair, found shapes {said.shape} and {expected.shape}.")
    return float((said == expected).mean())


def causal_scrubbing(scrubbed: Number, *, network: Number, random: Number) -> float:
    """(E_scrubbed - E_random) / (E_network - E_random): the share of performance a hypothesis explains.

    1: resampling everything that the hypothesis calls irrelevant changes nothing. It refutes, it never certifies:
    errors that cancel pass too, so scrub the complement as well.
    """
    return share_of_way(
        scrubbed, random, network, what="The causal scrubbing score", because="the network is at chance"
    )


def _curve(sizes: Numbers, values: Numbers) -> tuple[Float[np.ndarray, " size"], Float[np.ndarray, " size"]]:
    k, f = as_numbers(sizes, "Sizes"), as_numbers(values, "Faithfulness")
    if len(k) != len(f) or len(k) < 2:
        raise BadInput(f"A curve needs two or more sizes with one value each, found {len(k)} and {len(f)}.")
    if k[0] < 0 or k[-1] > 1 or (np.diff(k) <= 0).any():
        raise BadInput("Sizes must be shares between 0 and 1 in increasing order; sort them and drop repeats.")
    return k, f


def _trapezoid(values: Float[np.ndarray, " size"], at: Float[np.ndarray, " size"]) -> float:
    return float(np.trapezoid(values, at))


def _with_crossings(
    k: Float[np.ndarray, " size"], f: Float[np.ndarray, " size"], level: float
) -> tuple[Float[np.ndarray, " more"], Float[np.ndarray, " more"]]:
    """The curve with a point added wherever it passes ``level`` between two sizes."""
    crossed = np.flatnonzero((f[:-1] - level) * (f[1:] - level) < 0)
    at = k[crossed] + (level - f[crossed]) / (f[crossed + 1] - f[crossed]) * (k[crossed + 1] - k[crossed])
    return np.insert(k, crossed + 1, at), np.insert(f, crossed + 1, level)
