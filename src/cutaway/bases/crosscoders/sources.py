"""Rows of several networks or layers, joined: the same stimulus position in every part of a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.bases.activations.source import Rows
from cutaway.errors import BadInput

if TYPE_CHECKING:
    from cutaway.bases.activations.source import Source as RowSource
else:
    RowSource = Any  # run-time type checkers cannot test a protocol that is not runtime_checkable


@dataclass(frozen=True, eq=False)
class SideBySide:
    """A source whose ``x`` and ``y`` are two networks' (or sites') rows, as joined rows: what a crosscoder reads."""

    pair: RowSource

    @property
    def d_in(self) -> int:
        """Width of a joined row."""
        return self.pair.d_in + self.pair.d_out

    @property
    def d_out(self) -> int:
        """The same: a crosscoder writes what it reads."""
        return self.d_in

    @property
    def count(self) -> int:
        """Rows in one epoch."""
        return self.pair.count

    @property
    def fingerprint(self) -> str:
        """The pair's, marked."""
        return f"side-by-side({self.pair.fingerprint})"

    def batches(self, size: int, *, seed: int = 0, start: int = 0) -> Iterator[Rows]:
        """The pair's batches, each row joined."""
        for x, y in self.pair.batches(size, seed=seed, start=start):
            joined = torch.cat([x, y], 1)
            yield joined, joined


def join(parts: Sequence[Float[Tensor, "row _"]]) -> Float[Tensor, "row joined"]:
    """Rows of several networks or layers side by side; raises ``BadInput`` for different numbers of rows."""
    if len({len(part) for part in parts}) != 1:
        raise BadInput(f"Rows of {[tuple(p.shape) for p in parts]} cannot be joined; take the same stimuli for all.")
    return torch.cat(list(parts), 1)
