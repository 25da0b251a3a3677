"""Linear maps between feature maps, read from weights and multiplied out.

A :class:`LinearMap` says that, away from the border, channel ``t`` of a later map at row ``y`` is

    sum over c, i of  values[t, c, i] * source[c, y * stride + offset + i]  +  bias[t]

(columns alike). Composing the maps of a path's calls gives the kernel from its source to its target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cutaway.circuits.paths.operations import (
    ACTIVATIONS,
    MAX_POOLS,
    NEUTRAL,
    Convolution,
    convolution,
    norm_scale,
    plain_name,
    pool,
)
from cutaway.circuits.paths.trace import Call, Path
from cutaway.errors import NotTestable

Pair = tuple[int, int]
Gates = Mapping[str, Float[Tensor, " unit"]]


@dataclass(frozen=True, eq=False)
class LinearMap:
    """The linear map from a source map to a later one; see the module.

    ``diagonal``: channel ``t`` reads source channel ``t`` alone, and the second axis has length 1. ``resampled``: the
    later map was resized, so ``values`` are weights of the resized source and positions have no common grid.
    """

    values: Float[Tensor, "target source y x"]
    bias: Float[Tensor, " target"]
    diagonal: bool = False
    stride: Pair = (1, 1)
    offset: Pair = (0, 0)
    resampled: bool = False

    @property
    def size(self) -> Pair:
        """Rows and columns of the window."""
        return int(self.values.shape[-2]), int(self.values.shape[-1])

    @property
    def is_identity(self) -> bool:
        """True if nothing but the source itself has been met."""
        return self.diagonal and self.size == (1, 1) and bool((self.values == 1).all())

    def dense(self) -> LinearMap:
        """The same with every source channel on the second axis, zeros included."""
        if not self.diagonal:
            return self
        full = torch.diag_embed(self.values[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
        return replace(self, values=full.contiguous(), diagonal=False)

    def scaled(self, scale: Float[Tensor, " target"]) -> LinearMap:
        """Each target channel times a number."""
        return replace(self, values=self.values * scale[:, None, None, None], bias=self.bias * scale)


def identity(width: int, like: Tensor) -> LinearMap:
    """The map from a map of ``width`` channels to itself."""
    return LinearMap(like.new_ones(width, 1, 1, 1), like.new_zeros(width), diagonal=True)


def convolved(before: LinearMap, conv: Convolution) -> LinearMap:
    """A convolution after a map: their convolution product, on the grid of the source."""
    if before.resampled and conv.weight.shape[-2:] != (1, 1):
        raise NotTestable("A convolution of more than one position reads a resized map; use expanded weights.")
    weight, by_channel = _by_channel(conv, before)
    before = before if by_channel or weight.shape[1] == before.values.shape[0] else before.dense()
    taps, size = _steps(conv, before), before.size
    wide = [step * (side - 1) + length for step, side, length in zip(taps, weight.shape[-2:], size)]
    sources = 1 if before.diagonal and by_channel else (before.values.shape[0 if before.diagonal else 1])
    values = weight.new_zeros(weight.shape[0], sources, *wide)
    for row in range(weight.shape[-2]):
        for column in range(weight.shape[-1]):
            top, left = row * taps[0], column * taps[1]
            part = _mixed(weight[:, :, row, column], before, by_channel)
            values[:, :, top : top + size[0], left : left + size[1]] += part
    summed = weight.sum((2, 3))
    bias = summed[:, 0] * before.bias if by_channel else summed @ before.bias
    bias = bias if conv.bias is None else bias + conv.bias.detach()
    offset = _moved(before.offset, conv.padding, before.stride)
    stride = (before.stride[0] * conv.stride[0], before.stride[1] * conv.stride[1])
    return LinearMap(values, bias, before.diagonal and by_channel, stride, offset, before.resampled)


def _by_channel(conv: Convolution, before: LinearMap) -> tuple[Tensor, bool]:
    """The weight with groups written out as zeros, or, where each channel has its own filter, as it is."""
    weight, width = conv.weight.detach(), before.values.shape[0]
    if conv.groups == 1:
        return weight, False
    if conv.groups == width == weight.shape[0]:
        return weight, True
    outputs, inputs = weight.shape[0] // conv.groups, weight.shape[1]
    full = weight.new_zeros(weight.shape[0], width, *weight.shape[2:])
    for group in range(conv.groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        full[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return full, False


def _mixed(weight: Tensor, before: LinearMap, by_channel: bool) -> Tensor:
    """One tap's mixture of the channels of the map before: ``[target source y x]``."""
    if by_channel:
        return weight[:, :, None, None] * before.values
    if before.diagonal:
        return weight[:, :, None, None] * before.values.transpose(0, 1)
    return torch.einsum("tm,mcyx->tcyx", weight, before.values)


