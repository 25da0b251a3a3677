"""Which units of one site are active together. Kept on demand: its size is the square of the number of units."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.observe.positions import unit_major
from cutaway.observe.reducers.base import Accumulator, State
from cutaway.registry import REDUCERS

_PART = 1 << 14  # positions


@dataclass(frozen=True, eq=False)
class CoActivation:
    """Joint statistics of all pairs of units over all positions.

    ``second_moment`` is the mean product of two activations, no mean removed (the diagonal is the mean square);
    ``joint_firing`` is the share of positions at which both are above 0 (the diagonal is the firing rate).
    """

    positions: int
    second_moment: Float[Tensor, "unit unit2"]
    joint_firing: Float[Tensor, "unit unit2"]

    def cosine(self) -> Float[Tensor, "unit unit2"]:
        """The cosine between the activations of two units over all positions; 0 where one is always 0."""
        norm = self.second_moment.diagonal().sqrt()
        scale = norm[:, None] * norm
        return torch.where(scale > 0, self.second_moment / scale, 0.0)

    def lift(self) -> Float[Tensor, "unit unit2"]:
        """How much more often two units fire together than if independent (1); 0 where one never fires."""
        rate = self.joint_firing.diagonal()
        expected = rate[:, None] * rate
        return torch.where(expected > 0, self.joint_firing / expected, 0.0)


class _Sums(NamedTuple):
    positions: int  # positions
    sums: Tensor  # [2 unit unit2], float64: products, joint firing


@REDUCERS.register("coactivation")
class CoActivations(Accumulator[_Sums]):
    """Sums of products and counts of joint firing; sums are float32 within a part of a batch, then float64."""

    def _summary(self, ids: Sequence[str], acts: Tensor, valid: Tensor | None, places: Tensor | None) -> _Sums:
        rows = unit_major(acts).flatten(1) if valid is None else acts[valid].T
        sums = torch.zeros(2, len(rows), len(rows), dtype=torch.float64, device=rows.device)
        for part in rows.split(_PART, dim=1):
            firing = part.sign().clamp_(min=0)
            sums += torch.stack([part @ part.T, firing @ firing.T])
        return _Sums(rows.shape[1], sums.cpu())

    def _joined(self, one: _Sums, other: _Sums) -> _Sums:
        return _Sums(one.positions + other.positions, one.sums + other.sums)

    def result(self) -> CoActivation:
        """The sums as means."""
        count, sums = self._content or _Sums(0, torch.zeros(2, 0, 0, dtype=torch.float64))
        return CoActivation(count, *(sums / max(count, 1)))

    def _packed(self, content: _Sums) -> State:
        return {"count": torch.tensor([content.positions]), "sums": content.sums}

    def _unpacked(self, state: State) -> _Sums:
        return _Sums(int(state["count"]), state["sums"])
