"""QK and OV circuits of a head as factored forms on the stream (Elhage et al. 2021).

Both hold for streams at RMS 1 as the layer's norm sees them: a position's own 1 / sigma multiplies its side. Nothing of
size d_model x d_model is made.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.quadratic import Quadratic
from cutaway.circuits.transformer.rotation import rotations
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.anatomy import anatomy
from cutaway.networks.folded import HeadMaps, head_maps
from cutaway.networks.network import Network


def maps_of(network: Network, layer: int, head: int) -> HeadMaps:
    """The folded maps of a layer, after checking that it has that head."""
    maps = head_maps(network, layer)
    if not 0 <= head < maps.heads:
        raise BadInput(f"Head {layer}.{head} was asked for; layer {layer} has heads 0 to {maps.heads - 1}.")
    return maps


def qk_form(network: Network, layer: int, head: int, *, offset: int = 0) -> Quadratic:
    """The attention score of a head as a form in the query's and the key's stream, ``offset`` positions apart (>= 0).

    x is the stream at the query, y the one at the key that many positions before; 1 / sqrt(d_head) is in it. In a
    network without rotary positions the offset changes nothing. Where queries and keys have norms of their own
    (Qwen 3), those norms' scales are left out, too; biases of such maps scale with them.
    """
    if offset < 0:
        raise BadInput(f"An offset of {offset} was asked for; keys lie at or before the query: give 0 or more.")
    maps = maps_of(network, layer, head)
    turns = rotations(network, layer, offset + 1)
    query, query_bias = _turned(turns, offset, maps.query[head], maps.query_bias[head])
    key, key_bias = _turned(turns, 0, maps.key[head], maps.key_bias[head])
    return Quadratic.of_readings(query, key, query_bias, key_bias, maps.scale)


def ov_form(network: Network, layer: int, head: int) -> Quadratic:
    """x . (what the head writes for a source y): a form in a direction x of the stream and the source's stream y.

    ``from_x`` is what the value's bias writes: attention weights sum to 1, so it is written at every position.
    """
    maps = maps_of(network, layer, head)
    return Quadratic.of_readings(maps.out[head].T, maps.value[head], None, maps.value_bias[head])


def _turned(
    turns: Float[Tensor, "pos d d"] | None, at: int, weight: Float[Tensor, "d d_model"], bias: Float[Tensor, " d"]
) -> tuple[Float[Tensor, "d d_model"], Float[Tensor, " d"]]:
    return (weight, bias) if turns is None else (turns[at] @ weight, turns[at] @ bias)


def head_names(network: Network) -> list[tuple[int, int]]:
    """(layer, head) of every head, in order."""
    return [(layer.index, head) for layer in anatomy(network).layers for head in range(layer.heads)]


def parse_head(network: Network, text: str) -> tuple[int, int]:
    """``"18.6"`` or ``"L18H6"`` as (18, 6), checked against the network."""
    digits = text.strip().upper().removeprefix("L").replace("H", ".").split(".")
    if len(digits) != 2 or not all(part.isdigit() for part in digits):
        raise BadInput(f"{text!r} is not a head; write LAYER.HEAD, for example 5.1.")
    layer, head = (int(part) for part in digits)
    try:
        maps_of(network, layer, head)
    except NotTestable as error:
        raise BadInput(str(error)) from error
    return layer, head
