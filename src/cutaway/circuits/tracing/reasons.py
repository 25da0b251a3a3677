"""Why a head looked there: the attention score of each move of the graph, as pairs of sources at query and key.

Attention is a contest between positions, so a pair counts by how much more it gives this key than the other keys of the
same query, in the mean (differences that all keys share do not move attention). Sources are those of
:mod:`cutaway.circuits.transformer`: embeddings, heads, MLPs, biases, all norms as they were. Where bases stand in the
graph, sources are its nodes: a feature a at the query and b at the key give value_a value_b d_a' Omega d_b, and what
is no node alone is a named rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.tracing.frozen import Body, Pass, wide
from cutaway.circuits.tracing.links import Links
from cutaway.circuits.tracing.nodes import BIAS
from cutaway.circuits.transformer.forms import maps_of
from cutaway.circuits.transformer.scores import MAP_BIAS, frozen_form
from cutaway.circuits.transformer.stream import ERROR as STREAM_ERROR
from cutaway.circuits.transformer.stream import Stream, stream_parts
from cutaway.networks.network import Batch, Run

CLOSE = 2e-3  # between the attention seen and that of the scores found


@dataclass(frozen=True)
class Pair:
    """A source at the query and one at the key; ``value`` is what they add to the score beyond the other keys' mean."""

    query: str
    key: str
    value: float


@dataclass(frozen=True)
class Move:
    """A head that carries something from position ``key`` to position ``query``.

    ``value``: logits that move this way (its share of the metric that comes from that position). ``attention`` 0 to 1.
    ``score`` is the attention score before softmax, ``advantage`` = score - mean over the other keys, which ``pairs``
    (the largest in size) and the rest of the table add up to. NaN where the query has no other key.
    """

    head: str
    layer: int
    index: int
    query: int
    key: int
    attention: float
    value: float
    score: float
    advantage: float
    pairs: tuple[Pair, ...]

    @property
    def rest(self) -> float:
        """What all pairs that are not shown add to the advantage."""
        return self.advantage - sum(pair.value for pair in self.pairs)

    @property
    def node(self) -> str:
        """The name of the head's node."""
        return f"{self.head}@{self.query}"


@dataclass(frozen=True)
class Asked:
    """A move that is to be explained."""

    layer: int
    index: int
    query: int
    key: int
    value: float


Parts = tuple[tuple[str, ...], Float[Tensor, "part d"]]


@dataclass(frozen=True, eq=False)
class Streams:
    """The stream at a layer's heads as named parts; ``values`` are the network's own."""

    stream: Stream
    links: Links | None
    layer: int

    def at(self, position: int) -> Parts:
        """Names, the same for the same part at every position, and what each wrote."""
        if self.links is None:
            return self.stream.names, wide(self.stream.parts[:, 0, position])
        scope, nodes = self.links.readers[self.layer], self.links.pool.nodes
        own = list(scope.at[position])
        outs = torch.cat([self.links.outs[own], scope.biases[None]])
        names = [nodes[number].name.rsplit("@", 1)[0] for number in own]
        rest = wide(self.stream.values[0, position]) - outs.sum(0)
        return (*names, BIAS, STREAM_ERROR), torch.cat([outs, rest[None]])


def streams_of(body: Body, seen: Pass, batch: Batch, layer: int, links: Links | None) -> Streams:
    """The stream that a layer's heads read, taken apart into the graph's nodes, or into parts of the network."""
    if links is None:
        return Streams(stream_parts(body.network, batch, layer=layer), None, layer)
    values = seen.streams[layer][None].to(next(body.network.module.parameters()))
    return Streams(Stream((), values.new_zeros(0, *values.shape), values, Run(None, batch)), links, layer)


