"""Where training rows come from: anything that gives the same batches again for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.errors import BadInput

Rows = tuple[Float[Tensor, "row d_in"], Float[Tensor, "row d_out"]]


@runtime_checkable
class Source(Protocol):
    """Rows of what a basis reads and of what it is to write (the same rows for an SAE)."""

    @property
    def d_in(self) -> int:
        """Width of what is read."""
        ...

    @property
    def d_out(self) -> int:
        """Width of what is written."""
        ...

    @property
    def count(self) -> int:
        """Rows in one epoch."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names the rows, so that a run is only resumed on the rows that it began with."""
        ...

    def batches(self, size: int, *, seed: int = 0, start: int = 0) -> Iterator[Rows]:
        """Batches without end, each epoch in another order drawn from ``seed``; the first ``start`` are left out
        (without being read, where that can be had), so that a run goes on where it was.
        """
        ...


@dataclass(frozen=True, eq=False)
class TensorSource:
    """Rows in memory; ``y`` None: what is read is what is to be written."""

    x: Float[Tensor, "row d_in"]
    y: Float[Tensor, "row d_out"] | None = None

    def __post_init__(self) -> None:
        rows = [self.x] if self.y is None else [self.x, self.y]
        if len({len(part) for part in rows}) != 1 or len(self.x) == 0:
            raise BadInput(
                f"Rows of {[tuple(part.shape) for part in rows]} were given; give as many of each, not none."
            )
        if not all(bool(torch.isfinite(part).all()) for part in rows):
            raise BadInput("Activations with NaN or infinite values were given; look for what made them first.")

    @property
    def d_in(self) -> int:
        """Width of what is read."""
        return int(self.x.shape[1])

    @property
    def d_out(self) -> int:
        """Width of what is written."""
        return self.d_in if self.y is None else int(self.y.shape[1])

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.x)

    @property
    def fingerprint(self) -> str:
        """From sums of the rows: enough to tell two sets apart, cheap for large ones."""
        parts = [self.x] if self.y is None else [self.x, self.y]
        return "-".join(f"{len(p)}x{p.shape[1]}:{float(p.double().sum()):.9g}:{float(p.double().square().sum()):.9g}"
                        for p in parts)  # fmt: skip

    def batches(self, size: int, *, seed: int = 0, start: int = 0) -> Iterator[Rows]:
        """Batches without end; what is left at the end of an epoch and fills no batch is left out."""
        size = min(size, self.count)
        each = self.count // size
        epoch, skip = divmod(start, each)
        while True:
            order = torch.randperm(self.count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
            for at in range(skip, each):
                rows = order[at * size : (at + 1) * size]
                x = self.x[rows]
                yield x, x if self.y is None else self.y[rows]
            epoch, skip = epoch + 1, 0
