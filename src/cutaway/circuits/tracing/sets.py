"""The kept nodes run alone, and everything but them: all that is exchanged holds its baseline in the real network.

Latents are exchanged where their basis stands: what lies there is encoded anew, those that stay keep their codes of the
running network, all others get the baseline's, and so do the basis's error and by-pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.circuits.edges.nodes import neuron_site
from cutaway.circuits.edges.wiring import embed_site, heads_site
from cutaway.circuits.tracing.causal import TOKENS
from cutaway.circuits.tracing.features.exchange import Stays, exchange
from cutaway.circuits.tracing.frozen import Body, Pass, Written, outputs
from cutaway.circuits.tracing.links import members
from cutaway.circuits.tracing.nodes import (
    ABSENT,
    CODED,
    EMBED,
    FEATURE,
    FEATURES,
    HEAD,
    HEADS,
    NEURON,
    NEURONS,
    RESIDUE,
    SKIP,
    Node,
    Pool,
)
from cutaway.circuits.tracing.question import Question
from cutaway.networks.edits import Edit, Replace


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
        edits = _exchanges(body, pool, baseline, group)
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
    coded: dict[str, Stays]

    @classmethod
    def of(cls, body: Body, seen: Pass, pool: Pool, nodes: Sequence[Node]) -> _Marks:
        tokens = torch.zeros(seen.length, dtype=torch.bool)
        heads = tuple(torch.zeros_like(alone) for alone in pool.heads)
        neurons = tuple(None if alone is None else torch.zeros_like(alone) for alone in pool.neurons)
        coded = {site: Stays.nothing(through.coded) for site, through in pool.through.items()}
        for node in nodes:
            if node.kind == EMBED:
                tokens[node.position] = True
            elif node.kind in (HEAD, HEADS):
                heads[node.layer or 0][members(pool, node), node.position] = True
            elif node.kind in (NEURON, NEURONS):
                marks = neurons[node.layer or 0]
                assert marks is not None
                marks[node.position, members(pool, node)] = True
            elif node.kind in CODED:
                _mark(coded[node.site], pool, node)
        return cls(tokens, heads, neurons, coded)

    def opposite(self) -> _Marks:
        """Everything else; all tokens stay."""
        neurons = tuple(None if marks is None else ~marks for marks in self.neurons)
        coded = {site: stays.opposite() for site, stays in self.coded.items()}
        return _Marks(torch.ones_like(self.tokens), tuple(~marks for marks in self.heads), neurons, coded)


def _mark(stays: Stays, pool: Pool, node: Node) -> None:
    if node.kind in (FEATURE, FEATURES):
        stays.latents[pool.entries(node)] = True
    else:
        {RESIDUE: stays.error, ABSENT: stays.others, SKIP: stays.skip}[node.kind][node.position] = True


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
        elif node.kind == FEATURE:
            drawn.append(_feature(pool, node, pick))
        elif node.kind in (HEADS, NEURONS, *CODED):
            alike = [each for each in pool.nodes if each.kind == node.kind and each.position == node.position]
            drawn.append(alike[pick(len(alike))])
    return drawn


def _feature(pool: Pool, node: Node, pick: Callable[[int], int]) -> Node:
    """Any latent that is active at the same position, of any basis."""
    known = {site: (x.coded.position == node.position).nonzero()[:, 0] for site, x in pool.through.items()}
    number = pick(sum(map(len, known.values())))
    for site, entries in known.items():
        if number < len(entries):
            coded = pool.through[site].coded
            return Node("", FEATURE, coded.place.layer, int(coded.latent[entries[number]]), node.position, site=site)
        number -= len(entries)
    raise AssertionError("a feature of the graph is active at its own position")


def _exchanges(body: Body, pool: Pool, baseline: Written, sets: Sequence[_Marks]) -> list[Edit]:
    """Edits that give everything outside of set k the baseline in copy k."""
    name = body.wired.parts.embeds[0][0]  # position tables say the same on every prompt
    edits: list[Edit] = [Replace(embed_site(name), _keeping([each.tokens for each in sets], baseline.embeds[0]))]
    for layer, heads in enumerate(baseline.heads):
        flat = heads.transpose(0, 1).flatten(1)
        marks = [each.heads[layer].T.repeat_interleave(heads.shape[2], 1) for each in sets]
        edits.append(Replace(heads_site(layer), _keeping(marks, flat)))
        hidden, kept = baseline.hidden[layer], [each.neurons[layer] for each in sets]
        if hidden is not None and pool.neurons[layer] is not None:
            edits.append(Replace(neuron_site(layer), _keeping([mark for mark in kept if mark is not None], hidden)))
    for site, through in pool.through.items():
        edits += exchange(through.coded, [each.coded[site] for each in sets])
    return edits


def _keeping(marks: Sequence[Tensor], baseline: Tensor) -> Callable[[Tensor], Tensor]:
    kept = torch.stack(list(marks))
    kept = kept[..., None] if kept.ndim == 2 else kept

    def exchange(value: Tensor) -> Tensor:
        return torch.where(kept.to(value.device), value, baseline.to(value))

    return exchange
