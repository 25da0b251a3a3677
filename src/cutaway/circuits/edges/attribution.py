"""Edge attribution patching, plain and along a path: every edge from a few backward passes.

    EAP      S(u -> v) = sum over positions of (z'_u - z_u) . dL/dx_v        (Syed et al. 2023)
    EAP-IG   the same with the gradient averaged over m points of the straight line between the clean and the corrupted
             embeddings (Hanna et al. 2024, "inputs")

z_u and z'_u are what source u writes on clean and corrupted prompts, x_v what target v reads, before its norm. The
score predicts how L changes if this one edge is corrupted. The gradient goes to each target's own branch only: it is
taken at the output of the target's map and pulled back through the map and the norm by hand, so that one backward pass
serves all targets, and one product of matrices all sources of a target's layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.edges.graph import EdgeGraph
from cutaway.circuits.edges.pairs import Metric, Pairs
from cutaway.circuits.edges.runtime import Sources, record
from cutaway.circuits.edges.wiring import (
    FINAL_OUT,
    FINAL_STREAM,
    Wired,
    embed_site,
    frozen,
    head_outputs,
    mlp_in_site,
    mlp_stream_site,
    projected_site,
    projections,
    stream_site,
)
from cutaway.errors import BadInput
from cutaway.networks.anatomy import NormMath
from cutaway.networks.edits import Edit, Patch, Replace


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """One score per edge and pair: ``per_pair`` [pair source target], the predicted or measured change of the metric
    when that edge alone is corrupted; 0 where there is no edge. ``cost`` counts passes: forward and backward ones.
    """

    graph: EdgeGraph
    per_pair: Float[Tensor, "pair source target"]
    method: str
    cost: Cost
    notes: tuple[str, ...] = field(default=())

    @property
    def mean(self) -> Float[Tensor, "source target"]:
        """The mean over pairs."""
        return self.per_pair.mean(0)


@dataclass(frozen=True)
class Cost:
    """Passes over the pairs: a backward pass counts as two forward ones."""

    forward: float | int = 0
    backward: float | int = 0

    @property
    def total(self) -> float:
        """In forward passes."""
        return float(self.forward + 2 * self.backward)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.forward + other.forward, self.backward + other.backward)


def attribute(
    wired: Wired, pairs: Pairs, metric: Metric, *, steps: int = 5, size: int = 8, reference: Sources | None = None
) -> EdgeScores:
    """EAP-IG of every edge with ``steps`` backward passes (1: plain EAP, at the clean prompts), ``size`` pairs at once.

    Points of the path are 0, 1/m, ..., (m - 1)/m of the way from clean to corrupted, as published. ``reference``
    replaces what the sources wrote on the corrupted prompts (a mean, zero).
    """
    if steps < 1:
        raise BadInput(f"{steps} steps were asked for; give at least 1.")
    found = []
    at = 0
    for part in pairs.chunks(size):
        own = None if reference is None else reference.rows(at, at + len(part))
        found.append(_attribute(wired, part, metric, steps, own))
        at += len(part)
    name = "EAP" if steps == 1 else f"EAP-IG ({steps} steps)"
    return EdgeScores(wired.graph, torch.cat(found), name, Cost(2 + steps, steps))


def _attribute(wired: Wired, pairs: Pairs, metric: Metric, steps: int, reference: Sources | None) -> Tensor:
    clean = record(wired, pairs.clean)
    other = record(wired, pairs.corrupt) if reference is None else reference
    totals = Gradients(wired, pairs)
    with frozen(wired.network.module):
        for step in range(steps):
            totals.add(clean, other, step / steps, metric)
    return totals.scores(clean, other) / steps


class Gradients:
    """dL/dx of every target, summed over points of the path; the one large buffer is written in place."""

    def __init__(self, wired: Wired, pairs: Pairs) -> None:
        self.wired, self.pairs = wired, pairs
        self.totals: dict[tuple[int, str], Tensor] = {}

    def add(self, clean: Sources, other: Sources, share: float, metric: Metric) -> None:
        """Adds the gradients at one point of the path from clean to corrupted embeddings."""
        wired = self.wired
        edits: list[Edit] = [
            Patch(embed_site(name), torch.lerp(one, two, share))
            for (name, _), one, two in zip(wired.parts.embeds, clean.embeds, other.embeds)
            if share
        ]
        # Without a norm the MLP is given the stream itself; a view of its own keeps the skip path's gradient out.
        edits += [Replace(mlp_in_site(n), _alias) for n in _unnormed(wired)]
        wanted = list(_wanted(wired))
        run = wired.network.run(
            self.pairs.clean, capture=[*_streams(wired), *wanted], edits=edits, logits=metric.logits,
            grad=True,
        )  # fmt: skip
        total = metric.read(run.logits.float(), self.pairs).sum()
        gradients = torch.autograd.grad(total, [run[name] for name in wanted], allow_unused=True)
        given = dict(zip(wanted, gradients))
        with torch.no_grad():
            for layer in wired.parts.layers:
                self._heads(layer.index, run.captured, given)
                if layer.mlp is not None:
                    norm = wired.norm(wired.weights[layer.index].mlp_norm)
                    pulled = pulled_back(given[mlp_in_site(layer.index)], run[mlp_stream_site(layer.index)], norm)
                    self._accumulate((layer.index, "mlp"), pulled[None])
            final = given[FINAL_OUT if wired.final_norm is not None else FINAL_STREAM]
            self._accumulate(
                (len(wired.parts.layers), "output"),
                pulled_back(final, run[FINAL_STREAM], wired.norm(wired.final_norm))[None],
            )

    def _accumulate(self, key: tuple[int, str], value: Tensor) -> None:
        if key in self.totals:
            self.totals[key] += value
        else:
            self.totals[key] = value.clone() if value._is_view() else value

    def _heads(self, index: int, seen: dict[str, Tensor], given: Mapping[str, Tensor | None]) -> None:
        """Queries, keys and values: gradient @ W, then the norm's pullback, head by head in one product."""
        layer, weights = self.wired.parts.layers[index], self.wired.weights[index]
        norm = self.wired.norm(weights.attn_norm)
        stream = seen[stream_site(index)]
        for (port, projection), weight, bias in zip(projections(layer), weights.read, weights.bias):
            site = projected_site(index, projection.module)
            gradient = given[site]
            if gradient is None:
                continue
            columns = projection.columns.to(gradient.device)
            own = gradient[..., columns].movedim(2, 0).flatten(1, 2)  # [head row d_head]
            if norm is None:
                pulled = torch.bmm(own, weight.to(own))
            else:
                value = seen[site][..., columns].movedim(2, 0).flatten(1, 2)
                value = value if bias is None else value - bias[:, None].to(value)
                pulled = _pulled_heads(own, value, weight.to(own), stream.flatten(0, 1), norm)
            self._accumulate((index, port), pulled.unflatten(1, stream.shape[:2]))

    def scores(self, clean: Sources, other: Sources) -> Float[Tensor, "pair source target"]:
        """The gradients against every source's difference."""
        graph, wired = self.wired.graph, self.wired
        count = len(self.pairs)
        result = torch.zeros(count, *graph.possible.shape)
        differences = _differences(wired, clean, other)
        for (layer, port), total in self.totals.items():
            columns = graph.layer_targets(layer, (port,))
            upstream = graph.targets[columns[0]].upstream
            flat = total.movedim(1, 0).flatten(2)  # [pair target pos*d]
            product = torch.bmm(differences[:, :upstream], flat.transpose(1, 2).to(differences))
            result[:, :upstream, columns] = product.float().cpu()
        return result


