"""One-sided factorization of weights: groups of channels that are read in the same spatial pattern.

    W[c, p] ~ sum over k of  A[c, k] S[k, p],   A >= 0,   S signed

is semi-nonnegative matrix factorization (Ding, Li and Jordan 2010, IEEE TPAMI 32): ``c`` are source channels, ``p``
positions of the window (of all targets, one after the other). Since A cannot be negative, a factor is a set of channels
that the target reads alike, and S says where it wants them and where not.

That alone leaves factors open: wherever A, S fits, A M with M >= 0 and M^-1 S fits as well, that is, any wider cone
around the same weights. We want the tightest one, whose factors are weights that channels really have, so A pays a
small price for its sum while the rows of S have length 1 (a wider cone needs larger loadings for the same weights;
nonnegative sparse coding, Hoyer 2002). S is fitted once more at the end, without the price.

Two exact steps alternate, for one factor at a time with the others held: its column of A is max(0, .) of a projection,
its row of S a projection made length 1 (hierarchical alternating least squares, Cichocki and Phan 2009). Starts are
rows that point apart; the best of several counts. The multiplicative updates of the paper reach the same kind of
optimum more slowly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.weights import Kernel
from cutaway.errors import BadInput
from cutaway.evidence.measure import measure_against_null
from cutaway.evidence.measurement import Measurement

STARTS, STEPS, SHUFFLES = 3, 200, 39
SPARSITY = 0.1
_SETTLED = 1e-6  # change of the explained share at which a start has converged


@dataclass(frozen=True, eq=False)
class Factors:
    """A factorization of weights ``[target source y x]`` into ``k`` factors, the one with most energy first.

    ``channels`` ``[source factor]`` is >= 0, each column of Euclidean length 1; ``space`` ``[target factor y x]`` is
    signed and carries the scale: weights ~ einsum("cf,tfyx->tcyx", channels, space). ``explained`` is the share of the
    weights' sum of squares that they explain, in [0, 1], against the same factorization of weights whose entries were
    permuted across channels, position by position; ``n`` counts channels. ``shares`` split ``explained`` over the
    factors (each factor's inner product with the weights over theirs with themselves).
    """

    source: str
    channels: Float[Tensor, "source factor"]
    space: Float[Tensor, "target factor y x"]
    explained: Measurement
    shares: tuple[float, ...]

    @property
    def directions(self) -> Float[Tensor, "factor source"]:
        """One direction over the source's channels for each factor, for a feature visualization of what it collects."""
        return self.channels.T

    def approximation(self) -> Float[Tensor, "target source y x"]:
        """The weights that the factors stand for."""
        return torch.einsum("cf,tfyx->tcyx", self.channels, self.space)

    def top_channels(self, factor: int, count: int = 5) -> tuple[tuple[int, float], ...]:
        """The channels with the largest loading on a factor, with their loadings."""
        loads = self.channels[:, factor]
        best = torch.argsort(loads, descending=True, stable=True)[:count].tolist()
        return tuple((int(unit), float(loads[unit])) for unit in best)


def factorize(
    weights: Kernel | Float[Tensor, "target source y x"],
    k: int,
    *,
    source: str = "",
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Factors:
    """Splits (expanded) weights into ``k`` groups of channels with signed spatial patterns; see :class:`Factors`.

    Null: entries of W permuted across channels within each position, ``shuffles`` times, each factored with the same
    effort (0: no null is drawn). Raises ``BadInput`` for weights that are all zero and for ``k`` outside 1 to
    min(channels, positions).
    """
    values = weights.values if isinstance(weights, Kernel) else weights
    source = weights.source if isinstance(weights, Kernel) else source
    matrix = values.detach().double().cpu().transpose(0, 1).flatten(1).numpy()
    _check(matrix, k)
    rng = np.random.default_rng(seed)
    channels, space, explained = semi_nmf(matrix, k, rng=rng)
    null = [semi_nmf(rng.permuted(matrix, axis=0), k, rng=rng)[2] for _ in range(shuffles)]
    measured = Measurement(explained, n=len(matrix), seed=seed)
    if null:
        measured = measure_against_null(explained, null, n=len(matrix), alternative="greater", seed=seed)
    targets, _, rows, columns = values.shape
    shaped = space.reshape(k, targets, rows, columns).transpose(1, 0, 2, 3)
    parts = (space * (channels.T @ matrix)).sum(1) / (matrix**2).sum()
    return Factors(
        source,
        torch.from_numpy(channels).to(values.dtype),
        torch.from_numpy(np.ascontiguousarray(shaped)).to(values.dtype),
        measured,
        tuple(float(each) for each in parts),
    )


def semi_nmf(
    matrix: Float[np.ndarray, "row column"],
    k: int,
    *,
    rng: np.random.Generator,
    sparsity: float = SPARSITY,
    starts: int = STARTS,
    steps: int = STEPS,
) -> tuple[Float[np.ndarray, "row factor"], Float[np.ndarray, "factor column"], float]:
    """The best of several starts: A >= 0 with columns of length 1, signed S by falling energy, explained share.

    ``sparsity`` is the price of a loading, in root-mean-square row lengths of the matrix.
    """
    price = sparsity * float(np.sqrt((matrix**2).sum(1).mean()))
    found = [_descended(matrix, _start(matrix, k, rng), price, steps) for _ in range(starts)]
    channels = min(found, key=lambda each: each[1])[0]
    channels = channels / np.maximum(np.linalg.norm(channels, axis=0), 1e-300)
    space, explained = _space(matrix, channels)
    order = np.argsort(-(space**2).sum(1), kind="stable")
    return channels[:, order], space[order], explained / float((matrix**2).sum())


def _start(matrix: Float[np.ndarray, "row column"], k: int, rng: np.random.Generator) -> list[int]:
    """k rows that point apart: the first drawn by energy, each next also by its angle to those before."""
    energy = (matrix**2).sum(1)
    directions = matrix / np.sqrt(np.maximum(energy, 1e-300))[:, None]
    apart, chosen = np.ones(len(matrix)), []
    for _ in range(k):
        chances = energy * apart + 1e-12 * energy.sum()
        chosen.append(int(rng.choice(len(matrix), p=chances / chances.sum())))
        apart = np.clip(np.minimum(apart, 1 - directions @ directions[chosen[-1]]), 0.0, None)
    return chosen


def _descended(
    matrix: Float[np.ndarray, "row column"], first: list[int], price: float, steps: int
) -> tuple[Float[np.ndarray, "row factor"], float]:
    """A after both steps have settled, and its cost |W - A S|^2 + 2 price sum(A), which every step lowers."""
    energy, before, cost = float((matrix**2).sum()), np.inf, np.inf
    space = _unit(matrix[first])
    channels = np.maximum(matrix @ space.T, 0.0)
    for _ in range(steps):
        channels = _columns_updated(matrix, channels, space, price)
        space = _rows_updated(matrix, channels, space)
        gram = (channels.T @ channels) * (space @ space.T)
        cost = float(energy - 2 * ((channels.T @ matrix) * space).sum() + gram.sum() + 2 * price * channels.sum())
        if before - cost < _SETTLED * energy:
            break
        before = cost
    return channels, cost


def _unit(rows: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def _rows_updated(
    matrix: Float[np.ndarray, "row column"],
    channels: Float[np.ndarray, "row factor"],
    space: Float[np.ndarray, "factor column"],
) -> Float[np.ndarray, "factor column"]:
    """Each row of S in turn: the one of length 1 that fits best, the others held."""
    space = space.copy()
    cross, gram = channels.T @ matrix, channels.T @ channels
    for factor in range(len(space)):
        rest = cross[factor] - gram[factor] @ space + gram[factor, factor] * space[factor]
        if (length := float(np.linalg.norm(rest))) > 0:
            space[factor] = rest / length
    return space


def _space(
    matrix: Float[np.ndarray, "row column"], channels: Float[np.ndarray, "row factor"]
) -> tuple[Float[np.ndarray, "factor column"], float]:
    """The best S for given A, and the energy that A S explains: at the least-squares solution <S, A'W>."""
    projected = channels.T @ matrix
    space = np.linalg.pinv(channels.T @ channels, hermitian=True) @ projected
    return space, float((space * projected).sum())


def _columns_updated(
    matrix: Float[np.ndarray, "row column"],
    channels: Float[np.ndarray, "row factor"],
    space: Float[np.ndarray, "factor column"],
    price: float,
) -> Float[np.ndarray, "row factor"]:
    """Each column of A in turn: the nonnegative one that costs least, the others held."""
    channels = channels.copy()
    cross, gram = matrix @ space.T, space @ space.T
    for factor in range(channels.shape[1]):
        if gram[factor, factor] > 0:
            others = channels @ gram[:, factor] - channels[:, factor] * gram[factor, factor]
            channels[:, factor] = np.maximum(0.0, (cross[:, factor] - others - price) / gram[factor, factor])
    return channels


def _check(matrix: Float[np.ndarray, "row column"], k: int) -> None:
    if not 1 <= k <= min(matrix.shape):
        raise BadInput(
            f"{k} factors were asked for of weights from {matrix.shape[0]} channels over {matrix.shape[1]} positions; "
            f"ask for 1 to {min(matrix.shape)}."
        )
    if not (matrix**2).sum() > 0:
        raise BadInput("Weights that are all zero were to be factored; choose a pair of sites that are connected.")
