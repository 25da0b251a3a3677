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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.edges.graph import EdgeGraph
from cutaway.circuits.edges.pairs import Metric, Pairs
from cutaway.circuits.edges.runtime import Sources, record, source_sites, sources_of
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
from cutaway.networks.folded import read_through


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
        own = None if reference is None else reference.rows(at, at + len(part), part.length)
        found.append(_attribute(wired, part, metric, steps, own))
        at += len(part)
    name = "EAP" if steps == 1 else f"EAP-IG ({steps} steps)"
    return EdgeScores(wired.graph, torch.cat(found), name, Cost(1 + steps, steps))


def _attribute(wired: Wired, pairs: Pairs, metric: Metric, steps: int, reference: Sources | None) -> Tensor:
    other = record(wired, pairs.corrupt) if reference is None else reference
    totals = Gradients(wired, pairs)
    with frozen(wired.network.module):
        clean = totals.add(None, metric)
        for step in range(1, steps):
            start = [torch.lerp(one, two, step / steps) for one, two in zip(clean.embeds, other.embeds)]
            totals.add(start, metric)
    return totals.scores(clean, other) / steps


class Gradients:
    """dL/dx of every target, summed over points of the path, in buffers that are added to in place.

    A layer's queries, keys and values have one buffer, its MLP one, the output one: [target row d], rows being
    positions of pairs.
    """

    def __init__(self, wired: Wired, pairs: Pairs) -> None:
        self.wired, self.pairs = wired, pairs
        self.totals: dict[tuple[int, str], Tensor] = {}

    def add(self, start: Sequence[Tensor] | None, metric: Metric) -> Sources:
        """Adds the gradients with these embeddings (None: the clean prompts' own); returns what sources wrote."""
        wired = self.wired
        edits: list[Edit] = []
        if start is not None:
            edits += [Patch(embed_site(name), value) for (name, _), value in zip(wired.parts.embeds, start)]
        # Without a norm the MLP is given the stream itself; a view of its own keeps the skip path's gradient out.
        edits += [Replace(mlp_in_site(n), _alias) for n in _unnormed(wired)]
        wanted = list(_wanted(wired))
        seen = [*source_sites(wired), *_streams(wired), *wanted]
        run = wired.network.run(self.pairs.clean, capture=seen, edits=edits, logits=metric.logits, grad=True)
        total = metric.read(run.logits.float(), self.pairs).sum()
        given = dict(zip(wanted, torch.autograd.grad(total, [run[name] for name in wanted], allow_unused=True)))
        with torch.no_grad():
            self._layers(run.captured, given)
        return sources_of(wired, run, len(self.pairs)).map(Tensor.detach)

    def _layers(self, seen: dict[str, Tensor], given: Mapping[str, Tensor | None]) -> None:
        wired = self.wired
        for layer, weights in zip(wired.parts.layers, wired.weights):
            self._heads(layer.index, seen, given)
            if layer.mlp is not None:
                stream = seen[mlp_stream_site(layer.index)]
                pulled = pulled_back(given[mlp_in_site(layer.index)], stream, wired.norm(weights.mlp_norm))
                self._accumulate((layer.index, "mlp"), pulled)
        final = given[FINAL_OUT if wired.final_norm is not None else FINAL_STREAM]
        pulled = pulled_back(final, seen[FINAL_STREAM], wired.norm(wired.final_norm))
        self._accumulate((len(wired.parts.layers), "output"), pulled)

    def _accumulate(self, key: tuple[int, str], value: Tensor) -> None:
        flat = value.flatten(0, 1)[None]
        self.totals[key] = self.totals[key].add_(flat) if key in self.totals else flat.clone()

    def _heads(self, index: int, seen: dict[str, Tensor], given: Mapping[str, Tensor | None]) -> None:
        """Queries, keys and values of a layer: gradient @ W, then the norm's pullback, all heads in one product.

        With x^ the normed stream before its gain and s its scale, the pullback of W^T g is
        (gain * W^T g - [its mean, if centred] - x^ (g . (y - b - W bias_of_norm)) / d) / s, y being the map's output.
        """
        folded = self._folded(index)
        stream = seen[stream_site(index)].flatten(0, 1)
        gradient, value = (self._by_head(index, tensors) for tensors in (given, seen))
        if gradient is None or value is None:
            return
        key = (index, "heads")
        if key not in self.totals:
            self.totals[key] = stream.new_zeros(len(folded.weight), *stream.shape)
        if folded.norm is None:
            self.totals[key].baddbmm_(gradient, folded.weight)
            return
        scale, unit = _scale(stream, folded.norm)
        along = (gradient * (value - folded.offset[:, None])).sum(2) / (stream.shape[1] * scale[:, 0])
        self.totals[key].baddbmm_(gradient / scale, folded.weight)
        self.totals[key].addcmul_(unit[None], along[..., None], value=-1)

    def _by_head(self, index: int, tensors: Mapping[str, Tensor | None]) -> Float[Tensor, "head row d_head"] | None:
        """The maps' outputs (or gradients there), queries, then keys, then values; None where nothing came back."""
        parts = []
        for _, projection in projections(self.wired.parts.layers[index]):
            tensor = tensors[projected_site(index, projection.module)]
            if tensor is None:
                return None
            parts.append(tensor.flatten(0, 1)[:, projection.columns.to(tensor.device)].movedim(1, 0))
        return torch.cat(parts)

    def _folded(self, index: int) -> _Folded:
        """The maps of a layer with the norm's gain (and centring) folded in, made once for a network."""
        known = self.wired.network._cache.setdefault("folded", {})
        if index not in known:
            weights = self.wired.weights[index]
            known[index] = _fold(weights.read, weights.bias, self.wired.norm(weights.attn_norm))
        return known[index]

    def scores(self, clean: Sources, other: Sources) -> Float[Tensor, "pair source target"]:
        """The gradients against every source's difference: one product for several layers' targets at once."""
        graph, count = self.wired.graph, len(self.pairs)
        result = torch.zeros(count, *graph.possible.shape)
        differences = _differences(self.wired, clean, other)
        for keys in _blocks(list(self.totals)):
            columns = [column for key in keys for column in _columns(graph, key)]
            upstream = max(graph.targets[column].upstream for column in columns)
            flat = torch.cat([self.totals[key].unflatten(1, (count, -1)) for key in keys]).movedim(1, 0).flatten(2)
            product = torch.bmm(differences[:, :upstream], flat.transpose(1, 2).to(differences))
            result[:, :upstream, columns] = product.float().cpu()
        return result * graph.possible


@dataclass(frozen=True, eq=False)
class _Folded:
    """A layer's maps behind a norm: ``weight`` [head d_head d] and what of their outputs is no function of x."""

    weight: Tensor
    offset: Tensor
    norm: NormMath | None


def _fold(reads: Sequence[Tensor], biases: Sequence[Tensor | None], norm: NormMath | None) -> _Folded:
    made = [read_through(norm, read, bias) for read, bias in zip(reads, biases)]
    return _Folded(torch.cat([weight for weight, _ in made]), torch.cat([offset for _, offset in made]), norm)


def _blocks(keys: list[tuple[int, str]], layers: int = 4) -> list[list[tuple[int, str]]]:
    """Keys of neighbouring layers together: matrices that are wide enough to multiply fast."""
    found: dict[int, list[tuple[int, str]]] = {}
    for key in keys:
        found.setdefault(key[0] // layers, []).append(key)
    return list(found.values())


def _columns(graph: EdgeGraph, key: tuple[int, str]) -> list[int]:
    return graph.layer_targets(key[0], ("q", "k", "v") if key[1] == "heads" else (key[1],))


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
