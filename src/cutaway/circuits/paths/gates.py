"""How often hidden units let a path through on natural inputs: the weights of a path that nonlinearities switch.

An effective kernel takes every rectifier between two sites for the identity. Scaling each hidden unit by its gate rate,
the mean derivative of its activation function (for ReLU P(z > 0), for ReLU6 P(0 < z < 6)), gives the mean path instead,
if gates do not depend on each other. The share of positions at the ceiling (z >= 6) says how far even that is off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.paths.operations import ACTIVATIONS, given
from cutaway.circuits.paths.pictures import natural
from cutaway.circuits.paths.probing import no_path
from cutaway.circuits.paths.trace import Call, Rule, spatial_pair, trace
from cutaway.networks.network import Network


@dataclass(frozen=True, eq=False)
class GateRate:
    """How one activation between two sites treats each of its units.

    ``rate`` is the mean derivative over positions and stimuli (in [0, 1] for ReLU and ReLU6), ``saturated`` the share
    of positions at the upper bound (0 where there is none), ``n`` the number of stimuli.
    """

    label: str
    rate: Float[Tensor, " unit"]
    saturated: Float[Tensor, " unit"]
    n: int


def gate_rates(
    network: Network, source: str, target: str, *, stimuli: Any = None, count: int = 16, seed: int = 0
) -> tuple[GateRate, ...]:
    """The rates of all activations on the paths from a site to a later one, in order.

    ``stimuli`` (default: the built-in photographs) are drawn with ``seed``, at most ``count``. Give the result to
    :func:`cutaway.circuits.weights.kernel` as ``gates={each.label: each.rate for each in rates}``.
    """
    first, last = spatial_pair(network, source, target)
    sums: dict[str, list[Tensor]] = {}
    shown = 0
    for batch in natural(network, stimuli, count=count, seed=seed):
        path = trace(network, first, last, batch)
        if path is None:
            raise no_path(source, target)
        seen: dict[str, tuple[Tensor, Tensor]] = {}
        with torch.no_grad():
            path.replay(path.source, _watching(seen))
        for label, parts in seen.items():
            held = sums.setdefault(label, [torch.zeros_like(part) for part in parts])
            for total, part in zip(held, parts):
                total += part * len(batch)
        shown += len(batch)
    return tuple(GateRate(label, rate / shown, full / shown, shown) for label, (rate, full) in sums.items())


def _watching(seen: dict[str, tuple[Tensor, Tensor]]) -> Rule:
    def rule(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        if call.name in ACTIVATIONS and call.places[0][0] in ((0,), ("input",)):
            z = given(args, kwargs)
            slope = derivative(call, z, args, kwargs)
            ceiling = _ceiling(call, args, kwargs)
            full = torch.zeros_like(z) if ceiling is None else (z >= ceiling).to(z)
            seen[call.label] = (slope.mean((0, 2, 3)), full.mean((0, 2, 3)))
        return None

    return rule


def derivative(call: Call, z: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The derivative of an activation call at every number of ``z``, of the same shape."""
    with torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        given = leaf * 1.0  # a leaf cannot be changed in place
        out = call.function(given, *args[1:], **kwargs) if args else call.function(**{**kwargs, "input": given})
        (slope,) = torch.autograd.grad(out.sum(), leaf)
    return slope


def _ceiling(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    if call.name == "relu6":
        return 6.0
    if call.name == "hardtanh":
        return float(kwargs.get("max_val", args[2] if len(args) > 2 else 1.0))
    if call.name == "clamp":
        top = kwargs.get("max", args[2] if len(args) > 2 else None)
        return None if top is None else float(top)
    return None
