"""Several processes on one run: ``torchrun --nproc-per-node N script.py``, each with its part of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch import distributed as dist

from cutaway.errors import BadInput


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process where ``cuda`` alone was asked for under torchrun; otherwise what was asked for."""
    if device.type != "cuda" or device.index is not None or "LOCAL_RANK" not in os.environ:
        return device
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(own)
    return own


@dataclass(frozen=True)
class Team:
    """This process among those that train together; alone, every operation returns what it is given."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls, device: torch.device) -> Team:
        """From torchrun's environment; joins the others (gloo on CPU, NCCL on GPUs) if nobody has."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """The one that reports and writes files."""
        return self.rank == 0

    def part(self, rows: Float[Tensor, "row d"]) -> Float[Tensor, "part d"]:
        """This process's rows; raises ``BadInput`` where they cannot be dealt out evenly."""
        if len(rows) % self.size:
            raise BadInput(f"A batch of {len(rows)} rows was given to {self.size} processes; take a multiple of them.")
        return rows if self.size == 1 else rows[self.rank :: self.size]

    def average(self, parameters: Iterable[Tensor]) -> None:
        """Replaces gradients by their means over processes, in one exchange."""
        if self.size == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        for grad, part in zip(grads, (flat / self.size).split([grad.numel() for grad in grads])):
            grad.copy_(part.view_as(grad))

    def any(self, flags: Bool[Tensor, " latent"]) -> Bool[Tensor, " latent"]:
        """What is true in any process."""
        if self.size == 1:
            return flags
        counts = flags.int()
        dist.all_reduce(counts, op=dist.ReduceOp.MAX)
        return counts.bool()

    def mean(self, *values: float) -> list[float]:
        """Means over processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(total)
        return (total / self.size).tolist()

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Gives every process the first one's values, in place."""
        for tensor in tensors if self.size > 1 else ():
            dist.broadcast(tensor.data, 0)
