"""Union over cases: a unit excited by two sources that rarely fire together (Olah et al., "Zoom In", Distill 2020).

A dog head that looks left and one that looks right are two cases; the unit above answers to either. For each target the
two strongest excitatory sources that fire together less than chance are the candidate, and two tests must hold:

    weights        min(E[c|a only], E[c|b only]) - E[c|neither], of the linear account of c (drives times activations),
                   in its standard deviations. Null: all drives of the layer exchanged, and a candidate chosen again
    confirmation   the weaker of E[c|a only] - E[c|neither] and E[c|b only] - E[c|neither] of the *measured* target.
                   Null: activations exchanged (see :func:`.common.contrast`)
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.evidence import Measurement
from cutaway.structure.motifs.common import (
    Kernel,
    Search,
    against_shuffles,
    as_array,
    check_activations,
    confirmed,
    contrast,
    corrected,
    drives,
    firing,
    weaker,
    with_q,
)

MOST_LIFT = 0.5
LEAST_BALANCE = 0.5
_STRONGEST = 4  # sources of a target among which its two cases are sought


@dataclass(frozen=True)
class UnionOverCases:
    """``target`` answers to ``first`` alone about as much as to ``second`` alone.

    ``lift`` is P(both fire) / (P(first) P(second)); ``balance`` the smaller effect over the larger, 1 if equal; ``q``
    the false discovery rate at which both tests hold.
    """

    target: int
    first: int
    second: int
    lift: float
    balance: float
    weights: Measurement
    confirmation: Measurement
    q: float = math.nan


def unions_over_cases(
    kernel: Kernel,
    sources: Float[Tensor, "sample sources"],
    targets: Float[Tensor, "sample targets"],
    *,
    origins: Sequence[str] | None = None,
    level: float = 0.05,
    shuffles: int = 199,
    seed: int = 0,
) -> Search[UnionOverCases]:
    """Targets that are the union of two cases, judged at the same position of the same stimuli.

    ``sources`` and ``targets`` are activations (the target's best before its rectifier); ``origins`` says which samples
    come from one picture. A finding has a lift of at most 0.5, a balance of at least 0.5 and q <= ``level``.
    """
    check_activations(kernel, sources, targets)
    weights, fires, acts = drives(kernel), firing(sources), as_array(sources)
    lift = _lift(fires)
    pairs = [_candidate(row, lift) for row in weights]
    observed = _effects(weights, pairs, acts, fires)

    def shuffled(rng: np.random.Generator) -> Float[np.ndarray, " target"]:
        drawn = rng.permutation(weights.ravel()).reshape(weights.shape)
        return _effects(drawn, [_candidate(row, lift) for row in drawn], acts, fires)

    tests = against_shuffles(observed, shuffled, n=len(acts), shuffles=shuffles, seed=seed, pooled=True)
    values, silent = as_array(targets), Measurement(math.nan, seed=seed)
    found = [
        UnionOverCases(
            target, *pair, float(lift[pair]), _balance(values[:, target], fires, pair), tests[target], silent
        )
        for target, pair in enumerate(pairs)
        if pair is not None
    ]

    def measure(place: int) -> Measurement:
        each = found[place]
        return _confirmation(values[:, each.target], fires, (each.first, each.second), origins, seed)

    confirmations = confirmed([each.weights for each in found], measure, level=level, seed=seed)
    q = corrected([each.weights for each in found], confirmations)
    fair = np.array([each.balance >= LEAST_BALANCE for each in found], dtype=bool)
    found = [replace(each, confirmation=one) for each, one in zip(found, confirmations, strict=True)]
    return Search("union over cases", with_q(found, np.where(fair, q, 1.0), level), len(found), level)


def _lift(fires: Bool[np.ndarray, "sample source"]) -> Float[np.ndarray, "source source"]:
    """P(both) / (P(one) P(other)); 1 where one never fires."""
    together = fires.T.astype(float) @ fires / len(fires)
    expected = np.outer(fires.mean(0), fires.mean(0))
    return np.divide(together, expected, out=np.ones_like(together), where=expected > 0)


def _candidate(
    weights: Float[np.ndarray, " source"], lift: Float[np.ndarray, "source source"]
) -> tuple[int, int] | None:
    """Of the strongest excitatory sources the first two, by the weaker one's drive, that rarely fire together."""
    order = [int(source) for source in np.argsort(-weights)[:_STRONGEST] if weights[source] > 0]
    pairs = sorted(itertools.combinations(order, 2), key=lambda pair: -weights[pair[1]])
    return next((pair for pair in pairs if lift[pair] <= MOST_LIFT), None)


def _effects(
    weights: Float[np.ndarray, "target source"],
    pairs: Sequence[tuple[int, int] | None],
    acts: Float[np.ndarray, "sample source"],
    fires: Bool[np.ndarray, "sample source"],
) -> Float[np.ndarray, " target"]:
    """The smaller effect of the two cases on the linear account of each target; NaN without a candidate."""
    account = acts @ weights.T
    spread = account.std(0)
    effects = np.full(len(weights), np.nan)
    for target, pair in enumerate(pairs):
        if pair is not None and spread[target] > 0:
            effects[target] = min(_cases(account[:, target], fires, pair)) / spread[target]
    return effects


def _cases(
    values: Float[np.ndarray, " sample"], fires: Bool[np.ndarray, "sample source"], pair: tuple[int, int]
) -> tuple[float, float]:
    """E[value | one only] - E[value | neither] for both sources; NaN where a group is empty."""
    a, b = fires[:, pair[0]], fires[:, pair[1]]
    groups = (a & ~b, b & ~a, ~a & ~b)
    if not all(group.any() for group in groups):
        return math.nan, math.nan
    first, second, neither = (float(values[group].mean()) for group in groups)
    return first - neither, second - neither


def _balance(
    values: Float[np.ndarray, " sample"], fires: Bool[np.ndarray, "sample source"], pair: tuple[int, int]
) -> float:
    """The smaller effect over the larger; 0 where one is not positive or cannot be measured."""
    small, large = sorted(_cases(values, fires, pair))
    return small / large if small > 0 and large > 0 else 0.0


def _confirmation(
    values: Float[np.ndarray, " sample"],
    fires: Bool[np.ndarray, "sample source"],
    pair: tuple[int, int],
    origins: Sequence[str] | None,
    seed: int,
) -> Measurement:
    a, b = fires[:, pair[0]], fires[:, pair[1]]
    return weaker([contrast(values, only, ~a & ~b, origins, seed=seed) for only in (a & ~b, b & ~a)])
