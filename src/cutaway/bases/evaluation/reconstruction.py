"""How well codes stand for activations, in streaming sums: explained variance, L0, dead and dense latents.

The formula is that of :func:`cutaway.evidence.metrics.explained_variance`: 1 - E|y - y'|^2 / sum_d Var(y_d), the
variance around the mean of the very rows that are evaluated. Error and variance are summed by the same operations in
the same order, so that the mean predictor's score is 0 to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.bases.basis import Basis
from cutaway.bases.evaluation.site_rows import Part, SiteRows, column_sums
from cutaway.bases.unfolding.splice import has_bypass
from cutaway.bases.unfolding.sums import Sums, ratio, statistic
from cutaway.errors import NotTestable
from cutaway.evidence import Measurement

DENSE = 0.1
"""A latent that fires on more than this share of rows is dense."""
_CHUNK = 1 << 24  # codes held at once: 64 MB


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Explained variance (1 is perfect, 0 the mean), L0 (active latents a row), shares of dead and dense latents.

    Dead: fired on none of the ``rows``; dense: on more than :data:`DENSE` of them. ``fired``: on how many rows each
    latent did. Intervals resample entities.
    """

    explained_variance: Measurement
    l0: Measurement
    dead: float
    dense: float
    rows: int
    fired: Int[np.ndarray, " latent"]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        numbers = {"explained_variance": self.explained_variance.to_json(), "l0": self.l0.to_json()}
        return numbers | {"dead_share": self.dead, "dense_share": self.dense, "rows": self.rows}


def reconstructions(rows: SiteRows, bases: Mapping[str, Basis], *, seed: int = 0) -> dict[str, Reconstruction]:
    """Scores of several bases on the same rows: two looks at the rows, one for their mean.

    A basis whose origin reads the written site is shown that site, whatever the others read.
    """
    total, count = column_sums(rows)
    mean = (total / count).float()
    tallies = {name: _Tally(basis, _reads_written(basis, rows)) for name, basis in bases.items()}
    with torch.no_grad():
        for part in rows:
            for tally in tallies.values():
                tally.add(part, mean)
    return {name: tally.result(rows, seed) for name, tally in tallies.items()}


def chunks(rows: Float[Tensor, "row d"], width: int) -> Iterator[slice]:
    """Slices of rows whose codes fit in the memory set aside for them."""
    step = max(1, _CHUNK // max(1, width))
    yield from (slice(start, start + step) for start in range(0, len(rows), step))


class _Tally:
    def __init__(self, basis: Basis, on_written: bool) -> None:
        self.basis, self.on_written = basis, on_written
        self.sums = Sums(("n", "error", "spread", "active"))
        self.fired: Int[Tensor, " latent"] = torch.zeros(basis.width, dtype=torch.long)

    def add(self, part: Part, mean: Float[Tensor, " d_out"]) -> None:
        source = part.y if self.on_written else part.x
        for rows in chunks(source, self.basis.width):
            codes = self.basis.encode(source[rows])
            made = self.basis.reconstruct(source[rows]) if has_bypass(self.basis) else self.basis.decode(codes)
            made, active = made.cpu(), codes.cpu() != 0
            self.fired += active.sum(0)
            error, spread = _squares(part.y[rows], made), _squares(part.y[rows], mean.expand_as(part.y[rows]))
            self._enter(part, part.owner[rows], error, spread, active.sum(1).double())

    def _enter(self, part: Part, owner: Tensor, *columns: Float[Tensor, " row"]) -> None:
        size = len(part.entities)
        counted = [torch.bincount(owner, minlength=size).double()]
        counted += [torch.zeros(size, dtype=torch.float64).index_add(0, owner, column) for column in columns]
        for index, entity in enumerate(part.entities):
            if counted[0][index]:
                self.sums.add(entity, *(float(column[index]) for column in counted))

    def result(self, rows: SiteRows, seed: int) -> Reconstruction:
        if self.sums.total("spread") <= 0:
            raise NotTestable(f"All rows of {rows.writes.name} are equal, so no variance is there to be explained.")
        columns = (self.sums.of("error"), self.sums.of("spread"))
        explained = statistic(lambda error, spread: 1 - error / spread, *columns, seed=seed)
        count = int(self.sums.total("n"))
        dead = float((self.fired == 0).double().mean())
        dense = float((self.fired > DENSE * count).double().mean())
        return Reconstruction(
            explained, ratio(self.sums, "active", "n", seed=seed), dead, dense, count, self.fired.numpy()
        )


def _squares(rows: Float[Tensor, "row d"], guess: Float[Tensor, "row d"]) -> Float[Tensor, " row"]:
    return (rows - guess).double().square().sum(1)


def _reads_written(basis: Basis, rows: SiteRows) -> bool:
    return basis.origin is not None and basis.origin.reads == rows.writes.name
