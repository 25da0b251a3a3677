"""Inputs for tracing: noise of growing size, until the target map has an inner position."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.circuits.paths.trace import Path, trace
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.network import Network
from cutaway.networks.sites import Site

SIZES = (32, 64, 96, 128, 160, 192, 256, 384, 512, 768, 1024)
"""Sides of probe inputs in pixels: multiples of 32, so that "same" padding falls as it does on inputs of the usual
sizes."""


def no_path(source: str, target: str, how: str = "") -> BadInput:
    """The error for sites that nothing connects."""
    return BadInput(
        f"Weights from {source} to {target} were asked for, and no path leads there{' ' + how if how else ''}; the "
        "first site must come before the second (cutaway show lists sites in order)."
    )


def noise(network: Network, size: int) -> Float[Tensor, "1 channel y x"]:
    """Seeded noise that the network's first convolution takes; raises :class:`NotTestable` without one."""
    first = next((part for part in network.module.modules() if isinstance(part, nn.Conv2d)), None)
    if first is None or network.modality == "text":
        raise NotTestable(f"Weights between feature maps were asked for; {network.name} has no 2-d convolution.")
    drawn = torch.randn(1, first.in_channels, size, size, generator=torch.Generator().manual_seed(0))
    return drawn.to(network.device, first.weight.dtype)


def probe_paths(
    network: Network, source: Site, target: Site, *, room: int, sizes: tuple[int, ...] = SIZES
) -> Iterator[tuple[int, Path]]:
    """Sides in pixels and paths on growing inputs, from the first whose target map has ``room`` positions a side.

    Smaller maps come only where no size gives that much room. Raises ``BadInput`` where the target does not depend on
    the source.
    """
    small: list[tuple[int, Path]] = []
    found = False
    for size in sizes:
        try:
            path = trace(network, source, target, network.prepare(noise(network, size)))
        except RuntimeError:  # the network does not take this size
            continue
        if path is None:
            raise no_path(source.name, target.name)
        if min(path.target.shape[-2:]) >= room:
            found = True
            yield size, path
        elif not found:
            small = [*small[-2:], (size, path)]
    yield from reversed(small)
