"""How features share few units: feature dimensionality, groups that share directions, and plateaus.

The dimensionality of a feature is D_i = |W_i|^2 / sum_j (u_i . W_j)^2, u_i its unit vector (Elhage et al. 2022). Times
|W_i|^2 / |W_i|^2 it is |W_i|^4 / sum_j (W_i . W_j)^2, the capacity of Scherlis et al. (2022): one function for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.evidence import Measurement, measure_against_null

# Dimensionality of features that share as in these figures: alone, tetrahedron, triangle, antipodal pair, pentagon,
# square antiprism.
PLATEAUS = {"dedicated": 1.0, "tetrahedron": 3 / 4, "triangle": 2 / 3, "digon": 1 / 2, "pentagon": 2 / 5,
            "square antiprism": 3 / 8}  # fmt: skip
REPRESENTED = 0.5  # a feature is represented if its vector is at least so long (1 reads itself back whole)
TOUCHES = 0.1  # two features share a direction if |cosine| is more


def dimensionality(weights: Float[Tensor, "*nets hidden feature"]) -> Float[Tensor, "*nets feature"]:
    """The share of a dimension that each feature has, in [0, 1]; they sum to at most the number of hidden units.

    A feature without a vector has 0. A vector that is short but orthogonal to all others has 1 all the same: look at
    :func:`represented` as well.
    """
    gram = weights.mT @ weights
    own = gram.diagonal(dim1=-2, dim2=-1)
    shared = gram.square().sum(-1)
    return torch.where(shared > 0, own.square() / torch.where(shared > 0, shared, 1.0), 0.0)


def represented(weights: Float[Tensor, "*nets hidden feature"]) -> Bool[Tensor, "*nets feature"]:
    """Features whose vector is at least half as long as one that reads itself back whole."""
    return weights.norm(dim=-2) >= REPRESENTED


def dimensions_per_feature(weights: Float[Tensor, "*nets hidden feature"]) -> Float[Tensor, "*nets"]:
    """D* = m / |W|^2 (Frobenius): hidden units per feature that is represented, if all of those have length 1."""
    return weights.shape[-2] / weights.square().sum((-2, -1))


def nearest_plateau(value: float) -> tuple[str, float]:
    """The name of the nearest known figure and the distance from its dimensionality."""
    name = min(PLATEAUS, key=lambda each: abs(PLATEAUS[each] - value))
    return name, abs(PLATEAUS[name] - value)


@dataclass(frozen=True)
class Shape:
    """Represented features that share directions, with their dimensionalities in a whole network.

    ``rank`` is how many dimensions they span; ``figure`` names the known figure nearest to their mean dimensionality
    and ``off`` says how far that is from it.
    """

    features: tuple[int, ...]
    dimensionality: tuple[float, ...]
    rank: int
    figure: str
    off: float


def shapes(weights: Float[Tensor, "hidden feature"], *, touches: float = TOUCHES) -> list[Shape]:
    """The connected components of represented features, joined where |cosine| exceeds ``touches``; largest first."""
    kept = represented(weights).nonzero()[:, 0]
    if not len(kept):
        return []
    vectors = weights[:, kept].double()
    unit = vectors / vectors.norm(dim=0)
    joined = csr_array(((unit.T @ unit).abs() > touches).numpy())
    count, member = connected_components(joined, directed=False)
    shares = dimensionality(weights)
    found = []
    for group in range(count):
        rows = torch.from_numpy(np.flatnonzero(member == group))
        names, each = kept[rows].tolist(), shares[kept[rows]].tolist()
        figure, off = nearest_plateau(float(np.mean(each)))
        rank = int(torch.linalg.matrix_rank(unit[:, rows], rtol=touches))
        found.append(Shape(tuple(names), tuple(each), rank, figure, off))
    return sorted(found, key=lambda shape: (-len(shape.features), shape.features))


def plateau(
    weights: Float[Tensor, "*nets hidden feature"],
    level: float,
    *,
    within: float = 0.015,
    draws: int = 199,
    seed: int = 0,
) -> Measurement:
    """How much the dimensionalities of represented features crowd at ``level``: share within it over share beside it.

    The value is the number of features within ``within`` of the level over the number in the two bands of together the
    same width beside them (plus 1 each, so that empty bands divide nothing): 1 where dimensionalities are spread
    evenly. n is the number of represented features. Null: untrained weights, vectors scaled to the trained ones'
    lengths. Raises ``BadInput`` where no feature is represented.
    """
    kept = represented(weights)
    if not bool(kept.any()):
        raise BadInput("No feature is represented, so there is no dimensionality to look at; train longer.")
    value = _crowding(dimensionality(weights)[kept], level, within)
    lengths, generator = weights.norm(dim=-2, keepdim=True), torch.Generator().manual_seed(seed)
    null = []
    for _ in range(draws):
        drawn = torch.randn(weights.shape, generator=generator)
        drawn = drawn / drawn.norm(dim=-2, keepdim=True) * lengths
        null.append(_crowding(dimensionality(drawn)[kept], level, within))
    return measure_against_null(value, null, n=int(kept.sum()), alternative="greater", seed=seed)


def _crowding(shares: Float[Tensor, " feature"], level: float, within: float) -> float:
    away = (shares - level).abs()
    near, beside = int((away <= within).sum()), int(((away > within) & (away <= 2 * within)).sum())
    return (near + 1) / (beside + 1)
