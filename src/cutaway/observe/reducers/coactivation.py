"""Which units of one site are active together. Kept on demand: its size is the square of the number of units."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cutaway.observe.positions import unit_major
from cutaway.observe.reducers.base import State
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


@REDUCERS.register("coactivation")
class CoActivations:
    """Sums of products and counts of joint firing; sums are float32 within a part of a batch, then float64."""

    def __init__(self) -> None:
        self._count = 0
        self._sums = torch.zeros(2, 0, 0, dtype=torch.float64)  # products, joint firing

    def settings(self) -> dict[str, Any]:
        """No settings."""
        return {}

    def fresh(self) -> "CoActivations":
        """An empty reducer."""
        return CoActivations()

    def update(
        self,
        batch_ids: Sequence[str],
        acts: Float[Tensor, "batch pos unit"],
        valid: Bool[Tensor, "batch pos"] | None = None,
        places: Int[Tensor, " pos"] | None = None,
    ) -> None:
        """Takes in a batch."""
        rows = unit_major(acts).flatten(1) if valid is None else acts[valid].T
        if not rows.numel():
            return
        sums = torch.zeros(2, len(rows), len(rows), dtype=torch.float64, device=rows.device)
        for part in rows.split(_PART, dim=1):
            firing = part.sign().clamp_(min=0)
            sums += torch.stack([part @ part.T, firing @ firing.T])
        self._absorb(rows.shape[1], sums.cpu())

    def merge(self, other: "CoActivations") -> None:
        """Adds another's sums."""
        self._absorb(other._count, other._sums)

    def _absorb(self, count: int, sums: Tensor) -> None:
        if count:
            self._sums = self._sums + sums if self._count else sums
            self._count += count

    def result(self) -> CoActivation:
        """The sums as means."""
        return CoActivation(self._count, *(self._sums / max(self._count, 1)))

    def state(self) -> State:
        """Count [1] and sums [2 unit unit]."""
        return {"count": torch.tensor([self._count]), "sums": self._sums} if self._count else {}

    def restored(self, state: State) -> "CoActivations":
        """A reducer with that state."""
        new = CoActivations()
        if state:
            new._absorb(int(state["count"]), state["sums"])
        return new
