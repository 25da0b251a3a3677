"""How the metric flows back through a frozen pass: its gradient at every point of the stream, in one sweep.

With patterns and norm scales held fixed and neurons replaced by their slopes, the metric's gradient g at a part's
output says what one more unit of it would do through all later parts together. A part's share is a = g . (output -
baseline), in the metric's unit. Shares are conserved: what flows into a part from earlier ones, from biases and from
what its slope leaves out is its share; what flows out of it to later ones is, too. Where a basis stands, everything
that was written there goes on through its active latents alone: its error is a leaf, which nothing flows into.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.tracing.baselines import Baseline
from cutaway.circuits.tracing.features import Coded, coded_places
from cutaway.circuits.tracing.features.places import ATTN_OUT, MLP_OUT, RESID
from cutaway.circuits.tracing.frozen import Body, HeadWeights, Pass, readings, wide
from cutaway.circuits.tracing.neurons import Mlp
from cutaway.circuits.tracing.question import Question
from cutaway.networks.anatomy import weight_in_out
from cutaway.networks.folded import inverse_scale


@dataclass(frozen=True, eq=False)
class Through:
    """A place and what flows through it: ``gradient`` [pos e] of the metric at what it writes, its products with the
    directions of active latents (``along``), and their ``shares``.
    """

    coded: Coded
    gradient: Float[Tensor, "pos e"]
    along: Float[Tensor, " active"]

    @property
    def shares(self) -> Float[Tensor, " active"]:
        """g . (what each active latent writes beyond its baseline)."""
        return self.along * (self.coded.value - self.coded.base)


@dataclass(frozen=True, eq=False)
class Flow:
    """Gradients of the metric and the shares of all heads and neurons, by layer, and of latents, by place.

    ``behind`` [pos d] is the gradient at what a layer's neurons write, ``between`` at what its heads write, ``end`` at
    the last stream; ``constant`` is what the output's own biases add.
    """

    end: Float[Tensor, "pos d"]
    constant: float
    behind: tuple[Float[Tensor, "pos d"], ...]
    between: tuple[Float[Tensor, "pos d"], ...]
    heads: tuple[Float[Tensor, "head pos"], ...]
    neurons: tuple[Float[Tensor, "pos n"] | None, ...]
    through: dict[str, Through] = field(default_factory=dict)

    def at(self, layer: int, part: str) -> Through | None:
        """What flows through the basis behind a part of a layer, if there is one."""
        return next(
            (x for x in self.through.values() if (x.coded.place.layer, x.coded.place.part) == (layer, part)), None
        )


def sweep(body: Body, seen: Pass, question: Question, baseline: Baseline) -> Flow:
    """One walk from the output back to the embeddings."""
    end, constant = _end(body, seen, question)
    walk = _Sweep(body, seen, baseline, end)
    layers = [walk.layer(layer) for layer in reversed(range(body.depth))]
    behind, between, heads, neurons = zip(*reversed(layers))
    forward = {place.name: walk.through[place.name] for place in body.places}
    return Flow(end, constant, behind, between, heads, neurons, forward)


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


class _Sweep:
    """The walk: ``gradient`` is the metric's at the stream behind the layer that comes next."""

    def __init__(self, body: Body, seen: Pass, baseline: Baseline, end: Tensor) -> None:
        self.body, self.seen, self.baseline, self.gradient = body, seen, baseline, end
        self.coded = {each.place.name: each for each in coded_places(body.places, seen.coded, baseline.coded)}
        self.through: dict[str, Through] = {}

    def layer(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Gradients behind the neurons and the heads of a layer, and their shares."""
        self.gradient = self._before(layer, RESID, self.gradient)
        behind, pulled, neurons = self._mlp(layer)
        parallel = self.body.wired.parts.layers[layer].parallel
        between = self._before(layer, ATTN_OUT, self.gradient if parallel else self.gradient + pulled)
        weights = self.body.heads(layer)
        scale = inverse_scale(weights.norm, self.seen.streams[layer])
        back = torch.einsum("hps,hpd->sd", self.seen.patterns[layer], head_readings(weights, between)) * scale[:, None]
        beyond = self.seen.written.heads[layer] - self.baseline.written.heads[layer]
        self.gradient = self.gradient + pulled + back
        return behind, between, head_shares(weights, between, beyond), neurons

    def _before(self, layer: int, part: str, gradient: Tensor) -> Tensor:
        """The gradient at what a basis reads; where there is none, nothing changes."""
        place = self.body.place(layer, part)
        return gradient if place is None else self._pulled(place.name, gradient)

    def _pulled(self, name: str, gradient: Tensor) -> Tensor:
        coded = self.coded[name]
        self.through[name] = Through(coded, gradient, coded.along(gradient))
        return coded.pull(self.through[name].along, gradient)

    def _mlp(self, layer: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """The gradient behind the neurons, what the MLP or its transcoder pulls back, the neurons' shares."""
        stream = self.seen.mids[layer]
        transcoder = self.body.transcoder(layer)
        if transcoder is not None and stream is not None:
            norm = self.body.norm(self.body.wired.parts.layers[layer].mlp_norm)
            read, _ = readings(norm, self._pulled(transcoder.name, self.gradient))
            return self.gradient, read * inverse_scale(norm, stream)[:, None], None
        behind = self._before(layer, MLP_OUT, self.gradient)
        return behind, *_neurons(self.body, self.seen, self.baseline, layer, behind)


def head_readings(weights: HeadWeights, gradient: Float[Tensor, "pos d"]) -> Float[Tensor, "head pos d"]:
    """What each head at each position reads of a value's stream at scale 1 and attention 1, along the gradient."""
    return torch.einsum("hpr,hrd->hpd", torch.einsum("her,pe->hpr", weights.out, gradient), weights.value)


def head_shares(
    weights: HeadWeights, gradient: Float[Tensor, "pos d"], heads: Float[Tensor, "head pos r"]
) -> Float[Tensor, "head pos"]:
    """g . output of each head at each position."""
    return (torch.einsum("her,pe->hpr", weights.out, gradient) * heads).sum(-1)


def _neurons(body: Body, seen: Pass, baseline: Baseline, layer: int, behind: Tensor) -> tuple[Tensor, Tensor | None]:
    down, stream, hidden = body.down(layer), seen.mids[layer], seen.written.hidden[layer]
    if down is None or stream is None or hidden is None:
        return torch.zeros_like(behind), None
    mlp, other = Mlp.of(body, layer), baseline.written.hidden[layer]
    mlp.check(stream, hidden, layer)
    assert other is not None
    along = behind @ down[0].T
    return mlp.pulled(stream, along, baseline.mids[layer]).rows, along * (hidden - other)