def _steps(conv: Convolution, before: LinearMap) -> Pair:
    return conv.dilation[0] * before.stride[0], conv.dilation[1] * before.stride[1]


def _moved(offset: Pair, padding: Pair, stride: Pair) -> Pair:
    return offset[0] - padding[0] * stride[0], offset[1] - padding[1] * stride[1]


def added(maps: list[LinearMap]) -> LinearMap:
    """The sum of maps from one source, each window in its place."""
    if len(maps) == 1:
        return maps[0]
    if len({(each.stride, each.resampled) for each in maps}) > 1:
        raise NotTestable("Branches of different strides meet on the way, so there is no one kernel; use expanded.")
    maps = [each.dense() for each in maps] if len({each.diagonal for each in maps}) > 1 else maps
    first = [min(each.offset[axis] for each in maps) for axis in (0, 1)]
    last = [max(each.offset[axis] + each.size[axis] for each in maps) for axis in (0, 1)]
    values = sum((_framed(each, first, last) for each in maps), torch.zeros(()))
    bias = torch.stack([each.bias for each in maps]).sum(0)
    return replace(maps[0], values=values, bias=bias, offset=(first[0], first[1]))


def _framed(each: LinearMap, first: list[int], last: list[int]) -> Tensor:
    before = [each.offset[axis] - first[axis] for axis in (0, 1)]
    after = [last[axis] - each.offset[axis] - each.size[axis] for axis in (0, 1)]
    return functional.pad(each.values, (before[1], after[1], before[0], after[0]))


# -- one handler for each function -------------------------------------------------------------------------------


def compose(path: Path, gates: Gates | None = None) -> LinearMap:
    """The linear map of a path whose activations pass everything, or the share of ``gates`` (by label).

    Max pools inside the path are replaced by the sum over their window (each position could be the maximum: the
    weight is repeated over the window), which keeps the grid only at stride 1. Raises :class:`NotTestable` for a
    function that is no linear map between grids.
    """
    maps = {path.start: identity(path.source.shape[1], path.source)}
    for call in path.calls:
        handler = _HANDLERS.get(call.name)
        if handler is None:
            raise NotTestable(
                f"The weights run through {call.label} ({plain_name(call.function)}), which is no kernel of its own; "
                "ask for expanded weights (--expanded average)."
            )
        maps[call.gives] = handler(call, [maps[number] for number in call.takes], gates or {})
    return maps[path.end]


Handler = Callable[[Call, list[LinearMap], Gates], LinearMap]


def _conv(call: Call, maps: list[LinearMap], _gates: Gates) -> LinearMap:
    return convolved(maps[0], convolution(call.args, call.kwargs))


def _norm(call: Call, maps: list[LinearMap], _gates: Gates) -> LinearMap:
    folded = norm_scale(call.args, call.kwargs)
    if folded is None:
        raise NotTestable(f"{call.label} normalizes by its batch, so its weights change with the input; use eval().")
    scaled = maps[0].scaled(folded[0])
    return replace(scaled, bias=scaled.bias + folded[1])


def _activation(call: Call, maps: list[LinearMap], gates: Gates) -> LinearMap:
    return maps[0].scaled(gates[call.label]) if call.label in gates else maps[0]


def _pad(call: Call, maps: list[LinearMap], _gates: Gates) -> LinearMap:
    sizes = [int(each) for each in (call.args[1] if len(call.args) > 1 else call.kwargs["pad"])]
    before = (sizes[2] if len(sizes) > 2 else 0, sizes[0])
    return replace(maps[0], offset=_moved(maps[0].offset, before, maps[0].stride))


