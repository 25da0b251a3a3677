"""Every edge between nodes, signed and in the metric's unit: how much of the source's share flows through the target.

    edge(u -> v) = r_v[s] . (out_u - baseline_u)

where r_v[s] is what v reads of the stream at position s, times the metric's gradient g at v.

Into a head at p by its value path, exact:    r[s] = A[p, s] / sigma_s (W_O W_V)' g
Into a neuron at p, its slope:                r[p] = (g . W_down[n]) dh_n/dx
Into a feature at p, its slope:               (g . d_i) s_i dcode_i/dx, through the norm for a transcoder
Into the output, exact:                       the unembedding's difference / sigma

A basis stands between what is written at its site and everything after it: only its features read the one, and only
they, its bias, by-pass and error can be read behind it.

Edges into a node sum to its share, those into the output to the metric: a neuron's rest comes from the layer's
``error`` node, a head's from its ``attention`` node (the same values, seen with the baseline's attention), a feature's
from its ``threshold`` node, the output's from ``bias``. With a baseline of zero the constants of heads, neurons and
features are biases as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.circuits.tracing.baselines import Baseline
from cutaway.circuits.tracing.features.codes import bypass_pulled
from cutaway.circuits.tracing.features.places import ATTN_OUT, MLP_OUT, RESID
from cutaway.circuits.tracing.flow import Flow, Through, head_readings
from cutaway.circuits.tracing.frozen import Body, HeadWeights, Pass, Written, readings
from cutaway.circuits.tracing.ledger import Ledger, Scope, placed
from cutaway.circuits.tracing.neurons import Mlp
from cutaway.circuits.tracing.nodes import (
    ABSENT,
    ATTENTION,
    BIAS,
    EMBED,
    ERROR,
    FEATURE,
    FEATURES,
    GATE,
    HEAD,
    HEADS,
    NEURON,
    NEURONS,
    RESIDUE,
    SKIP,
    Node,
    Pool,
)
from cutaway.errors import NotTestable
from cutaway.networks.folded import inverse_scale


@dataclass(frozen=True, eq=False)
class Links:
    """``values`` [target source] of all edges; ``shares`` of the nodes; ``gap`` is the largest amount by which all that
    flows into a head, a feature or the output misses what it should (logits).

    ``outs`` and ``bases``: what nodes write to the stream, here and at the baseline; ``readers``: what each layer's
    heads could read.
    """

    pool: Pool
    values: Float[np.ndarray, "node node"]
    shares: Float[np.ndarray, " node"]
    gap: float
    outs: Float[Tensor, "node d"]
    bases: Float[Tensor, "node d"]
    readers: tuple[Scope, ...]


def link(body: Body, seen: Pass, flow: Flow, pool: Pool, baseline: Baseline, *, position: int, metric: float) -> Links:
    """All edges; raises ``NotTestable`` where the parts do not add up to what the network computes."""
    maker = _Maker(body, seen, flow, pool, baseline)
    for layer in range(body.depth):
        maker.layer(layer)
    maker.output(position, metric)
    book = maker.book
    if book.gap > body.rounding * book.size:
        raise NotTestable(
            f"The parts of {body.network.name} do not add up to its answer on this prompt (by {book.gap:.2g} logits); "
            "it does something that this analysis does not know."
        )
    return Links(pool, book.values, book.shares, book.gap, book.outs, book.bases, tuple(maker.readers))


class _Maker:
    """Fills the ledger stage by stage; sources are known before anything that reads them."""

    def __init__(self, body: Body, seen: Pass, flow: Flow, pool: Pool, baseline: Baseline) -> None:
        self.body, self.seen, self.flow, self.pool, self.baseline = body, seen, flow, pool, baseline
        self.book = Ledger(pool, *seen.final.shape)
        self.readers: list[Scope] = []
        embeds = [number for number, node in enumerate(pool.nodes) if node.kind == EMBED]
        outs = (torch.stack([embedding(each, pool.nodes[number]) for number in embeds]) for each in self._both())
        self.stream = self.book.written(embeds, *outs)

    def layer(self, layer: int) -> None:
        """Edges into a layer's heads, neurons and features, and what these write."""
        self.readers.append(self.stream)
        heads, before = self._heads(layer), self.stream
        if not self.body.wired.parts.layers[layer].parallel:
            before = before.plus(heads)
        self.stream = self.stream.plus(heads)
        if self.body.wired.parts.layers[layer].down is not None:
            self.stream = self.stream.plus(self._mlp(layer, before))
        self.stream = self._coded(layer, RESID, self.stream)

    def _both(self) -> tuple[Written, Written]:
        return self.seen.written, self.baseline.written

    def _heads(self, layer: int) -> Scope:
        weights = self.body.heads(layer)
        heads = [*self.pool.of(layer, HEAD), *self.pool.of(layer, HEADS)]
        own, base = (head_outputs(self.pool, heads, weights, w.heads[layer]) for w in self._both())
        self._into_heads(layer, heads, weights, own)
        return self._coded(layer, ATTN_OUT, self.book.written(heads, own, base).biased(weights.bias))

    def _mlp(self, layer: int, before: Scope) -> Scope:
        transcoder, down = self.body.transcoder(layer), self.body.down(layer)
        assert down is not None
        if transcoder is not None:
            return self._through(self.flow.through[transcoder.name], before, layer)
        self._into_neurons(layer, down[0], before)
        neurons = [*self.pool.of(layer, NEURON), *self.pool.of(layer, NEURONS)]
        made = self.book.written(
            neurons, *(neuron_outputs(self.pool, neurons, down[0], w, layer) for w in self._both())
        )  # fmt: skip
        return self._coded(layer, MLP_OUT, made.biased(down[1]))

    # -- heads and neurons ---------------------------------------------------------------------------------------

    def _into_heads(self, layer: int, numbers: list[int], weights: HeadWeights, own: Tensor) -> None:
        if not numbers:
            return
        pattern, gradient = self.seen.patterns[layer], self.flow.between[layer]
        scale = inverse_scale(weights.norm, self.seen.streams[layer])
        reads = head_readings(weights, gradient)
        fixed = torch.einsum("hpr,hr->hp", torch.einsum("her,pe->hpr", weights.out, gradient), weights.value_bias)
        fixed = fixed * pattern.sum(-1)
        rows, constants = [], []
        for number in numbers:
            chosen, place = members(self.pool, self.pool.nodes[number]), placed(self.pool.nodes[number])
            rows.append(torch.einsum("hs,hd->sd", pattern[chosen, place], reads[chosen, place]) * scale[:, None])
            constants.append(float(fixed[chosen, place].sum()))
        whole = (own * gradient[[placed(self.pool.nodes[number]) for number in numbers]]).sum(1)
        stacked, everyone = torch.stack(rows), torch.arange(len(numbers))
        read = [(place, everyone, stacked[:, place]) for place in range(self.seen.length)]
        rest = [self.pool.index[f"L{layer}{ATTENTION}@{self.pool.nodes[number].position}"] for number in numbers]
        fixed = torch.tensor(constants, dtype=torch.float64)
        self.book.exact(self.stream, numbers, read, fixed, whole, None if self.baseline.zero else rest)

    def _into_neurons(self, layer: int, down: Tensor, before: Scope) -> None:
        stream, base = self.seen.mids[layer], self.baseline.mids[layer]
        numbers = [*self.pool.of(layer, NEURON), *self.pool.of(layer, NEURONS)]
        assert stream is not None
        if not numbers:
            return
        places = [placed(self.pool.nodes[number]) for number in numbers]
        weights = neuron_marks(self.pool, numbers) * (self.flow.behind[layer] @ down.T)[places]
        mlp = Mlp.of(self.body, layer)
        found = mlp.pulled(stream[places], weights, None if base is None else base[places])
        totals = torch.zeros(len(numbers), dtype=torch.float64)
        if self.baseline.zero:
            fixed = found.constant + (weights * mlp.from_biases(stream)[places]).sum(1) + found.rows @ before.biases
            self.book.values[numbers, self.pool.index[BIAS]] = fixed.numpy()
            totals += fixed
        for place, here in _by_place(places):
            edges, _ = self.book.edges(before, place, [numbers[row] for row in here.tolist()], found.rows[here])
            totals[here] += edges.sum(1)
        for row, number in enumerate(numbers):
            error = self.pool.index[f"L{layer}{ERROR}@{places[row]}"]
            self.book.values[number, error] = self.book.shares[number] - float(totals[row])

    def output(self, position: int, metric: float) -> None:
        """Edges into the metric."""
        number = self.pool.index["output"]
        self.book.shares[number] = metric
        read = [(position, torch.zeros(1, dtype=torch.long), self.flow.end[position][None])]
        constant, whole = (torch.tensor([x], dtype=torch.float64) for x in (self.flow.constant, metric))
        self.book.exact(self.stream, [number], read, constant, whole, None)

    # -- features of bases ---------------------------------------------------------------------------------------

    def _coded(self, layer: int, part: str, before: Scope) -> Scope:
        """What can be read behind a site: the same, or what a basis makes of it."""
        place = self.body.place(layer, part)
        return before if place is None else self._through(self.flow.through[place.name], before, None)

    def _through(self, through: Through, before: Scope, layer: int | None) -> Scope:
        """Edges into the features of a place; ``layer``: behind the norm of that layer's MLP."""
        coded, site = through.coded, through.coded.place.name
        features, skips = self.pool.at(site, FEATURE, FEATURES), self.pool.at(site, SKIP)
        groups = [self.pool.entries(self.pool.nodes[number]) for number in features]
        if groups:
            rows = coded.readings(groups, through.along)
            whole = torch.stack([(through.along[own] * coded.value[own]).sum() for own in groups])
            self._into_coded(through, before, layer, features, rows, whole)
        if skips and coded.skip is not None:
            rows = bypass_pulled(coded.place.basis, coded.given, through.gradient)
            self._into_coded(through, before, layer, skips, rows, (through.gradient * coded.skip).sum(1))
        return self._out_of(through, features, groups, skips).biased(coded.bias)

    def _into_coded(
        self, through: Through, before: Scope, layer: int | None, numbers: list[int], rows: Tensor, whole: Tensor
    ) -> None:
        """``rows`` [node d]: readings of what the basis is given; ``whole``: what the nodes add to the metric."""
        coded = through.coded
        places = [placed(self.pool.nodes[number]) for number in numbers]
        constants = whole - (rows * coded.given[places]).sum(1)
        if layer is not None:
            stream, norm = self.seen.mids[layer], self.body.norm(self.body.wired.parts.layers[layer].mlp_norm)
            assert stream is not None
            rows, shift = readings(norm, rows)
            rows, constants = rows * inverse_scale(norm, stream)[places][:, None], constants + shift
        read = [(place, here, rows[here]) for place, here in _by_place(places)]
        gates = None if coded.usual is None else [self.pool.index[f"{coded.place.name}.{GATE}@{x}"] for x in places]
        self.book.exact(before, numbers, read, constants, whole, gates)

    def _out_of(self, through: Through, features: list[int], groups: list[Tensor], skips: list[int]) -> Scope:
        coded, site = through.coded, through.coded.place.name
        zero = torch.zeros_like(coded.error)
        numbers, outs, bases = list(features), [zero[:0]], [zero[:0]]
        outs += [coded.written(own, coded.value[own])[None] for own in groups]
        bases += [coded.written(own, coded.base[own])[None] for own in groups]
        leaves = ((RESIDUE, coded.error, coded.error_base), (ABSENT, zero, coded.absent))
        for kind, own, base in (*leaves, (SKIP, coded.skip, coded.skip_base)):
            these = skips if kind == SKIP else self.pool.at(site, kind)
            if these and own is not None:
                places = [placed(self.pool.nodes[number]) for number in these]
                numbers, outs = [*numbers, *these], [*outs, own[places]]
                bases.append((zero if base is None else base)[places])
        return self.book.written(numbers, torch.cat(outs), torch.cat(bases))


