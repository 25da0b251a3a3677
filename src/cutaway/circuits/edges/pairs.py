"""Clean and corrupted prompts side by side, and what is read off their outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.networks.network import Batch, Network


@dataclass(frozen=True, eq=False)
class Pairs:
    """Prompts whose tokens line up: ``clean`` and ``corrupt`` have the same shape and the same real positions.

    ``target`` and ``against`` are output indices (next tokens, classes) per pair; None where the whole output counts.
    """

    clean: Batch
    corrupt: Batch
    target: Int[Tensor, " pair"] | None = None
    against: Int[Tensor, " pair"] | None = None

    def __post_init__(self) -> None:
        one, other = (_main(batch) for batch in (self.clean, self.corrupt))
        if one.shape != other.shape:
            raise BadInput(
                f"Clean prompts have {tuple(one.shape)} tokens and corrupted ones {tuple(other.shape)}; a part's "
                "output can only be exchanged position by position, so give prompts of equal length."
            )
        if self.clean.mask is not None and self.corrupt.mask is not None:
            differ = (self.clean.mask != self.corrupt.mask).any(1).nonzero()
            if len(differ):
                row = int(differ[0])
                raise BadInput(
                    f"Pair {row} has {int(self.clean.mask[row].sum())} clean and {int(self.corrupt.mask[row].sum())} "
                    "corrupted tokens; give prompts of equal length."
                )

    def __len__(self) -> int:
        return len(self.clean)

    def part(self, rows: Sequence[int] | Tensor) -> Pairs:
        """Some of the pairs."""
        index = torch.as_tensor(rows, dtype=torch.long)
        return Pairs(
            take(self.clean, index),
            take(self.corrupt, index),
            None if self.target is None else self.target[index],
            None if self.against is None else self.against[index],
        )

    @property
    def length(self) -> int | None:
        """Positions, padding included; None where stimuli have no mask."""
        return None if self.clean.mask is None else int(self.clean.mask.shape[1])

    def chunks(self, size: int) -> list[Pairs]:
        """The pairs in order, at most ``size`` at a time."""
        return [self.part(range(at, min(at + size, len(self)))) for at in range(0, len(self), size)]

    def times(self, count: int) -> Pairs:
        """The same pairs ``count`` times over, copy after copy."""
        rows = torch.arange(len(self)).repeat(count)
        return self.part(rows)


def take(batch: Batch, rows: Tensor) -> Batch:
    """Some stimuli of a batch, padding that no one needs cut off."""
    mask = None if batch.mask is None else batch.mask[rows]
    used = None if mask is None or not len(rows) else int(mask.long().sum(1).max())
    inputs = {name: _cut(value[rows], used) for name, value in batch.inputs.items()}
    return Batch(inputs, tuple(batch.ids[int(row)] for row in rows), None if mask is None else _cut(mask, used))


def _cut(value: Tensor, used: int | None) -> Tensor:
    return value if used is None or value.ndim < 2 else value[:, :used]


def _main(batch: Batch) -> Tensor:
    return batch.inputs.get("input_ids", next(iter(batch.inputs.values())))


#: From outputs [pair pos out] (pos is 1 where only the last token is read) to one number per pair.
Read = Callable[[Float[Tensor, "pair pos out"], Pairs], Float[Tensor, " pair"]]


@dataclass(frozen=True)
class Metric:
    """What a circuit is held against: one number per pair, and which logits it needs (``last`` or ``all``)."""

    name: str
    read: Read
    logits: str = "last"

    def of(self, network: Network, batch: Batch, pairs: Pairs) -> Float[Tensor, " pair"]:
        """The metric of an untouched pass over ``batch``."""
        return self.read(network.run(batch, logits=self.logits).logits.float(), pairs)


def logit_difference() -> Metric:
    """logit(target) - logit(against) at the last token, in nats."""

    def read(logits: Tensor, pairs: Pairs) -> Tensor:
        if pairs.target is None or pairs.against is None:
            raise BadInput("The logit difference needs a target and an alternative for every pair.")
        rows = torch.arange(len(logits), device=logits.device)
        last = logits[:, -1]
        return last[rows, pairs.target] - last[rows, pairs.against]

    return Metric("logit difference", read)


def projection(network: Network, pairs: Pairs, *, logits: str = "all") -> Metric:
    """How far the output lies from the corrupted one towards the clean one: 1 on clean, 0 on corrupted prompts.

    sum (y - y_corrupt)(y_clean - y_corrupt) / sum (y_clean - y_corrupt)^2 over read positions and outputs: a metric
    that needs no labels. Pairs whose outputs are equal count 0. Belongs to these very pairs, in this order.
    """
    clean = network.run(pairs.clean, logits=logits).logits.float()
    corrupt = network.run(pairs.corrupt, logits=logits).logits.float()
    towards = (clean - corrupt) * positions(pairs.clean, clean)[..., None]
    scale = (towards**2).sum((1, 2))
    known = dict(zip(pairs.clean.ids, range(len(pairs))))

    def read(logits_now: Tensor, shown: Pairs) -> Tensor:
        rows = torch.tensor([known[name] for name in shown.clean.ids], device=logits_now.device)
        width = logits_now.shape[1]
        moved = ((logits_now - corrupt[rows, :width]) * towards[rows, :width]).sum((1, 2))
        return torch.where(scale[rows] > 0, moved / scale[rows].clamp(min=1e-30), torch.zeros_like(moved))

    return Metric("projection on the clean output", read, logits)


def positions(batch: Batch, outputs: Tensor) -> Float[Tensor, "pair pos"]:
    """1 at positions whose output is read: real ones."""
    if batch.mask is None or outputs.shape[1] != batch.mask.shape[1]:
        return torch.ones(outputs.shape[:2], device=outputs.device)
    return batch.mask.to(outputs.dtype)


def renamed(pairs: Pairs, prefix: str) -> Pairs:
    """The same pairs under ids that are surely distinct (``prefix0``, ``prefix1``, ...)."""
    ids = tuple(f"{prefix}{row}" for row in range(len(pairs)))
    return replace(pairs, clean=replace(pairs.clean, ids=ids), corrupt=replace(pairs.corrupt, ids=ids))
