"""How often every unit fires."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.observe.positions import unit_blocks
from cutaway.observe.reducers.base import Accumulator, State
from cutaway.registry import REDUCERS


@dataclass(frozen=True, eq=False)
class FiringRates:
    """Shares in [0, 1]: of positions with an activation above 0, of those above ``threshold``, and of stimuli with
    any position above 0."""

    positions: int
    stimuli: int
    threshold: float
    active: Float[Tensor, " unit"]
    strong: Float[Tensor, " unit"]
    stimulus: Float[Tensor, " unit"]


class _Counts(NamedTuple):
    seen: Tensor  # [2]: positions, stimuli
    counts: Tensor  # [3 unit]: active, strong, stimulus


@REDUCERS.register("firing")
class Firing(Accumulator[_Counts]):
    """Counts the positions and the stimuli at which each unit is active. All counts are exact."""

    def __init__(self, *, threshold: float = 1.0) -> None:
        super().__init__()
        self._threshold = float(threshold)

    def settings(self) -> dict[str, Any]:
        """The threshold of a strong activation."""
        return {"threshold": self._threshold}

    def _summary(self, ids: Sequence[str], acts: Tensor, valid: Tensor | None, places: Tensor | None) -> _Counts:
        positions = acts.shape[0] * acts.shape[1] if valid is None else int(valid.sum())
        if valid is not None:
            # The lowest number is above no threshold.
            acts = acts.masked_fill(~valid[:, :, None], torch.finfo(acts.dtype).min)
        blocks = [self._count(block.unflatten(1, acts.shape[:2])) for _, block in unit_blocks(acts)]
        return _Counts(torch.tensor([positions, len(acts)]), torch.cat(blocks, 1).cpu())

    def _count(self, values: Float[Tensor, "unit batch pos"]) -> Int[Tensor, "3 unit"]:
        active, strong = _count_above(values, 0.0), _count_above(values, self._threshold)
        return torch.stack([active.sum(1), strong.sum(1), (active > 0).sum(1)]).long()

    def _joined(self, one: _Counts, other: _Counts) -> _Counts:
        return _Counts(one.seen + other.seen, one.counts + other.counts)

    def result(self) -> FiringRates:
        """The counts as shares."""
        none = torch.zeros(3, 0, dtype=torch.int64)
        seen, counts = self._content or _Counts(torch.zeros(2, dtype=torch.int64), none)
        positions, stimuli = seen.tolist()
        active, strong, stimulus = counts.double()
        per_position, per_stimulus = max(positions, 1), max(stimuli, 1)
        return FiringRates(
            positions,
            stimuli,
            self._threshold,
            active / per_position,
            strong / per_position,
            stimulus / per_stimulus,
        )

    def _packed(self, content: _Counts) -> State:
        return content._asdict()

    def _unpacked(self, state: State) -> _Counts:
        return _Counts(state["seen"], state["counts"])


def _count_above(values: Float[Tensor, "unit batch pos"], threshold: float) -> Float[Tensor, "unit batch"]:
    """Positions above the threshold, for each unit and stimulus.

    Signs are added as float32, which is five times as fast as counting booleans, and exact up to 2^24 positions.
    """
    signs = values.sign() if threshold == 0 else torch.sub(values, threshold).sign_()
    return signs.clamp_(min=0).sum(2).double()
