"""The book of edges: who wrote what where, and what each reader takes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.tracing.nodes import BIAS, Node, Pool


@dataclass(frozen=True, eq=False)
class Scope:
    """What can be read at a point of the forward pass: the nodes that have written at each position, and constants."""

    at: tuple[tuple[int, ...], ...]
    biases: Float[Tensor, " d"]

    @classmethod
    def empty(cls, length: int, width: int) -> Scope:
        """Nothing written yet."""
        return cls(((),) * length, torch.zeros(width, dtype=torch.float64))

    def plus(self, other: Scope) -> Scope:
        """Both together."""
        return Scope(tuple(a + b for a, b in zip(self.at, other.at)), self.biases + other.biases)

    def biased(self, bias: Float[Tensor, " d"]) -> Scope:
        """With another constant."""
        return Scope(self.at, self.biases + bias)


class Ledger:
    """Edges ``values`` [target source], ``outs`` and ``bases`` [node d]: what nodes write here and at the baseline.

    ``gap`` is the largest amount by which all that flows into a node misses what it should; ``size`` what it is of.
    """

    def __init__(self, pool: Pool, length: int, width: int) -> None:
        self.pool, self.length, self.width = pool, length, width
        self.values = np.zeros((len(pool.nodes), len(pool.nodes)), dtype=np.float32)
        self.shares = np.array([node.value for node in pool.nodes])
        self.outs = torch.zeros(len(pool.nodes), width, dtype=torch.float64)
        self.bases = torch.zeros_like(self.outs)
        self.gap, self.size = 0.0, 0.0

    def written(self, numbers: Sequence[int], outs: Tensor, bases: Tensor) -> Scope:
        """Notes what some nodes write; they alone can be read then."""
        self.outs[list(numbers)], self.bases[list(numbers)] = outs, bases
        at: list[tuple[int, ...]] = [()] * self.length
        for number in numbers:
            at[placed(self.pool.nodes[number])] += (number,)
        return Scope(tuple(at), torch.zeros(self.width, dtype=torch.float64))

    def edges(self, scope: Scope, place: int, numbers: Sequence[int], rows: Tensor) -> tuple[Tensor, Tensor]:
        """Edges from everything known at a position, beyond the baseline and whole: [target source] both."""
        own = list(scope.at[place])
        raw, base = rows @ self.outs[own].T, rows @ self.bases[own].T
        self.values[np.ix_(list(numbers), own)] = (raw - base).numpy()
        return raw - base, raw

    def exact(
        self, scope: Scope, numbers: Sequence[int], rows: Sequence[tuple[int, Tensor, Tensor]],
        constants: Tensor, whole: Tensor, rest: Sequence[int] | None,
    ) -> None:  # fmt: skip
        """Edges into nodes that are linear in what they read.

        ``rows``: for each position that is read, which of the nodes read it (places among ``numbers``) and how
        [reader d]. ``whole`` is what they take in all, ``constants`` what of that comes from nothing in the scope.
        ``rest``: the leaf of each that makes up the difference to its share; None: biases.
        """
        fixed = constants.clone()
        change, total, size = (torch.zeros_like(constants) for _ in range(3))
        for place, readers, read in rows:
            edges, raw = self.edges(scope, place, [numbers[row] for row in readers.tolist()], read)
            fixed[readers] += read @ scope.biases
            change[readers] += edges.sum(1)
            total[readers] += raw.sum(1)
            size[readers] += raw.abs().sum(1)
        self.gap = max(self.gap, float((whole - fixed - total).abs().max()))
        self.size = max(self.size, float((size + fixed.abs()).max()))
        for row, number in enumerate(numbers):
            if rest is None:
                self.values[number, self.pool.index[BIAS]] = float(fixed[row] + total[row] - change[row])
            else:
                self.values[number, rest[row]] = self.shares[number] - float(change[row])


def placed(node: Node) -> int:
    """The position of a node that has one."""
    assert node.position is not None
    return node.position
