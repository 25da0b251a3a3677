"""Is it so? Every kept edge is cut alone and the network run again; the kept nodes are run with all others replaced.

Cutting u -> v exchanges what u writes for the baseline in what v reads at u's position, and nowhere else: v's output is
computed anew from there (its norm, its value map or its neurons, with the attention of this prompt, since queries and
keys still read u), and everything after v follows. The prediction for the same cut is the edge itself: both are held
against the same baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.edges.nodes import neuron_site
from cutaway.circuits.edges.wiring import FINAL_STREAM, embed_site, heads_site
from cutaway.circuits.tracing.frozen import Body, Pass, Written, outputs
from cutaway.circuits.tracing.links import embedding, head_outputs, members, neuron_outputs
from cutaway.circuits.tracing.neurons import Mlp
from cutaway.circuits.tracing.nodes import EMBED, HEAD, HEADS, NEURON, NEURONS, OUTPUT, PARTS, Node, Pool
from cutaway.circuits.tracing.question import Question
from cutaway.networks.edits import Edit, Replace
from cutaway.networks.folded import inverse_scale

TOKENS = 512  # of one pass with copies
Progress = Callable[[int, int], None]


def can_cut(source: Node) -> bool:
    """True for sources that write something that can be exchanged: not for errors and constants."""
    return source.kind in (EMBED, *PARTS)


def cut_edges(
    body: Body,
    seen: Pass,
    question: Question,
    pool: Pool,
    baseline: Written,
    edges: Sequence[tuple[int, int]],
    *,
    progress: Progress | None = None,
) -> Float[np.ndarray, " edge"]:
    """What each (target, source) edge alone adds to the metric: the metric as it is minus with that edge cut."""
    cutter = _Cutter(body, seen, pool, baseline)
    size = max(1, TOKENS // seen.length)
    whole = float(question.read(outputs(body, question.batch, 1, question.position))[0])
    found = []
    for at in range(0, len(edges), size):
        group = edges[at : at + size]
        edits = cutter.edits([cutter.change(target, source) for target, source in group])
        values = question.read(outputs(body, question.batch, len(group), question.position, edits))
        found += [whole - value for value in values.tolist()]
        if progress is not None:
            progress(min(at + size, len(edges)), len(edges))
    return np.array(found)


@dataclass(frozen=True, eq=False)
class _Change:
    """What is added at one site and position."""

    site: str
    position: int
    value: Tensor


class _Cutter:
    """What a cut edge changes in its target's output."""

    def __init__(self, body: Body, seen: Pass, pool: Pool, baseline: Written) -> None:
        self.body, self.seen, self.pool, self.baseline = body, seen, pool, baseline

    def change(self, target: int, source: int) -> _Change:
        """The change of the target's output when this source's share of its input is exchanged."""
        node, other = self.pool.nodes[target], self.pool.nodes[source]
        moved = self._output(source, self.baseline) - self._output(source, self.seen.written)
        assert other.position is not None
        if node.kind == OUTPUT:
            return _Change(FINAL_STREAM, other.position, moved)
        assert node.layer is not None and node.position is not None
        if node.kind in (HEAD, HEADS):
            return _Change(heads_site(node.layer), node.position, self._heads(node, other.position, moved))
        return _Change(neuron_site(node.layer), node.position, self._neurons(node, moved))

    def _output(self, source: int, written: Written) -> Tensor:
        node = self.pool.nodes[source]
        if node.kind == EMBED:
            return embedding(written, node)
        assert node.layer is not None
        if node.kind in (HEAD, HEADS):
            return head_outputs(self.pool, [source], self.body.heads(node.layer), written.heads[node.layer])[0]
        down = self.body.down(node.layer)
        assert down is not None
        return neuron_outputs(self.pool, [source], down[0], written, node.layer)[0]

    def _heads(self, node: Node, key: int, moved: Tensor) -> Tensor:
        assert node.layer is not None and node.position is not None
        weights, stream = self.body.heads(node.layer), self.seen.streams[node.layer][key]
        # The maps have the norm's gain in them, so that only its scale is left to be computed anew.
        before, after = (x * inverse_scale(weights.norm, x) for x in (stream, stream + moved))
        change = torch.zeros(len(weights.value), weights.value.shape[1], dtype=torch.float64)
        chosen = members(self.pool, node)
        attention = self.seen.patterns[node.layer][chosen, node.position, key]
        change[chosen] = attention[:, None] * (weights.value[chosen] @ (after - before))
        return change.flatten()

    def _neurons(self, node: Node, moved: Tensor) -> Tensor:
        assert node.layer is not None and node.position is not None
        stream = self.seen.mids[node.layer]
        assert stream is not None
        mlp, here = Mlp.of(self.body, node.layer), stream[node.position]
        before, after = mlp.at(torch.stack([here, here + moved]))
        change, chosen = torch.zeros_like(before), members(self.pool, node)
        change[chosen] = (after - before)[chosen]
        return change

    def edits(self, changes: Sequence[_Change]) -> list[Edit]:
        """Edits that make change k in copy k of the prompt."""
        sites: dict[str, Tensor] = {}
        for row, change in enumerate(changes):
            if change.site not in sites:
                sites[change.site] = torch.zeros(
                    len(changes), self.seen.length, len(change.value), dtype=torch.float64
                )  # fmt: skip
            sites[change.site][row, change.position] += change.value
        return [Replace(site, _adding(added)) for site, added in sites.items()]


