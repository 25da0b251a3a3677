"""Where the rows lie and how far they spread, from a sample: robust to the few huge rows that language models have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.errors import BadInput

ROUNDS, CLOSE = 100, 1e-6


def geometric_median(rows: Float[Tensor, "row d"]) -> Float[Tensor, " d"]:
    """The point with the least summed distance to the rows (Weiszfeld's iteration, at most 100 rounds, in float64).

    Starts at the mean; stops when a step is below 1e-6 of the mean distance.
    """
    points = rows.double()
    centre = points.mean(0)
    for _ in range(ROUNDS):
        distances = (points - centre).norm(dim=1).clamp(min=1e-12)
        weights = 1 / distances
        moved = (weights @ points) / weights.sum()
        step = (moved - centre).norm()
        centre = moved
        if step <= CLOSE * distances.mean():
            break
    return centre.to(rows)


@dataclass(frozen=True, eq=False)
class Frame:
    """``scale * x`` has median squared distance d_in from ``scale_in * centre_in``, and so for what is written."""

    centre_in: Float[Tensor, " d_in"]
    centre_out: Float[Tensor, " d_out"]
    scale_in: float
    scale_out: float

    @classmethod
    def of(cls, x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"]) -> Frame:
        """Of a sample of rows; raises ``BadInput`` where most rows are equal."""
        centre_in = geometric_median(x)
        scale_in = _scale(x, centre_in, "read")
        if x is y:
            return cls(centre_in, centre_in, scale_in, scale_in)
        centre_out = geometric_median(y)
        return cls(centre_in, centre_out, scale_in, _scale(y, centre_out, "written"))

    def to(self, device: torch.device) -> Frame:
        """On another device."""
        return Frame(self.centre_in.to(device), self.centre_out.to(device), self.scale_in, self.scale_out)


def _scale(rows: Tensor, centre: Tensor, what: str) -> float:
    spread = float((rows - centre).double().square().sum(1).median())
    if spread <= 1e-12 * float(centre.double().square().sum()) or spread == 0:
        raise BadInput(
            f"Most of the {len(rows)} rows that are {what} are equal; there is nothing to learn at this site."
        )
    return (rows.shape[1] / spread) ** 0.5
