"""Why a head attends from here to there: its score as a sum over pairs of upstream parts.

score(i, j) = scale * q_i . k_j, with q_i a sum over the parts of the stream at i (what each head, MLP and the embedding
wrote, the layer's norm frozen) and k_j over those at j. Every pair of parts is one entry; biases are parts as well. The
sum is compared with the score that the network itself computed: what is missing is in ``gap``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.quadratic import Quadratic
from cutaway.circuits.transformer.forms import maps_of
from cutaway.circuits.transformer.rotation import inner_scale, rotations
from cutaway.circuits.transformer.stream import Stream, stream_parts
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.folded import HeadMaps, inverse_scale
from cutaway.networks.network import Network

MAP_BIAS = "map bias"
_PATTERN_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """One attention score (before softmax and softcap), entered by pairs: ``values[query part, key part]``.

    The last name is ``map bias``: the biases of the query and key maps and what a LayerNorm's bias does through them.
    ``error`` rows and columns hold what the stream has beyond its known parts. ``score`` is the network's own number,
    ``attention`` the probability that came of it.
    """

    layer: int
    head: int
    query_position: int
    key_position: int
    names: tuple[str, ...]
    values: Float[Tensor, "query_part key_part"]
    score: float
    attention: float

    @property
    def gap(self) -> float:
        """score - sum of all entries: floating point."""
        return self.score - float(self.values.sum())

    def top(self, count: int = 10) -> list[tuple[str, str, float]]:
        """The pairs that add or take most: (query part, key part, contribution), the largest in size first."""
        flat = self.values.flatten()
        width = self.values.shape[1]
        best = flat.abs().argsort(descending=True, stable=True)[:count].tolist()
        return [(self.names[k // width], self.names[k % width], float(flat[k])) for k in best]


@torch.no_grad()
def score_table(
    network: Network, text: Any, layer: int, head: int, query: int = -1, key: int = 0, *, row: int = 0
) -> ScoreTable:
    """Takes apart the score that head ``layer.head`` gives ``key`` when it looks from ``query`` (positions; negative
    ones count from the end of the prompt).

    ``row`` picks a stimulus of several. Raises ``NotTestable`` where the network's pattern is not the softmax of its
    scores as we know them.
    """
    maps = maps_of(network, layer, head)
    sites = {part: f"layers.{layer}.attn.{part}" for part in ("q", "k", "pattern")}
    stream = stream_parts(network, text, layer=layer, capture=tuple(sites.values()))
    i, j = _positions(stream, row, query, key)
    form = frozen_form(network, stream, maps, head, row, i, j)
    ledger = form.ledger(stream.parts[:, row, i].double(), stream.parts[:, row, j].double())
    keys = (
        stream.run[sites["k"]][row].repeat_interleave(maps.heads // stream.run[sites["k"]].shape[1], 0)[head].double()
    )
    scores = maps.scale * keys @ stream.run[sites["q"]][row, head, i].double()
    pattern = stream.run[sites["pattern"]][row, head, i].double()
    _check_pattern(network, maps, scores, pattern)
    names = (*stream.names, MAP_BIAS)
    return ScoreTable(layer, head, i, j, names, ledger.matrix(), float(scores[j]), float(pattern[j]))


def frozen_form(
    network: Network, stream: Stream, maps: HeadMaps, head: int, row: int, query: int, key: int
) -> Quadratic:
    """A head's score between two positions of a pass, as a form in the two streams: all norms as they were there."""
    turns = rotations(network, maps.layer, max(query, key) + 1)
    sides = []
    for position, weight, bias, inner in (
        (query, maps.query[head], maps.query_bias[head], maps.query_norm),
        (key, maps.key[head], maps.key_bias[head], maps.key_norm),
    ):
        x = stream.values[row, position]
        scale = inverse_scale(maps.norm, x)
        inner_factor = inner_scale(weight @ x * scale + bias, inner).double()
        weight, bias = weight.double() * scale.double() * inner_factor, bias.double() * inner_factor
        turn = None if turns is None else turns[position].double()
        sides.append((weight, bias) if turn is None else (turn @ weight, turn @ bias))
    (left, left_bias), (right, right_bias) = sides
    return Quadratic.of_readings(left, right, left_bias, right_bias, maps.scale)


def parts_that_carry(table: ScoreTable, share: float = 0.9) -> int:
    """How many pairs, taken by size, leave no more than ``1 - share`` of the summed sizes out."""
    sizes = table.values.abs().flatten().sort(descending=True).values
    return int((sizes.cumsum(0) < share * sizes.sum()).sum()) + 1


def _positions(stream: Stream, row: int, query: int, key: int) -> tuple[int, int]:
    mask = stream.batch.mask
    length = stream.values.shape[1] if mask is None else int(stream.batch.last[row]) + 1
    found = tuple(position + length if position < 0 else position for position in (query, key))
    if not all(0 <= position < length for position in found):
        raise BadInput(f"Positions {query} and {key} were asked for; the prompt has positions 0 to {length - 1}.")
    return found  # type: ignore[return-value]


def _check_pattern(network: Network, maps: HeadMaps, scores: Tensor, pattern: Tensor) -> None:
    """The pattern is the softmax of these scores over the positions that may be seen at all."""
    bent = scores if maps.softcap is None else maps.softcap * torch.tanh(scores / maps.softcap)
    expected = torch.where(pattern > 0, bent, -torch.inf).softmax(-1)
    if float((expected - pattern).abs().max()) > _PATTERN_TOLERANCE:
        raise NotTestable(
            f"The attention pattern of layer {maps.layer} of {network.name} is not the softmax of its scaled scores; a "
            "position bias or another scale is at work, which this analysis does not know."
        )
