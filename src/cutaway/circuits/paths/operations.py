"""What the functions of a forward pass do to a map: which are nonlinear, which pool, which are linear.

A network is read by the torch functions that it really calls (see :mod:`.trace`), so that it makes no
difference whether a rectifier is a module, ``F.relu`` or a method. Functions are told by name because torch reaches
one operation by several objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ACTIVATIONS = frozenset({
    "relu", "relu6", "hardtanh", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish",
    "hardswish", "softplus", "softsign", "tanh", "sigmoid", "hardsigmoid", "logsigmoid", "clamp", "clamp_min",
    "clamp_max", "threshold", "hardshrink", "softshrink", "tanhshrink",
})  # fmt: skip
"""Functions of one map that act on each number alone."""

MAX_POOLS = frozenset({"max_pool2d", "max_pool2d_with_indices", "adaptive_max_pool2d"})
GLOBAL_POOLS = frozenset({"adaptive_avg_pool2d", "mean"})
NEUTRAL = frozenset(
    {"clone", "contiguous", "detach", "to", "float", "dropout", "dropout2d", "feature_dropout", "alpha_dropout"}
)
"""Functions that leave every number of a network in evaluation mode as it is."""


def plain_name(function: Any) -> str:
    """The name of a torch function without the mark of its in-place form: ``Tensor.relu_`` is ``relu``."""
    name = getattr(function, "__name__", type(function).__name__)
    return _OPERATORS.get(name, name if name.startswith("__") else name.rstrip("_"))


_OPERATORS = {
    f"__{mark}{name}__": name.replace("truediv", "div")
    for name in ("add", "sub", "mul", "truediv")
    for mark in ("", "i")
} | {"__radd__": "add", "__rmul__": "mul", "__rsub__": "rsub"}


def given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The first argument of a call, by place or as ``input``."""
    return args[0] if args else kwargs["input"]


def pair(value: int | tuple[int, ...] | list[int]) -> tuple[int, int]:
    """A size as (rows, columns)."""
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[-1]))


@dataclass(frozen=True)
class Convolution:
    """The arguments of one ``conv2d``: weight ``[out, in / groups, y, x]``, and its geometry as (rows, columns)."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def convolution(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Convolution:
    """Reads a ``conv2d`` call; ``padding="same"`` becomes the pixels before the map."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1} | dict(zip(names, args)) | kwargs
    weight, dilation = given["weight"], pair(given["dilation"])
    padding = given["padding"]
    if isinstance(padding, str):
        sides = (weight.shape[-2], weight.shape[-1])
        before = tuple(step * (side - 1) // 2 for step, side in zip(dilation, sides))
        padding = (0, 0) if padding == "valid" else before
    return Convolution(weight, given["bias"], pair(given["stride"]), pair(padding), dilation, int(given["groups"]))


def norm_scale(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor] | None:
    """Scale and shift of a ``batch_norm`` call in evaluation mode, one number a channel; None while it trains.

    ``scale = gamma / sqrt(var + eps)`` and ``shift = beta - mean * scale``, so that ``W' = W * scale`` and
    ``b' = b * scale + shift`` fold it into the convolution before it (Jacob et al. 2018, arXiv:1712.05877).
    """
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = {"weight": None, "bias": None, "training": False, "eps": 1e-5} | dict(zip(names, args)) | kwargs
    mean, var = given["running_mean"], given["running_var"]
    if given["training"] or mean is None or var is None:
        return None
    scale = torch.rsqrt(var + given["eps"])
    scale = scale if given["weight"] is None else scale * given["weight"]
    shift = -mean * scale if given["bias"] is None else given["bias"] - mean * scale
    return scale.detach(), shift.detach()


@dataclass(frozen=True)
class Pool:
    """The geometry of one pooling call, as (rows, columns)."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool
    dilation: tuple[int, int] = (1, 1)


def pool(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pool:
    """Reads a ``max_pool2d`` or ``avg_pool2d`` call."""
    maximum = name.startswith("max")
    names = ("input", "kernel_size", "stride", "padding", *(("dilation",) if maximum else ()), "ceil_mode")
    given = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False} | dict(zip(names, args)) | kwargs
    size = pair(given["kernel_size"])
    stride = pair(given["stride"]) if given["stride"] else size
    return Pool(size, stride, pair(given["padding"]), bool(given["ceil_mode"]), pair(given["dilation"]))


def averaged(x: Tensor, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The average pool with the window of a max-pool call."""
    if name == "adaptive_max_pool2d":
        return functional.adaptive_avg_pool2d(x, args[1] if len(args) > 1 else kwargs["output_size"])
    window = pool(name, args, kwargs)
    return functional.avg_pool2d(
        x, window.size, window.stride, window.padding, ceil_mode=window.ceil_mode, count_include_pad=False
    )
