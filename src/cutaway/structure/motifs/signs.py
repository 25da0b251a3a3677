"""Two motifs of signs: NOT-OR units, and pairs of related sources of which one excites and one inhibits.

NOT-OR: nearly all of a unit's weight energy is negative and spatially uniform, so that it fires where none of its
sources does (black-and-white units of early vision: NOT(OR(colours)); Olah et al., "Overview of Early Vision", 2020).

Excite/inhibit: a target is excited by one source and inhibited by a related one, for example a curve of the opposite
orientation (Cammarata et al., "Curve Circuits", 2021).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.evidence import Measurement
from cutaway.structure.motifs.common import (
    Kernel,
    Search,
    against_shuffles,
    as_array,
    check_activations,
    check_kernel,
    confirmed,
    contrast,
    corrected,
    drives,
    firing,
    with_q,
)

LEAST_NEGATIVE, LEAST_UNIFORM = 0.8, 0.5
_MOST_SOURCES = 4  # of a NOT-OR, those whose firing is compared with that of none


@dataclass(frozen=True)
class NotOr:
    """``target`` is inhibited, everywhere alike, by nearly all it reads.

    ``negative_share`` is the share of its weight energy (sum of squares) that is negative; ``uniformity`` the share of
    energy in the kernels' spatial means, 1 for constant kernels. ``weights`` is the energy of negative means over all
    energy; its null exchanges all single weights of the layer. ``confirmation``: how much lower the measured target is
    where one of its strongest inhibitors fires than where none does; None without activations.
    """

    target: int
    negative_share: float
    uniformity: float
    weights: Measurement
    confirmation: Measurement | None
    q: float = math.nan


def not_ors(
    kernel: Kernel,
    sources: Float[Tensor, "sample sources"] | None = None,
    targets: Float[Tensor, "sample targets"] | None = None,
    *,
    origins: Sequence[str] | None = None,
    level: float = 0.05,
    shuffles: int = 199,
    seed: int = 0,
) -> Search[NotOr]:
    """Units with more than 0.8 of their weight energy negative and at least half of it spatially uniform.

    With activations of ``sources`` and ``targets`` at the same positions, a finding must also be confirmed by them.
    """
    check_kernel(kernel)
    if (sources is None) != (targets is None):
        raise BadInput("Activations of one side only were given; give those of sources and targets, or none.")
    weights = as_array(kernel)
    observed = _uniform_negative(weights)

    def shuffled(rng: np.random.Generator) -> Float[np.ndarray, " target"]:
        return _uniform_negative(rng.permutation(weights.ravel()).reshape(weights.shape))

    n = int(np.prod(weights.shape[1:]))
    tests = against_shuffles(observed, shuffled, n=n, shuffles=shuffles, seed=seed, pooled=True)
    confirmations: list[Measurement] | None = None
    if sources is not None and targets is not None:
        check_activations(kernel, sources, targets)
        driven, fires, values = drives(kernel), firing(sources), as_array(targets)

        def measure(target: int) -> Measurement:
            return _inhibited(driven[target], fires, values[:, target], origins, seed)

        confirmations = confirmed(tests, measure, level=level, seed=seed)
    energy = np.square(weights).sum((1, 2, 3)).clip(min=1e-300)
    negative = np.square(weights.clip(max=0)).sum((1, 2, 3)) / energy
    uniform = np.square(weights.mean((2, 3))).sum(1) * weights.shape[2] * weights.shape[3] / energy
    found = [
        NotOr(t, float(negative[t]), float(uniform[t]), tests[t], None if confirmations is None else confirmations[t])
        for t in range(len(weights))
    ]
    q = corrected(tests, confirmations or tests)
    q = np.where((negative > LEAST_NEGATIVE) & (uniform >= LEAST_UNIFORM), q, 1.0)
    return Search("not-or", with_q(found, q, level), len(found), level)


def _uniform_negative(weights: Float[np.ndarray, "target source y x"]) -> Float[np.ndarray, " target"]:
    """Energy of the negative spatial means over all energy, 0 to 1."""
    means = weights.mean((2, 3)).clip(max=0)
    energy = np.square(weights).sum((1, 2, 3)).clip(min=1e-300)
    return np.square(means).sum(1) * weights.shape[2] * weights.shape[3] / energy


def _inhibited(
    row: Float[np.ndarray, " source"],
    fires: Bool[np.ndarray, "sample source"],
    values: Float[np.ndarray, " sample"],
    origins: Sequence[str] | None,
    seed: int,
) -> Measurement:
    strongest = [int(source) for source in np.argsort(row)[:_MOST_SOURCES] if row[source] < 0]
    some = np.asarray(fires[:, strongest].any(axis=1))
    return contrast(values, some, ~some, origins, sign=-1, seed=seed)


@dataclass(frozen=True)
class ExciteInhibit:
    """``target`` is excited by ``exciting`` and inhibited by the related source ``inhibiting``.

    ``weights`` is the smaller of the two magnitudes over the root mean square drive of the target; null: all pairs of
    unrelated sources of opposite signs, of all targets. ``confirmation``: the measured target where only the exciting
    one fires minus where only the inhibiting one does.
    """

    target: int
    exciting: int
    inhibiting: int
    weights: Measurement
    confirmation: Measurement
    q: float = math.nan


def excite_inhibit_pairs(
    kernel: Kernel,
    related: Bool[Tensor, "source source"],
    sources: Float[Tensor, "sample sources"],
    targets: Float[Tensor, "sample targets"],
    *,
    origins: Sequence[str] | None = None,
    level: float = 0.05,
    seed: int = 0,
) -> Search[ExciteInhibit]:
    """Related pairs of sources with opposite signs onto one target, both stronger than unrelated pairs are.

    ``related`` says which sources belong together (members of one family, or antipodes in it); the diagonal does not
    count.
    """
    check_activations(kernel, sources, targets)
    weights, fires, values = drives(kernel), firing(sources), as_array(targets)
    pairs = related.cpu().numpy() & ~np.eye(weights.shape[1], dtype=bool)
    if related.shape != (weights.shape[1],) * 2 or not pairs.any() or (pairs | np.eye(len(pairs), dtype=bool)).all():
        raise BadInput(
            f"A relation of shape {tuple(related.shape)} was given for {weights.shape[1]} sources; it must relate some "
            "of them, and not all."
        )
    strengths = np.stack([_opposition(row) for row in weights])
    others = ~pairs & ~np.eye(len(pairs), dtype=bool)
    null = np.sort(strengths[:, others][strengths[:, others] > 0])  # a candidate has opposite signs, so has its null
    found = [
        ExciteInhibit(target, a, b, _rank_among(strengths[target, a, b], null, seed), Measurement(math.nan, seed=seed))
        for target, a, b in np.argwhere(pairs & (strengths > 0)).tolist()
    ]

    def measure(place: int) -> Measurement:
        each = found[place]
        a, b = fires[:, each.exciting], fires[:, each.inhibiting]
        return contrast(values[:, each.target], a & ~b, b & ~a, origins, seed=seed)

    confirmations = confirmed([each.weights for each in found], measure, level=level, seed=seed)
    q = corrected([each.weights for each in found], confirmations)
    found = [replace(each, confirmation=one) for each, one in zip(found, confirmations, strict=True)]
    return Search("excite/inhibit pair", with_q(found, q, level), len(found), level)


def _opposition(row: Float[np.ndarray, " source"]) -> Float[np.ndarray, "source source"]:
    """min(drive of one, minus drive of the other) over the root mean square drive; 0 where the signs are not so."""
    scale = math.sqrt(float(np.square(row).mean())) or 1.0
    return np.minimum.outer(row.clip(min=0), (-row).clip(min=0)) / scale


def _rank_among(strength: np.floating, null: Float[np.ndarray, " pair"], seed: int) -> Measurement:
    value = float(strength)
    if not len(null):
        return Measurement(value, seed=seed)
    reaching = len(null) - int(np.searchsorted(null, value, side="left"))
    p = (1 + reaching) / (len(null) + 1)
    return Measurement(value, null_mean=float(null.mean()), null_std=float(null.std()), p=p, n=len(null), seed=seed)
