"""Why a head looked there: the attention score of each move of the graph, as pairs of sources at query and key.

Attention is a contest between positions, so a pair counts by how much more it gives this key than the other keys of the
same query, in the mean (differences that all keys share do not move attention). Sources are those of
:mod:`cutaway.circuits.transformer`: embeddings, heads, MLPs, biases, all norms as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.tracing.frozen import Body, Pass, wide
from cutaway.circuits.transformer.forms import maps_of
from cutaway.circuits.transformer.scores import MAP_BIAS, frozen_form
from cutaway.circuits.transformer.stream import Stream, stream_parts
from cutaway.networks.network import Batch

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


def explain(
    body: Body, seen: Pass, batch: Batch, asked: Sequence[Asked], *, pairs: int = 5
) -> tuple[tuple[Move, ...], tuple[str, ...]]:
    """The moves with their strongest pairs, and notes on heads whose attention is more than a softmax of scores."""
    moves: list[Move] = []
    notes: list[str] = []
    for layer in sorted({each.layer for each in asked}):
        stream = stream_parts(body.network, batch, layer=layer)
        for each in (one for one in asked if one.layer == layer):
            found = _explained(body, seen, stream, each, pairs)
            moves += [] if found is None else [found]
            if found is None:
                notes.append(f"L{layer}H{each.index}: its attention is not the softmax of its scores as known here")
    order = {(each.layer, each.index, each.query, each.key): row for row, each in enumerate(asked)}
    moves.sort(key=lambda move: order[move.layer, move.index, move.query, move.key])
    return tuple(moves), tuple(dict.fromkeys(notes))


def _explained(body: Body, seen: Pass, stream: Stream, asked: Asked, count: int) -> Move | None:
    attention = seen.patterns[asked.layer][asked.index, asked.query]
    keys = [key for key in range(seen.length) if key <= asked.query or not body.wired.parts.causal]
    tables = torch.stack([_table(body, stream, asked, key) for key in keys])
    scores = tables.sum((1, 2))
    if not _softmax(body, asked, scores, attention[keys]):
        return None
    here = keys.index(asked.key)
    others = [row for row in range(len(keys)) if row != here]
    advantage = tables[here] - tables[others].mean(0) if others else torch.full_like(tables[here], torch.nan)
    names = (*stream.names, MAP_BIAS)
    return Move(
        f"L{asked.layer}H{asked.index}", asked.layer, asked.index, asked.query, asked.key,
        float(attention[asked.key]), asked.value, float(scores[here]), float(advantage.sum()),
        _top(names, advantage, count) if others else (),
    )  # fmt: skip


def _table(body: Body, stream: Stream, asked: Asked, key: int) -> Float[Tensor, "query_part key_part"]:
    maps = maps_of(body.network, asked.layer, asked.index)
    form = frozen_form(body.network, stream, maps, asked.index, 0, asked.query, key)
    return wide(form.ledger(wide(stream.parts[:, 0, asked.query]), wide(stream.parts[:, 0, key])).matrix())


def _softmax(body: Body, asked: Asked, scores: Tensor, attention: Tensor) -> bool:
    cap = maps_of(body.network, asked.layer, asked.index).softcap
    bent = scores if cap is None else cap * torch.tanh(scores / cap)
    expected = torch.where(attention > 0, bent, -torch.inf).softmax(-1)
    return float((expected - attention).abs().max()) <= CLOSE


def _top(names: tuple[str, ...], table: Tensor, count: int) -> tuple[Pair, ...]:
    flat = table.flatten()
    best = flat.abs().argsort(descending=True, stable=True)[:count].tolist()
    width = table.shape[1]
    return tuple(Pair(names[k // width], names[k % width], float(flat[k])) for k in best)
