"""Null worlds for a whole network: the same architecture, without what training put into it.

    shuffled_weights   every tensor keeps its values and loses their places: all moments match exactly
    untrained_twin     every matrix is redrawn from a Gaussian of its own mean and standard deviation

Both take a module or a network and return a new one; the original is never touched. Three decisions:

- Vectors (biases, scales of normalisation, and the running mean and variance of batch norm) are permuted, not
  redrawn: a scale vector is often constant or one-sided and a Gaussian would flip signs. Vectors of one
  module that have the same length move together, so that a channel's running variance stays with its scale;
  moved apart, a small variance under a large scale blows the activations up and the twin fails for a dull
  reason.
- Other buffers (rotary frequencies, masks, input means) belong to the architecture and stay.
- Tied tensors stay tied; they are drawn once.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from cutaway.errors import NotTestable


@runtime_checkable
class HoldsModule(Protocol):
    """What a :class:`cutaway.networks.Network` promises this room."""

    @property
    def module(self) -> nn.Module:
        """The torch module with the parameters."""
        ...

    def with_module(self, module: nn.Module, suffix: str) -> "HoldsModule":
        """The same network around another module of the same architecture."""
        ...


M = TypeVar("M", bound=nn.Module | HoldsModule)
Redraw = Callable[[Tensor, torch.Generator], Tensor]


def shuffled_weights(network: M, *, seed: int = 0) -> M:
    """A copy whose tensors each hold the same values in random places (vectors: see the module's rules)."""
    return _rewritten(network, _permuted, f"shuffled-weights({seed})", seed)


def untrained_twin(network: M, *, seed: int = 0) -> M:
    """A copy whose matrices are Gaussian with exactly the mean and standard deviation of the trained ones.

    Stronger than a fresh initialisation as a null: layer by layer the twin has the trained network's scale,
    so a difference cannot be put down to size. :class:`NotTestable` for integer (quantised) parameters.
    """
    return _rewritten(network, _gaussian, f"untrained-twin({seed})", seed)


def _rewritten(network: M, redraw: Redraw, suffix: str, seed: int) -> M:
    module = network if isinstance(network, nn.Module) else network.module
    _require_floats(module)
    twin = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    seen: set[int] = set()
    with torch.no_grad():
        for part in twin.modules():
            orders: dict[int, Tensor] = {}
            for tensor in _own_tensors(part):
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    _rewrite(tensor, redraw, orders, generator)
    if isinstance(network, nn.Module):
        return cast(M, twin)
    return cast(M, network.with_module(twin, suffix=suffix))


def _require_floats(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if not parameter.is_floating_point():
            raise NotTestable(
                f"Parameter {name} is {parameter.dtype}; a twin needs floating-point parameters: dequantize."
            )


def _own_tensors(part: nn.Module) -> Iterator[Tensor]:
    yield from (parameter for _, parameter in part.named_parameters(recurse=False))
    if isinstance(part, _NormBase):
        yield from (buffer for buffer in (part.running_mean, part.running_var) if buffer is not None)


def _rewrite(tensor: Tensor, redraw: Redraw, orders: dict[int, Tensor], generator: torch.Generator) -> None:
    if tensor.ndim == 1:
        if len(tensor) not in orders:
            orders[len(tensor)] = torch.randperm(len(tensor), generator=generator)
        tensor.copy_(tensor[orders[len(tensor)].to(tensor.device)])
    elif tensor.numel() > 1:
        tensor.copy_(redraw(tensor, generator))


def _permuted(tensor: Shaped[Tensor, "..."], generator: torch.Generator) -> Shaped[Tensor, "..."]:
    order = torch.randperm(tensor.numel(), generator=generator)
    return tensor.flatten()[order.to(tensor.device)].view(tensor.shape)


def _gaussian(tensor: Shaped[Tensor, "..."], generator: torch.Generator) -> Shaped[Tensor, "..."]:
    exact = torch.promote_types(tensor.dtype, torch.float32)
    wanted_std, wanted_mean = torch.std_mean(tensor.to(exact), correction=0)
    drawn = torch.randn(tensor.shape, generator=generator, dtype=exact).to(tensor.device)
    std, mean = torch.std_mean(drawn, correction=0)
    return ((drawn - mean) / std * wanted_std + wanted_mean).to(tensor.dtype)