def _pulled_heads(gradient: Tensor, value: Tensor, weight: Tensor, stream: Tensor, norm: NormMath) -> Tensor:
    """W^T gradient through the norm for all heads: with x^ the normed stream before gain and s its scale,

    (gain * W^T g - [mean of it, if centred] - x^ (g . (y - b - W bias)) / d) / s, where y is the map's own output.
    """
    scale, unit = _scale(stream, norm)
    folded = weight * norm.gain.to(weight)
    if norm.centred:
        folded = folded - folded.mean(2, keepdim=True)
    if norm.bias is not None:
        value = value - (weight @ norm.bias.to(weight))[:, None]
    along = (gradient * value).sum(2) / stream.shape[1]
    pulled = torch.bmm(gradient / scale, folded)
    return pulled.addcmul_(unit[None], (along / scale[:, 0])[..., None], value=-1)


def _scale(stream: Tensor, norm: NormMath) -> tuple[Tensor, Tensor]:
    centred = stream - stream.mean(-1, keepdim=True) if norm.centred else stream
    scale = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return scale, centred / scale


def pulled_back(gradient: Tensor | None, stream: Tensor, norm: NormMath | None) -> Float[Tensor, "batch pos d"]:
    """A gradient at a norm's output as one at its input; as it is without a norm, zero where nothing came back."""
    if gradient is None:
        return torch.zeros_like(stream)
    if norm is None:
        return gradient
    scale, unit = _scale(stream, norm)
    inner = gradient * norm.gain.to(gradient)
    if norm.centred:
        inner = inner - inner.mean(-1, keepdim=True)
    return (inner - unit * (inner * unit).mean(-1, keepdim=True)) / scale


def _wanted(wired: Wired) -> Iterable[str]:
    """Where gradients are taken: at maps' outputs, at MLPs' inputs, behind the last norm."""
    for layer in wired.parts.layers:
        yield from dict.fromkeys(projected_site(layer.index, p.module) for _, p in projections(layer))
        if layer.mlp is not None:
            yield mlp_in_site(layer.index)
    yield FINAL_OUT if wired.final_norm is not None else FINAL_STREAM


def _unnormed(wired: Wired) -> list[int]:
    layers = zip(wired.parts.layers, wired.weights)
    return [part.index for part, weights in layers if part.mlp is not None and weights.mlp_norm is None]


def _alias(value: Tensor) -> Tensor:
    return value.view_as(value)


def _streams(wired: Wired) -> Iterable[str]:
    for layer in wired.parts.layers:
        yield stream_site(layer.index)
        if layer.mlp is not None:
            yield mlp_stream_site(layer.index)
    yield FINAL_STREAM


def _differences(wired: Wired, clean: Sources, other: Sources) -> Float[Tensor, "pair source flat"]:
    """What each source writes differently, [pair source pos*d]."""
    parts = [(two - one)[None] for one, two in zip(clean.embeds, other.embeds)]
    for layer, weights in zip(wired.parts.layers, wired.weights):
        parts.append(head_outputs(other.heads[layer.index] - clean.heads[layer.index], weights.write))
        own, their = clean.mlps[layer.index], other.mlps[layer.index]
        if own is not None and their is not None:
            parts.append((their - own)[None])
    made = torch.empty(len(clean.heads[0]), sum(map(len, parts)), clean.embeds[0][0].numel(), dtype=parts[0].dtype)
    at = 0
    for part in parts:
        made[:, at : at + len(part)] = part.movedim(1, 0).flatten(2)
        at += len(part)
    return made
