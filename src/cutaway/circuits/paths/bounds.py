"""The best case: how large a weight across nonlinear layers can become, whatever the gates do.

The gradient of a target with respect to one source entry is a sum over paths. Rectifiers multiply paths by gates in
[0, 1]; a max pool sends a path to one position of its window, which one depends on the input. Averages over inputs can
cancel (a unit that likes both polarities of an edge has an expanded weight of zero); the extremes over gates cannot.

Definition. Let every rectifier unit at every position have a gate in [0, 1], chosen anew for each path above it, and
let every pool pass its gradient to any position of its window. ``high`` and ``low`` are the largest and the smallest
value that the gradient can take, for each source entry by itself. They follow from one pass backwards with an interval
(interval arithmetic, Moore 1966): at a gate [l, h] becomes [min(l, 0), max(h, 0)]; through weights W = W+ + W- the new
h is W+' h + W-' l and the new l is W+' l + W-' h. With one gated layer between source and target the extremes are
attained; with more they are bounds, since one gate then serves several paths.

The pass is written as a linear network on pairs (high, low), stacked on the batch axis, whose transpose is the
recursion, so that autograd does the work for any stride, padding or branch and for many targets at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from cutaway.circuits.paths.composition import constant_factor
from cutaway.circuits.paths.operations import ACTIVATIONS, MAX_POOLS, NEUTRAL, convolution, given, norm_scale, pool
from cutaway.circuits.paths.trace import Call
from cutaway.errors import NotTestable

#: Linear functions whose coefficients are not negative: high stays high.
_MONOTONE = NEUTRAL | {
    "add", "pad", "cat", "concat", "avg_pool2d", "adaptive_avg_pool2d", "interpolate", "upsample", "mean", "sum",
    "flatten", "reshape", "view", "permute", "transpose", "__getitem__", "chunk", "split", "pixel_shuffle",
}  # fmt: skip


class _Gate(torch.autograd.Function):
    """The identity forwards; backwards the hull of an interval and zero."""

    @staticmethod
    def forward(ctx: Any, pairs: Tensor) -> Tensor:
        """Nothing happens to the pairs themselves."""
        return pairs.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """``[low, high]`` becomes ``[min(low, 0), max(high, 0)]``."""
        high, low = grads[0].unbind(0)
        return torch.stack([high.clamp(min=0), low.clamp(max=0)])


def best_case(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The replay rule for pairs; raises :class:`NotTestable` for a function whose signs are not known."""
    if call.name in ACTIVATIONS:
        return _Gate.apply(given(args, kwargs))  # type: ignore[return-value]
    if call.name in MAX_POOLS:
        return _spread(call, given(args, kwargs), args, kwargs)
    if call.name in ("cat", "concat"):
        return torch.cat([_as_pair(each) for each in args[0]], *args[1:], **kwargs)
    if call.name in _SIGNED:
        return _SIGNED[call.name](call, args, kwargs)
    if call.name not in _MONOTONE:
        raise NotTestable(
            f"The best case was asked for through {call.label} ({call.name}), whose sign is not known; ask for the "
            "smoothed version."
        )
    return None


def _spread(call: Call, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Every position of the window may be the maximum, and may not be."""
    if call.name == "adaptive_max_pool2d":
        raise NotTestable(f"The best case was asked for through {call.label}, whose windows differ; ask for another.")
    window = pool(call.name, args, kwargs)
    total = functional.avg_pool2d(x, window.size, window.stride, window.padding, window.ceil_mode, divisor_override=1)
    return _Gate.apply(total)  # type: ignore[return-value]


def _as_pair(tensor: Tensor) -> Tensor:
    return tensor if len(tensor) == 2 else tensor[:1].expand(2, *tensor.shape[1:])


def _by_sign(x: Tensor, positive: Callable[[Tensor], Tensor], negative: Callable[[Tensor], Tensor]) -> Tensor:
    """A linear function split into its positive and its negative coefficients; the latter swap high and low."""
    return positive(x) + negative(x.flip(0))


def _convolved(_call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    x, conv = given(args, kwargs), convolution(args, kwargs)
    weight = conv.weight.detach()

    def through(part: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda pairs: functional.conv2d(pairs, part, None, conv.stride, conv.padding, conv.dilation, conv.groups)

    return _by_sign(x, through(weight.clamp(min=0)), through(weight.clamp(max=0)))


def _scaled(x: Tensor, scale: Tensor) -> Tensor:
    return _by_sign(x, lambda pairs: pairs * scale.clamp(min=0), lambda pairs: pairs * scale.clamp(max=0))


def _normed(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    folded = norm_scale(args, kwargs)
    if folded is None:
        raise NotTestable(f"{call.label} normalizes by its batch, so its weights change with the input; use eval().")
    return _scaled(given(args, kwargs), folded[0][:, None, None])


def _multiplied(call: Call, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Tensor:
    factor = torch.as_tensor(constant_factor(call)).detach()
    x = cast(Tensor, args[int(call.places[0][0][0])])
    return _scaled(x, factor.to(x).reshape(-1, 1, 1) if factor.numel() > 1 else factor.to(x).reshape(()))


def _subtracted(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    depends = {place[0] for place, _ in call.places}
    first, second = args if len(args) == 2 else (args[0], kwargs["other"])
    plus = first if 0 in depends else torch.zeros(())
    return plus - second.flip(0) if depends & {1, "other"} else plus * 1.0


_SIGNED: dict[str, Callable[[Call, tuple[Any, ...], dict[str, Any]], Tensor]] = {
    "conv2d": _convolved, "batch_norm": _normed, "mul": _multiplied, "div": _multiplied, "sub": _subtracted,
}  # fmt: skip