def _pool(call: Call, maps: list[LinearMap], _gates: Gates) -> LinearMap:
    if call.name in MAX_POOLS and (
        call.name.startswith("adaptive") or pool(call.name, call.args, call.kwargs).stride != (1, 1)
    ):
        raise NotTestable(
            f"The pool {call.label} lies between convolutions on the way, so there is no one kernel; ask for "
            "expanded weights (--expanded average)."
        )
    window = pool(call.name, call.args, call.kwargs)
    share = 1.0 if call.name in MAX_POOLS else 1 / math.prod(window.size)
    width = maps[0].values.shape[0]
    box = maps[0].values.new_full((width, 1, *window.size), share)
    return convolved(maps[0], Convolution(box, None, window.stride, window.padding, window.dilation, width))


def _sum(call: Call, maps: list[LinearMap], _gates: Gates) -> LinearMap:
    second = {number for (index, *_), number in call.places if index in (1, "other")}
    signed = [
        _times(each, -1.0) if call.name == "sub" and number in second else each
        for number, each in zip(call.takes, maps)
    ]
    return added(signed)


def _product(call: Call, maps: list[LinearMap], _gates: Gates) -> LinearMap:
    return _times(maps[0], constant_factor(call))


def _times(each: LinearMap, factor: Any) -> LinearMap:
    scale = torch.as_tensor(factor, dtype=each.bias.dtype, device=each.bias.device).detach()
    return each.scaled(scale.flatten().expand_as(each.bias))


def constant_factor(call: Call) -> Any:
    """What a product or quotient multiplies the path by: a number, or one for each channel."""
    others = [value for index, value in enumerate(call.args) if (index,) not in {place for place, _ in call.places}]
    others += [value for name, value in call.kwargs.items() if name == "other"]
    by_channel = (call.shape[1], 1, 1)
    fits = len(call.places) == 1 and len(others) == 1
    factor = others[0] if fits else None
    if isinstance(factor, Tensor) and factor.numel() > 1 and tuple(factor.shape)[-3:] != by_channel:
        factor = None
    if factor is None or (call.name == "div" and call.places[0][0] != (0,)):
        raise NotTestable(f"{call.label} multiplies maps with each other, so its weights change with the input.")
    return 1 / factor if call.name == "div" else factor


def _concatenated(call: Call, maps: list[LinearMap], _gates: Gates) -> LinearMap:
    """Each map in its own channels; channels that do not depend on the source are zero."""
    tensors = call.args[0] if call.args else call.kwargs["tensors"]
    axis = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
    if axis not in (1, -3):
        raise NotTestable(f"{call.label} joins maps along another axis than channels; ask for expanded weights.")
    starts = [0]
    for tensor in tensors:
        starts.append(starts[-1] + tensor.shape[1])
    wide = []
    for (place, _), each in zip(call.places, maps):
        rest = call.shape[1] - starts[place[-1] + 1]
        values = functional.pad(each.dense().values, (0, 0, 0, 0, 0, 0, starts[place[-1]], rest))
        wide.append(
            replace(each, values=values, bias=functional.pad(each.bias, (starts[place[-1]], rest)), diagonal=False)
        )
    return added(wide)


def _resized(_call: Call, maps: list[LinearMap], _gates: Gates) -> LinearMap:
    return replace(maps[0], resampled=True)


def _same(_call: Call, maps: list[LinearMap], _gates: Gates) -> LinearMap:
    return maps[0]


_HANDLERS: dict[str, Handler] = {
    "conv2d": _conv, "batch_norm": _norm, "pad": _pad, "add": _sum, "sub": _sum, "mul": _product, "div": _product,
    "cat": _concatenated, "concat": _concatenated, "interpolate": _resized, "upsample": _resized, "avg_pool2d": _pool,
    **dict.fromkeys(ACTIVATIONS, _activation), **dict.fromkeys(NEUTRAL, _same), **dict.fromkeys(MAX_POOLS, _pool),
}  # fmt: skip