def _adding(added: Tensor) -> Callable[[Tensor], Tensor]:
    def add(value: Tensor) -> Tensor:
        return value + added.to(value)

    return add


# -- sets of nodes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Whole:
    """The metric as it is, with only the kept nodes, with the kept heads and neurons exchanged, with everything
    exchanged; and the same two with random nodes of the same kinds and positions instead of the kept ones.
    """

    network: float
    kept: float
    without: float
    empty: float
    random_kept: tuple[float, ...]
    random_without: tuple[float, ...]


def run_kept(
    body: Body, seen: Pass, question: Question, pool: Pool, baseline: Written, kept: Sequence[int],
    *, draws: int = 20, seed: int = 0,
) -> Whole:  # fmt: skip
    """Runs the kept nodes alone, and everything but them, exactly. ``draws`` random sets are the null."""
    generator = torch.Generator().manual_seed(seed)
    nodes = [pool.nodes[number] for number in kept]
    chosen = [nodes, *(_drawn(pool, nodes, generator) for _ in range(draws))]
    marks = [_Marks.of(body, seen, pool, each) for each in chosen]
    sets = [_Marks.of(body, seen, pool, []), *marks, *(each.opposite() for each in marks)]
    size = max(1, TOKENS // seen.length)
    values: list[float] = []
    for at in range(0, len(sets), size):
        group = sets[at : at + size]
        edits = _exchanges(body, baseline, group)
        values += question.read(outputs(body, question.batch, len(group), question.position, edits)).tolist()
    network = float(question.read(outputs(body, question.batch, 1, question.position))[0])
    empty, alone, without = values[0], values[1 : draws + 2], values[draws + 2 :]
    return Whole(network, alone[0], without[0], empty, tuple(alone[1:]), tuple(without[1:]))


@dataclass(frozen=True, eq=False)
class _Marks:
    """True where a set of nodes keeps what the network writes."""

    tokens: Tensor
    heads: tuple[Tensor, ...]
    neurons: tuple[Tensor | None, ...]

    @classmethod
    def of(cls, body: Body, seen: Pass, pool: Pool, nodes: Sequence[Node]) -> _Marks:
        tokens = torch.zeros(seen.length, dtype=torch.bool)
        heads = tuple(torch.zeros_like(alone) for alone in pool.heads)
        neurons = tuple(None if alone is None else torch.zeros_like(alone) for alone in pool.neurons)
        for node in nodes:
            if node.kind == EMBED:
                tokens[node.position] = True
            elif node.kind in (HEAD, HEADS):
                heads[node.layer or 0][members(pool, node), node.position] = True
            elif node.kind in (NEURON, NEURONS):
                marks = neurons[node.layer or 0]
                assert marks is not None
                marks[node.position, members(pool, node)] = True
        return cls(tokens, heads, neurons)

    def opposite(self) -> _Marks:
        """Everything else; all tokens stay."""
        neurons = tuple(None if marks is None else ~marks for marks in self.neurons)
        return _Marks(torch.ones_like(self.tokens), tuple(~marks for marks in self.heads), neurons)


def _drawn(pool: Pool, nodes: Sequence[Node], generator: torch.Generator) -> list[Node]:
    """Other nodes of the same kinds at the same positions, from everything there is; tokens stay."""
    drawn = [node for node in nodes if node.kind == EMBED]
    layers = [layer for layer, alone in enumerate(pool.neurons) if alone is not None]

    def pick(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator))

    for node in nodes:
        if node.kind == HEAD:
            layer = pick(len(pool.heads))
            drawn.append(Node("", HEAD, layer, pick(len(pool.heads[layer])), node.position))
        elif node.kind == NEURON:
            layer = layers[pick(len(layers))]
            alone = pool.neurons[layer]
            assert alone is not None
            drawn.append(Node("", NEURON, layer, pick(alone.shape[1]), node.position))
        elif node.kind in (HEADS, NEURONS):
            alike = [each for each in pool.nodes if each.kind == node.kind and each.position == node.position]
            drawn.append(alike[pick(len(alike))])
    return drawn


def _exchanges(body: Body, baseline: Written, sets: Sequence[_Marks]) -> list[Edit]:
    """Edits that give everything outside of set k the baseline in copy k."""
    name = body.wired.parts.embeds[0][0]  # position tables say the same on every prompt
    edits: list[Edit] = [Replace(embed_site(name), _keeping([each.tokens for each in sets], baseline.embeds[0]))]
    for layer, heads in enumerate(baseline.heads):
        flat = heads.transpose(0, 1).flatten(1)
        marks = [each.heads[layer].T.repeat_interleave(heads.shape[2], 1) for each in sets]
        edits.append(Replace(heads_site(layer), _keeping(marks, flat)))
        hidden, kept = baseline.hidden[layer], [each.neurons[layer] for each in sets]
        if hidden is not None:
            edits.append(Replace(neuron_site(layer), _keeping([mark for mark in kept if mark is not None], hidden)))
    return edits


def _keeping(marks: Sequence[Tensor], baseline: Tensor) -> Callable[[Tensor], Tensor]:
    kept = torch.stack(list(marks))
    kept = kept[..., None] if kept.ndim == 2 else kept

    def exchange(value: Tensor) -> Tensor:
        return torch.where(kept.to(value.device), value, baseline.to(value))

    return exchange


__all__ = ["Whole", "can_cut", "cut_edges", "run_kept"]
