"""A small network, small stimuli, and random activations for the tests of this room."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from cutaway.errors import BadInput
from cutaway.networks import Network, wrap
from cutaway.observe import DEFAULT
from cutaway.stimuli import Stimulus, StimulusSet

SITE = "0"


class Counting(nn.Module):
    """A convolution and a ReLU that write down every forward pass, in memory and in a file."""

    def __init__(self, log: Path | None = None) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 5, 3, padding=1), nn.ReLU()
        self.late = nn.Conv2d(5, 2, 1)
        self.log, self.passes, self.late_passes = log, 0, 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{len(images)}\n")
        hidden = self.relu(self.conv(images))
        self.late_passes += 1
        return self.late(hidden)


def network(log: Path | None = None, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return wrap(Counting(log), name="small", modality="tensor")


def tensor_stimulus(name: str, content: Tensor | None = None) -> Stimulus:
    def load() -> Tensor:
        if name.startswith("bad"):
            raise BadInput(f"{name} cannot be read.")
        generator = torch.Generator().manual_seed(int("".join(filter(str.isdigit, name)) or 0))
        return torch.randn(3, 8, 8, generator=generator) if content is None else content

    return Stimulus(name, "tensor", f"made by {name}", load)


def stimuli(names: int | Iterable[str]) -> StimulusSet:
    listed = [f"s{n:04d}" for n in range(names)] if isinstance(names, int) else names
    return StimulusSet("small", [tensor_stimulus(name) for name in listed])


def activations(stimuli: int = 12, positions: int = 30, units: int = 4, seed: int = 0) -> tuple[list[str], Tensor]:
    """Names and activations of every kind: both signs, many exact zeros, a dead unit, a wide range."""
    generator = torch.Generator().manual_seed(seed)
    acts = torch.randn(stimuli, positions, units, generator=generator)
    acts[:, :, 0] = acts[:, :, 0].relu()
    acts[:, :, 1] = 0.0
    acts[:, :, 2] = acts[:, :, 2] ** 5
    return [f"id{n}" for n in torch.randperm(stimuli, generator=generator).tolist()], acts


ALL = (*DEFAULT, "coactivation")
