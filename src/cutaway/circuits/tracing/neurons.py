"""How neurons bend: slopes of an MLP's hidden units in what it was given, whatever its gate and nonlinearity.

Held against a baseline, a unit's slope is its mean gradient on the straight way from the baseline's stream to this one
(integrated gradients, Sundararajan et al. 2017): times the difference of the streams it is the whole difference of the
unit, where the gradient at this point alone counts the two sides of a gate twice. Without a baseline it is the gradient
here. Norms keep this prompt's scale.

The MLP is called by itself, in double precision, and its hidden units are read where its last map reads them. So GELU,
SiLU, gated and fused MLPs need no case of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from cutaway.circuits.tracing.frozen import Body, normed, readings, scaled
from cutaway.errors import NotTestable
from cutaway.networks.anatomy import NormMath
from cutaway.networks.folded import inverse_scale

STEPS = 8  # points of the way from the baseline


@dataclass(frozen=True, eq=False)
class Readings:
    """What neurons read: ``rows`` of the stream (its scale included) and a ``constant`` from the norm's bias."""

    rows: Float[Tensor, "row d"]
    constant: Float[Tensor, " row"]


@dataclass(frozen=True, eq=False)
class Mlp:
    """One layer's MLP as a function of the stream."""

    module: torch.nn.Module
    down: torch.nn.Module
    norm: NormMath | None
    parameters: dict[str, Tensor]
    rounding: float

    @classmethod
    def of(cls, body: Body, layer: int) -> Mlp:
        """The MLP of a layer that has one."""
        parts = body.wired.parts.layers[layer]
        assert parts.mlp is not None and parts.down is not None
        module = body.wired.module(parts.mlp)
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        wide = {name: value.detach().to("cpu", torch.float64) for name, value in state.items()}
        return cls(module, body.wired.module(parts.down), body.norm(parts.mlp_norm), wide, body.rounding)

    def hidden(self, given: Float[Tensor, "row d"], share: Tensor | None = None) -> Float[Tensor, "row n"]:
        """Hidden units for what the MLP is given; ``share`` scales all biases in it."""
        caught: list[Tensor] = []
        handle = self.down.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
        state = {
            name: value * share if share is not None and name.endswith("bias") else value
            for name, value in self.parameters.items()
        }
        try:
            functional_call(self.module, state, (given[None],))
        finally:
            handle.remove()
        return caught[0][0]

    def at(self, stream: Float[Tensor, "row d"]) -> Float[Tensor, "row n"]:
        """Hidden units for a stream; the norm is computed anew."""
        with torch.no_grad():
            return self.hidden(normed(self.norm, stream))

    def check(self, stream: Float[Tensor, "pos d"], seen: Float[Tensor, "pos n"], layer: int) -> None:
        """Raises ``NotTestable`` where the MLP by itself is not what it is inside of the network."""
        apart = float((self.at(stream) - seen).abs().max())
        if apart > self.rounding * max(1.0, float(seen.abs().max())):
            raise NotTestable(
                f"The MLP of layer {layer} does something inside of the network that it does not do by itself (hidden "
                f"units differ by {apart:.2g}); its neurons cannot be traced."
            )

    def from_biases(self, stream: Float[Tensor, "pos d"]) -> Float[Tensor, "pos n"]:
        """What the MLP's own biases add to each hidden unit, to first order.

        One derivative of all units by one number: the gradient of <v, h> by that number, differentiated by v.
        """
        given = normed(self.norm, stream)
        if not any(name.endswith("bias") for name in self.parameters):
            return torch.zeros_like(self.hidden(given))
        with torch.enable_grad():
            share = torch.ones((), dtype=torch.float64, requires_grad=True)
            hidden = self.hidden(given, share)
            probe = torch.zeros_like(hidden, requires_grad=True)
            (back,) = torch.autograd.grad((hidden * probe).sum(), share, create_graph=True)
            (tangent,) = torch.autograd.grad(back, probe)
        return tangent

    def pulled(
        self,
        stream: Float[Tensor, "row d"],
        weights: Float[Tensor, "row n"],
        base: Float[Tensor, "row d"] | None = None,
        *,
        steps: int = STEPS,
    ) -> Readings:
        """The slope of a weighted sum of hidden units for each row of the stream, ``base`` being the baseline's
        rows.
        """
        scale = inverse_scale(self.norm, stream)[:, None]
        way = torch.zeros_like(stream) if base is None else scaled(self.norm, base - stream, scale)
        points = 1 if base is None else steps
        rows = torch.zeros_like(stream)
        for point in range(points):
            given = normed(self.norm, stream) + way * ((point + 0.5) / points)
            rows += self._gradient(given, weights) / points
        read, constant = readings(self.norm, rows)
        return Readings(read * scale, constant)

    def _gradient(self, given: Tensor, weights: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = given.detach().requires_grad_()
            (rows,) = torch.autograd.grad((self.hidden(leaf) * weights).sum(), leaf)
        return rows
