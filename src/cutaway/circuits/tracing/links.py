"""Every edge between nodes, signed and in the metric's unit: how much of the source's share flows through the target.

    edge(u -> v) = r_v[s] . (out_u - baseline_u)

where r_v[s] is what v reads of the stream at position s, times the metric's gradient g at v.

Into a head at p by its value path, exact:    r[s] = A[p, s] / sigma_s (W_O W_V)' g
Into a neuron at p, its slope:                r[p] = (g . W_down[n]) dh_n/dx
Into the output, exact:                       the unembedding's difference / sigma

Edges into a node sum to its share, those into the output to the metric: a neuron's rest comes from the layer's
``error`` node, a head's from its ``attention`` node (the same values, seen with the baseline's attention), the output's
from ``bias``. With a baseline of zero the constants of heads and neurons are biases as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.circuits.tracing.baselines import Baseline
from cutaway.circuits.tracing.flow import Flow, head_readings
from cutaway.circuits.tracing.frozen import Body, HeadWeights, Pass, Written
from cutaway.circuits.tracing.neurons import Mlp
from cutaway.circuits.tracing.nodes import (
    ATTENTION,
    BIAS,
    EMBED,
    ERROR,
    HEAD,
    HEADS,
    NEURON,
    NEURONS,
    Node,
    Pool,
)
from cutaway.errors import NotTestable
from cutaway.networks.folded import inverse_scale


@dataclass(frozen=True, eq=False)
class Links:
    """``values`` [target source] of all edges; ``shares`` of the nodes; ``gap`` is the largest amount by which all that
    flows into a head or the output misses what it writes (logits).
    """

    pool: Pool
    values: Float[np.ndarray, "node node"]
    shares: Float[np.ndarray, " node"]
    gap: float


def link(body: Body, seen: Pass, flow: Flow, pool: Pool, baseline: Baseline, *, position: int, metric: float) -> Links:
    """All edges; raises ``NotTestable`` where the parts do not add up to what the network computes."""
    maker = _Maker(body, seen, flow, pool, baseline)
    for layer in range(body.depth):
        maker.layer(layer)
    maker.output(position, metric)
    if maker.gap > body.rounding * maker.size:
        raise NotTestable(
            f"The parts of {body.network.name} do not add up to its answer on this prompt (by {maker.gap:.2g} logits); "
            "it does something that this analysis does not know."
        )
    return Links(pool, maker.values, maker.shares, maker.gap)


class _Maker:
    """Fills the matrix stage by stage; sources are known before anything that reads them."""

    def __init__(self, body: Body, seen: Pass, flow: Flow, pool: Pool, baseline: Baseline) -> None:
        self.body, self.seen, self.flow, self.pool, self.baseline = body, seen, flow, pool, baseline
        count, width = len(pool.nodes), seen.final.shape[1]
        self.values = np.zeros((count, count), dtype=np.float32)
        self.shares = np.array([node.value for node in pool.nodes])
        self.outs = torch.zeros(count, width, dtype=torch.float64)
        self.bases = torch.zeros_like(self.outs)
        self.at: list[list[int]] = [[] for _ in range(seen.length)]  # sources known so far at each position
        self.biases = torch.zeros(width, dtype=torch.float64)
        self.gap, self.size = 0.0, 0.0
        for number, node in enumerate(pool.nodes):
            if node.kind == EMBED:
                written = (embedding(each, node)[None] for each in (seen.written, baseline.written))
                self._known([number], *written)

    def layer(self, layer: int) -> None:
        """Edges into a layer's heads and neurons, and what these write."""
        parallel = self.body.wired.parts.layers[layer].parallel
        weights, down = self.body.heads(layer), self.body.down(layer)
        heads = [*self.pool.of(layer, HEAD), *self.pool.of(layer, HEADS)]
        own, base = (head_outputs(self.pool, heads, weights, w.heads[layer]) for w in self._both())
        self._into_heads(layer, heads, weights, own)
        if down is not None and parallel:
            self._into_neurons(layer, down[0])
        self._known(heads, own, base)
        self.biases = self.biases + weights.bias
        if down is not None:
            if not parallel:
                self._into_neurons(layer, down[0])
            neurons = [*self.pool.of(layer, NEURON), *self.pool.of(layer, NEURONS)]
            self._known(neurons, *(neuron_outputs(self.pool, neurons, down[0], w, layer) for w in self._both()))
            self.biases = self.biases + down[1]

    def _both(self) -> tuple[Written, Written]:
        return self.seen.written, self.baseline.written

    def _known(self, numbers: Sequence[int], outs: Tensor, bases: Tensor) -> None:
        self.outs[list(numbers)], self.bases[list(numbers)] = outs, bases
        for number in numbers:
            self.at[_place(self.pool.nodes[number])].append(number)

    # -- targets -----------------------------------------------------------------------------------------------

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
            chosen, place = members(self.pool, self.pool.nodes[number]), _place(self.pool.nodes[number])
            rows.append(torch.einsum("hs,hd->sd", pattern[chosen, place], reads[chosen, place]) * scale[:, None])
            constants.append(float(fixed[chosen, place].sum()))
        whole = (own * gradient[[_place(self.pool.nodes[number]) for number in numbers]]).sum(1)
        self._exact(numbers, torch.stack(rows), torch.tensor(constants, dtype=torch.float64), whole, ATTENTION)

    def _into_neurons(self, layer: int, down: Tensor) -> None:
        stream, base = self.seen.mids[layer], self.baseline.mids[layer]
        numbers = [*self.pool.of(layer, NEURON), *self.pool.of(layer, NEURONS)]
        assert stream is not None
        if not numbers:
            return
        places = [_place(self.pool.nodes[number]) for number in numbers]
        weights = neuron_marks(self.pool, numbers) * (self.flow.behind[layer] @ down.T)[places]
        mlp = Mlp.of(self.body, layer)
        found = mlp.pulled(stream[places], weights, None if base is None else base[places])
        totals = torch.zeros(len(numbers), dtype=torch.float64)
        if self.baseline.zero:
            fixed = found.constant + (weights * mlp.from_biases(stream)[places]).sum(1) + found.rows @ self.biases
            self.values[numbers, self.pool.index[BIAS]] = fixed.numpy()
            totals += fixed
        for place in sorted(set(places)):
            here = [row for row, each in enumerate(places) if each == place]
            edges, _ = self._edges(place, [numbers[row] for row in here], found.rows[here])
            totals[here] += edges.sum(1)
        for row, number in enumerate(numbers):
            error = self.pool.index[f"L{layer}{ERROR}@{places[row]}"]
            self.values[number, error] = self.shares[number] - float(totals[row])

    def output(self, position: int, metric: float) -> None:
        """Edges into the metric."""
        number = self.pool.index["output"]
        rows = torch.zeros(1, *self.flow.end.shape, dtype=torch.float64)
        rows[0, position] = self.flow.end[position]
        self.shares[number] = metric
        constant = torch.tensor([self.flow.constant], dtype=torch.float64)
        self._exact([number], rows, constant, torch.tensor([metric], dtype=torch.float64), BIAS)

    # -- edges -------------------------------------------------------------------------------------------------

    def _exact(self, numbers: list[int], rows: Tensor, constants: Tensor, whole: Tensor, rest: str) -> None:
        """Edges into nodes that are linear in the stream: ``rows`` [target pos d]; ``whole`` is what they write."""
        constants = constants + torch.einsum("kpd,d->k", rows, self.biases)
        change, total, size = (torch.zeros_like(constants) for _ in range(3))
        for place in range(self.seen.length):
            edges, raw = self._edges(place, numbers, rows[:, place])
            change, total, size = change + edges.sum(1), total + raw.sum(1), size + raw.abs().sum(1)
        self.gap = max(self.gap, float((whole - constants - total).abs().max()))
        self.size = max(self.size, float((size + constants.abs()).max()))
        for row, number in enumerate(numbers):
            node = self.pool.nodes[number]
            if rest == ATTENTION and not self.baseline.zero:
                source, left = self.pool.index[f"L{node.layer}{ATTENTION}@{node.position}"], self.shares[number]
                self.values[number, source] = left - float(change[row])
            else:
                self.values[number, self.pool.index[BIAS]] = float(constants[row] + total[row] - change[row])

    def _edges(self, place: int, numbers: list[int], rows: Tensor) -> tuple[Tensor, Tensor]:
        """Edges from everything known at a position, beyond the baseline and whole: [target source] both."""
        own = self.at[place]
        raw, base = rows @ self.outs[own].T, rows @ self.bases[own].T
        self.values[np.ix_(numbers, own)] = (raw - base).numpy()
        return raw - base, raw


def _place(node: Node) -> int:
    assert node.position is not None
    return node.position


def embedding(written: Written, node: Node) -> Float[Tensor, " d"]:
    """What a token's embedding wrote."""
    assert node.index is not None
    return written.embeds[node.index][_place(node)]


def head_outputs(
    pool: Pool, numbers: Sequence[int], weights: HeadWeights, heads: Float[Tensor, "head pos r"]
) -> Float[Tensor, "node d"]:
    """What nodes of a layer's heads write."""
    made = [weights.out.new_zeros(0, weights.out.shape[1])]
    for number in numbers:
        chosen, place = members(pool, pool.nodes[number]), _place(pool.nodes[number])
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
    return (hidden[[_place(pool.nodes[number]) for number in numbers]] * neuron_marks(pool, numbers)) @ down


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
    layer, place = node.layer or 0, _place(node)
    if node.kind == HEADS:
        return (~pool.heads[layer][:, place]).nonzero()[:, 0]
    alone = pool.neurons[layer]
    assert alone is not None
    return (~alone[place]).nonzero()[:, 0]
