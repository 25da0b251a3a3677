"""Count, mean, spread, skewness, kurtosis and extremes of every unit.

Parts are merged by the pairwise formulas of Chan, Golub and LeVeque (1979) for the second moment and of Pebay
(2008, SAND2008-6212, equations 2.1 to 2.4) for the third and fourth. Within a batch, deviations are taken from a
mean that was found first, in float32; all merging is in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.observe.positions import unit_blocks
from cutaway.observe.reducers.base import Accumulator, State
from cutaway.registry import REDUCERS

#: Fourth powers beyond this overflow float32.
_WIDE = 1e9


@dataclass(frozen=True, eq=False)
class MomentsResult:
    """Moments over all positions; ``std`` divides by n, ``kurtosis`` is 0 for a normal distribution.

    Skewness and kurtosis are NaN for a unit that never varies.
    """

    count: int  # positions
    mean: Float[Tensor, " unit"]
    std: Float[Tensor, " unit"]
    skewness: Float[Tensor, " unit"]
    kurtosis: Float[Tensor, " unit"]
    min: Float[Tensor, " unit"]
    max: Float[Tensor, " unit"]


class _Powers(NamedTuple):
    positions: int  # positions
    central: Tensor  # [4 unit]: mean, then sums of powers 2, 3, 4 of deviations
    range: Tensor  # [2 unit]: min, max


@REDUCERS.register("moments")
class Moments(Accumulator[_Powers]):
    """Central moments up to the fourth, and the extremes, of each unit over all positions."""

    def _summary(self, ids: Sequence[str], acts: Tensor, valid: Tensor | None, places: Tensor | None) -> _Powers:
        count = acts.shape[0] * acts.shape[1] if valid is None else int(valid.sum())
        both = torch.cat([_moments(block) for _, block in unit_blocks(acts, valid)], 1).cpu()
        return _Powers(count, both[:4], both[4:])

    def _joined(self, one: _Powers, other: _Powers) -> _Powers:
        central = _merged(one.positions, one.central, other.positions, other.central)
        low, high = torch.minimum(one.range[0], other.range[0]), torch.maximum(one.range[1], other.range[1])
        return _Powers(one.positions + other.positions, central, torch.stack([low, high]))

    def result(self) -> MomentsResult:
        """The moments in the usual, normalised form."""
        empty = torch.zeros(4, 0, dtype=torch.float64)
        count, central, ends = self._content or _Powers(0, empty, empty[:2])
        n = max(count, 1)
        mean, second, third, fourth = central
        variance = second / n
        varies = variance > 0
        nan = torch.full_like(variance, torch.nan)
        skewness = torch.where(varies, third / n / variance**1.5, nan)
        kurtosis = torch.where(varies, fourth / n / variance**2 - 3, nan)
        return MomentsResult(count, mean, variance.sqrt(), skewness, kurtosis, *ends)

    def _packed(self, content: _Powers) -> State:
        return {"count": torch.tensor([content.positions]), "central": content.central, "range": content.range}

    def _unpacked(self, state: State) -> _Powers:
        return _Powers(int(state["count"]), state["central"], state["range"])


def _moments(rows: Float[Tensor, "unit row"]) -> Float[Tensor, "6 unit"]:
    """The mean, sums of the second to fourth powers of deviations from it, min and max, in float64."""
    count, ends = rows.shape[1], torch.stack([rows.amin(1), rows.amax(1)]).double()
    rows = rows.double() if float(ends.abs().max()) > _WIDE else rows
    center = rows.mean(1)
    deviation = rows - center[:, None]
    square = deviation * deviation
    # torch adds float32 numbers pairwise, so that the error of a sum grows with the logarithm of its length.
    s1, s2 = deviation.sum(1).double(), square.sum(1).double()
    s3, s4 = deviation.mul_(square).sum(1).double(), square.mul_(square).sum(1).double()
    # The rounded center is not quite the mean; d is the mean's distance from it.
    d = s1 / count
    second = s2 - s1 * d
    third = s3 - 3 * d * s2 + 2 * count * d**3
    fourth = s4 - 4 * d * s3 + 6 * d**2 * s2 - 3 * count * d**4
    return torch.cat([torch.stack([center.double() + d, second, third, fourth]), ends])


def _merged(n_a: int, a: Tensor, n_b: int, b: Tensor) -> Tensor:
    # Counts as floats: their third powers leave int64.
    na, nb = float(n_a), float(n_b)
    n = na + nb
    d = b[0] - a[0]
    mean = a[0] + d * nb / n
    second = a[1] + b[1] + d**2 * na * nb / n
    third = a[2] + b[2] + d**3 * na * nb * (na - nb) / n**2 + 3 * d * (na * b[1] - nb * a[1]) / n
    fourth = (
        a[3]
        + b[3]
        + d**4 * na * nb * (na**2 - na * nb + nb**2) / n**3
        + 6 * d**2 * (na**2 * b[1] + nb**2 * a[1]) / n**2
        + 4 * d * (na * b[2] - nb * a[2]) / n
    )
    return torch.stack([mean, second, third, fourth])
