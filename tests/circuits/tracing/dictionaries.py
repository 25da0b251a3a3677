"""Dictionaries small enough to check by hand; they keep to the protocol of bases and to nothing else."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.bases import Origin
from cutaway.networks import Network


@dataclass(frozen=True, eq=False)
class Small:
    """Codes are (x - shift) read' + offset behind a rectifier, of which the ``keep`` largest of a row stay."""

    name: str
    read: Tensor  # [latent d]
    offset: Tensor
    write: Tensor  # [latent e]
    bias: Tensor
    shift: Tensor
    origin: Origin | None
    keep: int | None = None
    threshold: float = 0.0
    skip: Tensor | None = None

    @property
    def width(self) -> int:
        return len(self.write)

    def encode(self, acts: Tensor) -> Tensor:
        codes = (acts - self.shift.to(acts)) @ self.read.T.to(acts) + self.offset.to(acts)
        codes = torch.where(codes > self.threshold, codes, torch.zeros_like(codes))
        if self.keep is None:
            return codes
        places = codes.topk(self.keep, -1).indices
        return torch.zeros_like(codes).scatter(-1, places, codes.gather(-1, places))

    def decode(self, codes: Tensor) -> Tensor:
        return codes @ self.write.to(codes) + self.bias.to(codes)

    def directions(self) -> Tensor:
        return self.write

    def reconstruct(self, acts: Tensor) -> Tensor:
        made = self.decode(self.encode(acts))
        return made if self.skip is None else made + acts @ self.skip.T.to(acts)


def origin(network: Network, writes: str, reads: str | None = None) -> Origin:
    return Origin(network.name, network.fingerprint, reads or writes, writes)


def small(
    network: Network, writes: str, *, reads: str | None = None, width: int = 24, keep: int | None = None,
    threshold: float = 0.0, skip: bool = False, seed: int = 0, name: str = "small", size: float = 1.0,
) -> Small:  # fmt: skip
    """Random directions, in double precision."""
    d = network.site(writes).width or 0
    draw = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    return Small(
        name, drawn(width, d) / d**0.5, 0.3 * drawn(width) * size, drawn(width, d) / d**0.5, 0.1 * drawn(d) * size,
        0.1 * drawn(d) * size, origin(network, writes, reads), keep, threshold, 0.3 * drawn(d, d) if skip else None,
    )  # fmt: skip
