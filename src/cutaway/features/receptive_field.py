"""Which part of the input a unit of a feature map can see: measured, not computed from a layer list.

The gradient of a map position with respect to the input is zero outside its receptive field whatever the network, so
its support on random inputs is the field. Two neighbouring positions give the stride; all others follow by
translation. One random input could miss the border (a max pooling passes one pixel on, a rectifier may be shut), so
the union over all units of the site and over several inputs is taken.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import Site

DRAWS = 3
_SMALLEST_PROBE, _LARGEST_PROBE = 64, 1024

_known: WeakKeyDictionary[Network, dict[tuple[str, int, int], ReceptiveField | None]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Box:
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of the input, ends excluded; may stick out."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True)
class ReceptiveField:
    """The field of the map's first position, and how far it moves from one position to the next, in input pixels."""

    first: Box
    stride: tuple[int, int]

    def at(self, y: int, x: int) -> Box:
        """The field of the position in row ``y`` and column ``x``."""
        down, right = y * self.stride[0], x * self.stride[1]
        return Box(self.first.top + down, self.first.bottom + down, self.first.left + right, self.first.right + right)


def receptive_field(network: Network, site: Site, size: tuple[int, int]) -> ReceptiveField | None:
    """The receptive field at a feature-map ``site`` for inputs of ``size`` (rows, columns).

    None where there is no smaller one than the whole input: global pooling on the way, or a network that takes no
    other size than one that the field fills. Measured once for each network, site and size.
    """
    if not site.spatial:
        return None
    known = _known.setdefault(network, {})
    key = (site.name, *size)
    if key not in known:
        known[key] = _measured(network, site, size)
    return known[key]


def _measured(network: Network, site: Site, size: tuple[int, int]) -> ReceptiveField | None:
    # Multiples of 64 away keep what "same" padding depends on: the size modulo the network's stride.
    for step in (-6, -4, -2, 0, 2, 4, 8, 12):
        probe = (size[0] + 64 * step, size[1] + 64 * step)
        if step < 0 and min(probe) < _SMALLEST_PROBE:
            continue
        if max(probe) > _LARGEST_PROBE and step > 0:
            break
        try:
            found = _try(network, site, probe)
        except RuntimeError:  # the network does not take this size
            continue
        if found is not None:
            return found
    return None


def _try(network: Network, site: Site, size: tuple[int, int]) -> ReceptiveField | None:
    """The field from two inner positions; None if either reaches the border of the probe."""
    boxes = _boxes(network, site, size)
    if boxes is None or any(_touches(box, size) for box in boxes[1:]):
        return None
    (y, x), here, there = boxes
    stride = (there.top - here.top, there.left - here.left)
    first = Box(
        here.top - y * stride[0], here.bottom - y * stride[0], here.left - x * stride[1], here.right - x * stride[1]
    )
    return ReceptiveField(first, stride)


def _touches(box: Box, size: tuple[int, int]) -> bool:
    return box.top <= 0 or box.left <= 0 or box.bottom >= size[0] or box.right >= size[1]


def _boxes(network: Network, site: Site, size: tuple[int, int]) -> tuple[tuple[int, int], Box, Box] | None:
    """A position near the middle, and the gradient's support there and one step down and right."""
    generator = torch.Generator().manual_seed(0)
    support: list[Tensor | None] = [None, None]
    middle = (0, 0)
    for _ in range(DRAWS):
        pixels = _noise(network, size, generator).requires_grad_()
        acts = network.run(_like_image(network, pixels), capture=[site.name], stop_at=True, grad=True)[site.name]
        rows, columns = acts.shape[-2:]
        if rows < 2 or columns < 2:
            return None
        middle = ((rows - 1) // 2, (columns - 1) // 2)
        for step in (0, 1):
            seen = acts[0, :, middle[0] + step, middle[1] + step].sum()
            (gradient,) = torch.autograd.grad(seen, pixels, retain_graph=step == 0)
            reached = gradient[0].abs().amax(0) > 0
            before = support[step]
            support[step] = reached if before is None else before | reached
    here, there = (_box(each) for each in support if each is not None)
    return None if here is None or there is None else (middle, here, there)


def _noise(network: Network, size: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "1 channel y x"]:
    first = next(part for part in network.module.modules() if isinstance(part, torch.nn.Conv2d))
    noise = torch.randn(1, first.in_channels, *size, generator=generator)
    # Away from zero, at the scale of pixels in this network's units, so that rectifiers are open somewhere.
    scale = getattr(network.preprocess, "scale", (1.0,))
    wide = 50.0 if max(scale) <= 1.0 and network.preprocess is not None else 1.0
    return (wide * noise).to(network.device, first.weight.dtype)


def _like_image(network: Network, pixels: Float[Tensor, "1 channel y x"]) -> Batch:
    batch = network.prepare(pixels.detach())
    return dataclasses.replace(batch, inputs=dict.fromkeys(batch.inputs, pixels))


def _box(support: Tensor) -> Box | None:
    rows, columns = support.any(1).nonzero().flatten(), support.any(0).nonzero().flatten()
    if not len(rows):
        return None
    return Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
