"""Quantiles of every unit, from counts in logarithmic bins of both signs.

The sketch is DDSketch (Masson, Rim, Lee: VLDB 2019) with their linearly interpolated mapping: a bin is the exponent
and the leading bits of the mantissa of a float32, so that binning is a shift. With b bins to the octave a quantile is
off by at most 1 / (2 b + 1) of itself: 1.5 % for b = 32. Values nearer to zero than 2^-20 count as zero; values from
2^32 on are counted in the last bin. Merging adds counts, which is exact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.observe.positions import unit_blocks
from cutaway.observe.reducers.base import Accumulator, State
from cutaway.registry import REDUCERS

_MANTISSA, _BIAS = 23, 127
_LOWEST, _OCTAVES = -20, 52  # octaves [2^-20, 2^32)


@dataclass(frozen=True, eq=False)
class QuantileSketch:
    """How the activations of each unit are distributed over all positions.

    ``edges`` bound the bins from below and above, in rising order; the bin of zero reaches from -2^-20 to 2^-20.
    """

    counts: Int[Tensor, "unit bin"]
    edges: Float[Tensor, "bin 2"]
    relative_error: float

    @property
    def count(self) -> int:
        """The number of positions."""
        return int(self.counts[0].sum()) if len(self.counts) else 0

    @property
    def values(self) -> Float[Tensor, " bin"]:
        """The value that stands for each bin, off by at most ``relative_error`` of itself."""
        low, high = self.edges.unbind(1)
        middle = 2 * low * high / (low + high)
        return torch.where(low * high <= 0, 0.0, middle)

    def quantile(self, shares: Sequence[float]) -> Float[Tensor, "share unit"]:
        """The smallest value that at least this share of positions does not exceed, for each share in [0, 1]."""
        if not self.count or not all(0 <= share <= 1 for share in shares):
            raise BadInput(f"Quantiles {list(shares)} of {self.count} positions were asked for; give shares in [0, 1].")
        below = self.counts.cumsum(1)
        ranks = torch.tensor([max(1, math.ceil(share * self.count)) for share in shares])
        bins = torch.searchsorted(below, ranks.expand(len(below), -1).contiguous())
        return self.values[bins].T

    def share_above(self, threshold: float) -> Float[Tensor, " unit"]:
        """The share of positions whose bin stands for a value above the threshold, for each unit."""
        return self.counts[:, self.values > threshold].sum(1).double() / max(self.count, 1)

    def histogram(self, unit: int) -> tuple[Float[Tensor, "bin 2"], Int[Tensor, " bin"]]:
        """The bins of one unit that are not empty, and their counts."""
        used = self.counts[unit] > 0
        return self.edges[used], self.counts[unit][used]


class _Counts(NamedTuple):
    bins: Tensor  # [bin] int64, signed, sorted: 0 is zero, 1 is [2^-20, ...)
    counts: Tensor  # [unit bin] int64


@REDUCERS.register("quantiles")
class Quantiles(Accumulator[_Counts]):
    """A mergeable quantile sketch of each unit over all positions."""

    def __init__(self, *, bins_per_octave: int = 32) -> None:
        if bins_per_octave not in (8, 16, 32, 64, 128):
            raise BadInput(f"{bins_per_octave} bins to the octave were asked for; choose 8, 16, 32, 64 or 128.")
        super().__init__()
        self._per_octave = bins_per_octave

    def settings(self) -> dict[str, Any]:
        """The resolution."""
        return {"bins_per_octave": self._per_octave}

    def _summary(self, ids: Sequence[str], acts: Tensor, valid: Tensor | None, places: Tensor | None) -> _Counts:
        blocks = [block for _, block in unit_blocks(acts, valid)]
        # Bins rise with values, so the extremes say which range of bins is needed.
        ends = torch.stack([torch.stack(torch.aminmax(block)) for block in blocks])
        low, high = self._bin(torch.stack([ends[:, 0].min(), ends[:, 1].max()])).tolist()
        counts = [self._count(block, low, high) for block in blocks]
        used = torch.stack([part.any(0) for part in counts]).any(0).nonzero()[:, 0]
        return _Counts((used + low).cpu(), torch.cat([part.index_select(1, used) for part in counts]).cpu().long())

    def _count(self, rows: Float[Tensor, "unit row"], low: int, high: int) -> Int[Tensor, "unit bin"]:
        units, width = len(rows), high - low + 1
        offsets = torch.arange(units, dtype=torch.int32, device=rows.device) * width - low
        cells = self._bin(rows).add_(offsets[:, None]).flatten()
        return torch.bincount(cells, minlength=units * width).view(units, width).int()

    def _bin(self, values: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Signed bin of each value (int32)."""
        bits = values.view(torch.int32)
        per_octave, last = self._per_octave, _OCTAVES * self._per_octave
        shift = _MANTISSA - int(math.log2(per_octave))
        bins = ((bits & 0x7FFFFFFF) >> shift).sub_((_LOWEST + _BIAS) * per_octave - 1).clamp_(0, last)
        if float(values.min()) >= 0:
            return bins
        sign = bits >> 31  # 0 or -1
        return bins.bitwise_xor_(sign).sub_(sign)

    def _joined(self, one: _Counts, other: _Counts) -> _Counts:
        both = torch.unique(torch.cat([one.bins, other.bins]))
        total = torch.zeros(len(one.counts), len(both), dtype=torch.int64)
        total[:, torch.searchsorted(both, one.bins)] = one.counts
        total[:, torch.searchsorted(both, other.bins)] += other.counts
        return _Counts(both, total)

    def result(self) -> QuantileSketch:
        """The sketch, ready to be asked."""
        none = torch.zeros(0, dtype=torch.int64)
        bins, counts = self._content or _Counts(none, none.reshape(0, 0))
        floor = 2.0**_LOWEST
        magnitude = bins.abs()
        edges = torch.stack([self._edge(magnitude - 1), self._edge(magnitude)], 1)
        zero = torch.tensor([-floor, floor], dtype=torch.float64)
        edges = torch.where((bins < 0)[:, None], -edges.flip(1), edges)
        edges = torch.where((bins == 0)[:, None], zero, edges)
        return QuantileSketch(counts, edges, 1 / (2 * self._per_octave + 1))

    def _edge(self, index: Tensor) -> Float[Tensor, " bin"]:
        octave = index.div(self._per_octave, rounding_mode="floor")
        step = (index - octave * self._per_octave) / self._per_octave
        return torch.exp2((octave + _LOWEST).double()) * (1 + step.double())

    def _packed(self, content: _Counts) -> State:
        """Bins that any unit uses and counts, in the smallest integers that hold them."""
        return {"bins": content.bins.to(torch.int16), "counts": _smallest(content.counts)}

    def _unpacked(self, state: State) -> _Counts:
        return _Counts(state["bins"].long(), state["counts"].long())


def _smallest(counts: Int[Tensor, "unit bin"]) -> Integer[Tensor, "unit bin"]:
    largest = int(counts.max())
    for dtype in (torch.uint8, torch.int16, torch.int32):
        if largest <= np.iinfo(str(dtype).removeprefix("torch.")).max:
            return counts.to(dtype)
    return counts
