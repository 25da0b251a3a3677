"""Which module reads what: the graph of modules in one real forward pass, by the identity of tensors.

Only modules are seen. Where a network calls a function between two modules (adds a residual, flattens), the chain
ends, and what would lie behind is reported as not known rather than guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cutaway.networks.families.generic import ACTIVATIONS, NORMS
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import Site

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample)
#: Modules whose output channel c depends on input channel c alone.
KEEPS_CHANNELS = (*ACTIVATIONS, *NORMS, *POOLS, nn.Identity, nn.Dropout, nn.Dropout2d)
READERS = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Call:
    """One module's turn in the pass: which tensors it was given and which it gave, as numbers."""

    order: int
    path: str
    module: nn.Module
    given: int
    gave: int


@dataclass(frozen=True, eq=False)
class Wiring:
    """All calls of modules without parts, in order."""

    calls: tuple[Call, ...]
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def call_of(self, site: Site) -> Call | None:
        """The call whose output (or input) is the site's tensor."""
        found = [call for call in self.calls if call.path == site.module]
        return found[site.call] if site.call < len(found) else None

    def producer(self, call: Call) -> Call | None:
        """The convolution or linear map behind a call, through modules that keep channels apart."""
        while not isinstance(call.module, READERS):
            if not isinstance(call.module, KEEPS_CHANNELS):
                return None
            before = self._giver(call)
            if before is None:
                return None
            call = before
        return call

    def readers(self, call: Call) -> list[Call]:
        """Convolutions and linear maps that read a call's output, through modules that keep channels apart."""
        found: list[Call] = []
        for later in self.calls:
            if later.order > call.order and later.given == call.gave:
                if isinstance(later.module, READERS):
                    found.append(later)
                elif isinstance(later.module, KEEPS_CHANNELS):
                    found += self.readers(later)
        return found

    def chain_before(self, call: Call) -> list[Call]:
        """The calls whose outputs lead, channel by channel, to what a call was given; the nearest first."""
        chain: list[Call] = []
        before = self._giver(call)
        while before is not None:
            chain.append(before)
            before = self._giver(before) if isinstance(before.module, KEEPS_CHANNELS) else None
        return chain

    def _giver(self, call: Call) -> Call | None:
        earlier = [each for each in self.calls if each.order < call.order and each.gave == call.given]
        return earlier[-1] if earlier else None


_known: WeakKeyDictionary[Network, Wiring] = WeakKeyDictionary()


def wiring(network: Network, batch: Batch) -> Wiring:
    """The wiring of a network, from one pass over ``batch``; the same object for the same network afterwards."""
    if network not in _known:
        _known[network] = _traced(network, batch)
    return _known[network]


def _traced(network: Network, batch: Batch) -> Wiring:
    calls: list[Call] = []
    seen: dict[int, int] = {}
    alive: list[Tensor] = []  # keeps tensors, so that no two of them share an identity

    def number(tensor: Any) -> int:
        tensor = tensor[0] if isinstance(tensor, (tuple, list)) and tensor else tensor
        if not isinstance(tensor, Tensor):
            return -1
        if id(tensor) not in seen:
            seen[id(tensor)] = len(alive)
            alive.append(tensor)
        return seen[id(tensor)]

    def remember(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            calls.append(Call(len(calls), path, module, number(args), number(output)))

        return hook

    handles = []
    try:
        for path, part in network.module.named_modules():
            if path and not any(True for _ in part.children()):
                handles.append(part.register_forward_hook(remember(path)))
        with torch.no_grad():
            network.run(batch)
    finally:
        for handle in handles:
            handle.remove()
    return Wiring(tuple(calls), {index: tuple(tensor.shape) for index, tensor in enumerate(alive)})


def mean_readout(network: Network, site: Site, batch: Batch) -> nn.Linear | None:
    """The last linear map, if what it is given is exactly the spatial mean of the site's map."""
    linears = [part for part in network.module.modules() if isinstance(part, nn.Linear)]
    if not linears or linears[-1].in_features != site.width:
        return None
    given: list[Tensor] = []
    handle = linears[-1].register_forward_pre_hook(lambda _module, args: given.append(args[0]))
    try:
        with torch.no_grad():
            acts = network.run(batch, capture=[site.name])[site.name]
    finally:
        handle.remove()
    mean = acts.mean((2, 3)) if acts.ndim == 4 else acts
    same = len(given) == 1 and given[0].shape == mean.shape
    return linears[-1] if same and torch.allclose(given[0], mean, rtol=1e-4, atol=1e-5) else None
