"""Gradients for images that start dead: for some steps a shut rectifier passes on what would open it.

An image whose unit is silent has no gradient at all. While :func:`redirected` is active, a rectifier that would give
an item of the batch no gradient whatsoever gives it the one that pushes inputs towards the open interval instead:
above 0, and below 6 for ReLU6 (Lucid's ``redirected_relu_grad`` and ``redirected_relu6_grad``). Outputs are not
changed.

Only modules (``nn.ReLU``, ``nn.ReLU6``) are reached; a rectifier that is called as a function has nothing to hook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class _Redirected(torch.autograd.Function):
    """min(max(x, 0), top), whose backward follows the rule above."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, top: float) -> Tensor:
        ctx.save_for_backward(values)
        ctx.top = top
        return torch.relu(values) if top == torch.inf else values.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (values,), (gradient,) = ctx.saved_tensors, gradients
        shut = values <= 0 if ctx.top == torch.inf else (values <= 0) | (values >= ctx.top)
        plain = gradient.masked_fill(shut, 0)
        axes = tuple(range(1, plain.ndim))
        silent = (plain.amax(axes, keepdim=True) == 0) & (plain.amin(axes, keepdim=True) == 0)
        if not silent.any():
            return plain, None
        # The gradient is that of a loss: a negative one asks for more.
        wrong_way = ((values <= 0) & (gradient > 0)) | ((values >= ctx.top) & (gradient < 0))
        return torch.where(silent, gradient.masked_fill(wrong_way, 0), plain), None


@contextmanager
def redirected(module: nn.Module) -> Iterator[None]:
    """Redirects gradients of every ReLU and ReLU6 below ``module``; its hooks are gone afterwards, come what may."""
    handles: list[Any] = []
    try:
        for part in module.modules():
            if isinstance(part, (nn.ReLU, nn.ReLU6)):
                handles += _hook(part)
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(part: nn.ReLU | nn.ReLU6) -> list[Any]:
    top = 6.0 if isinstance(part, nn.ReLU6) else torch.inf
    if not part.inplace:
        return [part.register_forward_hook(_replace(top))]
    # An in-place rectifier overwrites what it was given: keep that, and let it work on a copy.
    given: list[Tensor] = []

    def keep(_part: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        given.append(args[0])
        return (args[0].clone(), *args[1:])

    def replace(_part: nn.Module, _args: tuple[Any, ...], _output: Tensor) -> Tensor:
        return _Redirected.apply(given.pop(), top)  # type: ignore[return-value]

    return [part.register_forward_pre_hook(keep), part.register_forward_hook(replace)]


def _replace(top: float) -> Callable[..., Tensor]:
    def replace(_part: nn.Module, args: tuple[Any, ...], _output: Tensor) -> Tensor:
        return _Redirected.apply(args[0], top)  # type: ignore[return-value]

    return replace
