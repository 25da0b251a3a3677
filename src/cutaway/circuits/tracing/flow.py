"""How the metric flows back through a frozen pass: its gradient at every point of the stream, in one sweep.

With patterns and norm scales held fixed and neurons replaced by their slopes, the metric's gradient g at a part's
output says what one more unit of it would do through all later parts together. A part's share is a = g . (output -
baseline), in the metric's unit. Shares are conserved: what flows into a part from earlier ones, from biases and from
what its slope leaves out is its share; what flows out of it to later ones is, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.tracing.baselines import Baseline
from cutaway.circuits.tracing.frozen import Body, HeadWeights, Pass, readings, wide
from cutaway.circuits.tracing.neurons import Mlp
from cutaway.circuits.tracing.question import Question
from cutaway.networks.anatomy import weight_in_out
from cutaway.networks.folded import inverse_scale


@dataclass(frozen=True, eq=False)
class Flow:
    """Gradients of the metric and the shares of all heads and neurons, by layer.

    ``behind`` [pos d] is the gradient at what a layer's MLP writes, ``between`` at what its heads write, ``end`` at the
    last stream; ``constant`` is what the output's own biases add.
    """

    end: Float[Tensor, "pos d"]
    constant: float
    behind: tuple[Float[Tensor, "pos d"], ...]
    between: tuple[Float[Tensor, "pos d"], ...]
    heads: tuple[Float[Tensor, "head pos"], ...]
    neurons: tuple[Float[Tensor, "pos n"] | None, ...]


def sweep(body: Body, seen: Pass, question: Question, baseline: Baseline) -> Flow:
    """One walk from the output back to the embeddings."""
    end, constant = _end(body, seen, question)
    gradient = end
    layers = []
    for layer in reversed(range(body.depth)):
        found = _layer(body, seen, baseline, layer, gradient)
        gradient = found[-1]
        layers.append(found[:-1])
    behind, between, heads, neurons = zip(*reversed(layers))
    return Flow(end, constant, behind, between, heads, neurons)


def _end(body: Body, seen: Pass, question: Question) -> tuple[Tensor, float]:
    """The metric as a reading of the last stream, and its constant."""
    parts = body.wired.parts
    norm = body.norm(parts.final_norm)
    module = body.wired.module(parts.unembed or "")
    bias = getattr(module, "bias", None)
    rows = question.read(wide(weight_in_out(module)))  # the difference that is taken of logits, taken of readings
    offset = 0.0 if bias is None else float(question.read(wide(bias)[None])[0])
    end = torch.zeros_like(seen.final)
    at = question.position
    read, constant = readings(norm, rows)
    end[at] = read * inverse_scale(norm, seen.final[at])
    return end, offset + float(constant)


def _layer(
    body: Body, seen: Pass, baseline: Baseline, layer: int, behind: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """Gradients and shares of one layer, and last the gradient before it."""
    pulled, neurons = _mlp(body, seen, baseline, layer, behind)
    between = behind if body.wired.parts.layers[layer].parallel else behind + pulled
    weights = body.heads(layer)
    moved = head_readings(weights, between)
    scale = inverse_scale(weights.norm, seen.streams[layer])
    back = torch.einsum("hps,hpd->sd", seen.patterns[layer], moved) * scale[:, None]
    shares = head_shares(weights, between, seen.written.heads[layer] - baseline.written.heads[layer])
    return behind, between, shares, neurons, behind + pulled + back


def head_readings(weights: HeadWeights, gradient: Float[Tensor, "pos d"]) -> Float[Tensor, "head pos d"]:
    """What each head at each position reads of a value's stream at scale 1 and attention 1, along the gradient."""
    return torch.einsum("hpr,hrd->hpd", torch.einsum("her,pe->hpr", weights.out, gradient), weights.value)


def head_shares(
    weights: HeadWeights, gradient: Float[Tensor, "pos d"], heads: Float[Tensor, "head pos r"]
) -> Float[Tensor, "head pos"]:
    """g . output of each head at each position."""
    return (torch.einsum("her,pe->hpr", weights.out, gradient) * heads).sum(-1)


def _mlp(body: Body, seen: Pass, baseline: Baseline, layer: int, behind: Tensor) -> tuple[Tensor, Tensor | None]:
    down, stream, hidden = body.down(layer), seen.mids[layer], seen.written.hidden[layer]
    if down is None or stream is None or hidden is None:
        return torch.zeros_like(behind), None
    mlp, other = Mlp.of(body, layer), baseline.written.hidden[layer]
    mlp.check(stream, hidden, layer)
    assert other is not None
    along = behind @ down[0].T
    return mlp.pulled(stream, along, baseline.mids[layer]).rows, along * (hidden - other)