def explain(
    body: Body, seen: Pass, batch: Batch, asked: Sequence[Asked], *, pairs: int = 5, links: Links | None = None
) -> tuple[tuple[Move, ...], tuple[str, ...]]:
    """The moves with their strongest pairs, and notes on heads whose attention is more than a softmax of scores.

    ``links``: pairs are of that graph's nodes.
    """
    moves: list[Move] = []
    notes: list[str] = []
    for layer in sorted({each.layer for each in asked}):
        streams = streams_of(body, seen, batch, layer, links)
        for each in (one for one in asked if one.layer == layer):
            found = _explained(body, seen, streams, each, pairs)
            moves += [] if found is None else [found]
            if found is None:
                notes.append(f"L{layer}H{each.index}: its attention is not the softmax of its scores as known here")
    order = {(each.layer, each.index, each.query, each.key): row for row, each in enumerate(asked)}
    moves.sort(key=lambda move: order[move.layer, move.index, move.query, move.key])
    return tuple(moves), tuple(dict.fromkeys(notes))


def _explained(body: Body, seen: Pass, streams: Streams, asked: Asked, count: int) -> Move | None:
    attention = seen.patterns[asked.layer][asked.index, asked.query]
    keys = [key for key in range(seen.length) if key <= asked.query or not body.wired.parts.causal]
    tables = {key: score_pairs(body, streams, asked, key) for key in keys}
    scores = torch.stack([table.values.sum() for table in tables.values()])
    if not _softmax(body, asked, scores, attention[keys]):
        return None
    here = tables.pop(asked.key)
    queries, names, advantage = _advantage(here, list(tables.values()))
    return Move(
        f"L{asked.layer}H{asked.index}", asked.layer, asked.index, asked.query, asked.key,
        float(attention[asked.key]), asked.value, float(here.values.sum()), float(advantage.sum()),
        _top(queries, names, advantage, count) if tables else (),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Table:
    """A score entered by pairs of parts of the query's and the key's stream; both end in the maps' biases."""

    queries: tuple[str, ...]
    keys: tuple[str, ...]
    values: Float[Tensor, "query_part key_part"]


def score_pairs(body: Body, streams: Streams, asked: Asked, key: int) -> Table:
    """The score that a head gives a key: all entries add up to it."""
    maps = maps_of(body.network, asked.layer, asked.index)
    form = frozen_form(body.network, streams.stream, maps, asked.index, 0, asked.query, key)
    (queries, left), (keys, right) = streams.at(asked.query), streams.at(key)
    return Table((*queries, MAP_BIAS), (*keys, MAP_BIAS), wide(form.ledger(left, right).matrix()))


def _advantage(here: Table, others: Sequence[Table]) -> tuple[tuple[str, ...], tuple[str, ...], Tensor]:
    """A table less the mean of the others, over all parts that any key has; NaN without others."""
    names = tuple(dict.fromkeys(name for table in (here, *others) for name in table.keys))
    place = {name: column for column, name in enumerate(names)}
    total = torch.zeros(len(here.queries), len(names), dtype=torch.float64)
    for table, weight in [(here, 1.0), *((other, -1.0 / len(others)) for other in others)]:
        total.index_add_(1, torch.tensor([place[name] for name in table.keys]), weight * table.values)
    return here.queries, names, total if others else torch.full_like(total, torch.nan)


def _softmax(body: Body, asked: Asked, scores: Tensor, attention: Tensor) -> bool:
    cap = maps_of(body.network, asked.layer, asked.index).softcap
    bent = scores if cap is None else cap * torch.tanh(scores / cap)
    expected = torch.where(attention > 0, bent, -torch.inf).softmax(-1)
    return float((expected - attention).abs().max()) <= CLOSE


def _top(queries: tuple[str, ...], keys: tuple[str, ...], table: Tensor, count: int) -> tuple[Pair, ...]:
    flat = table.flatten()
    best = flat.abs().argsort(descending=True, stable=True)[:count].tolist()
    width = table.shape[1]
    return tuple(Pair(queries[k // width], keys[k % width], float(flat[k])) for k in best)