def _by_place(places: Sequence[int]) -> list[tuple[int, Tensor]]:
    """Positions and which entries of a list are at each."""
    known = torch.tensor(places)
    return [(place, (known == place).nonzero()[:, 0]) for place in sorted(set(places))]


def embedding(written: Written, node: Node) -> Float[Tensor, " d"]:
    """What a token's embedding wrote."""
    assert node.index is not None
    return written.embeds[node.index][placed(node)]


def head_outputs(
    pool: Pool, numbers: Sequence[int], weights: HeadWeights, heads: Float[Tensor, "head pos r"]
) -> Float[Tensor, "node d"]:
    """What nodes of a layer's heads write."""
    made = [weights.out.new_zeros(0, weights.out.shape[1])]
    for number in numbers:
        chosen, place = members(pool, pool.nodes[number]), placed(pool.nodes[number])
        made.append(torch.einsum("her,hr->e", weights.out[chosen], heads[chosen, place])[None])
    return torch.cat(made)


def neuron_outputs(
    pool: Pool, numbers: Sequence[int], down: Float[Tensor, "n d"], written: Written, layer: int
) -> Float[Tensor, "node d"]:
    """What nodes of a layer's neurons write."""
    hidden = written.hidden[layer]
    assert hidden is not None
    if not numbers:
        return down.new_zeros(0, down.shape[1])
    return (hidden[[placed(pool.nodes[number]) for number in numbers]] * neuron_marks(pool, numbers)) @ down


def neuron_marks(pool: Pool, numbers: Sequence[int]) -> Bool[Tensor, "node n"]:
    """True at the neurons that each node stands for."""
    rows = []
    for number in numbers:
        node = pool.nodes[number]
        alone = pool.neurons[node.layer or 0]
        assert alone is not None
        own = torch.zeros(alone.shape[1], dtype=torch.bool)
        own[members(pool, node)] = True
        rows.append(own)
    return torch.stack(rows)


def members(pool: Pool, node: Node) -> Tensor:
    """The heads or neurons of its layer that a node stands for."""
    if node.index is not None:
        return torch.tensor([node.index])
    layer, place = node.layer or 0, placed(node)
    if node.kind == HEADS:
        return (~pool.heads[layer][:, place]).nonzero()[:, 0]
    alone = pool.neurons[layer]
    assert alone is not None
    return (~alone[place]).nonzero()[:, 0]
