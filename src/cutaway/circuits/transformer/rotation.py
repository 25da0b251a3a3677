"""What position embeddings do to queries and keys, read from the network's own functions and checked on its own
numbers.

A rotary network turns query and key of position t by one matrix R_t before it multiplies them, so that a score depends
on R_i' R_j, that is, on the offset alone (Su et al. 2021). R_t is what the model's own function makes of the unit
vectors at position t, with the cosines and sines that it computed in a pass: partial rotations, interleaving, scaled
frequencies and layers without rotation come out as they are.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.errors import NotTestable
from cutaway.networks.anatomy import LayerParts, anatomy
from cutaway.networks.folded import HeadMaps, head_maps, inverse_scale
from cutaway.networks.network import Network
from cutaway.networks.sites import POSITIONS, Site

STREAM = "rotation.stream"
_TOLERANCE = 1e-3  # of the largest query: what rounding in half precision leaves
_SHORTEST = 8


def rotations(network: Network, layer: int, length: int) -> Float[Tensor, "pos d_head d_head"] | None:
    """R_t for positions 0 to length - 1 (``R[t] @ query``); None where the layer turns nothing.

    Raises ``NotTestable`` if the queries that the network computes are not these maps of its stream.
    """
    known: dict[int, Tensor | None] = network._cache.setdefault("rotations", {})
    if layer not in known or (known[layer] is not None and len(known[layer]) < length):  # type: ignore[arg-type]
        known[layer] = _found(network, layer, max(length, _SHORTEST))
    found = known[layer]
    return None if found is None else found[:length]


@torch.no_grad()
def _found(network: Network, layer: int, length: int) -> Tensor | None:
    parts, maps = anatomy(network).layers[layer], head_maps(network, layer)
    attention = network.module.get_submodule(parts.attention)
    turn = getattr(sys.modules[type(attention).__module__], "apply_rotary_pos_emb", None)
    stream, queries, angles = _pass(network, parts, 1 if turn is None else length)
    turned = None if turn is None or not isinstance(angles, tuple) else _turned_units(turn, angles, maps, length)
    plain = _queries(maps, stream)
    if turned is not None and _close(torch.einsum("tab,htb->hta", turned, plain), queries):
        return turned
    if _close(plain, queries):
        return None
    raise NotTestable(
        f"The queries of layer {layer} of {network.name} are not its query map and rotary embedding applied to "
        "the stream; its attention does something that this analysis does not know."
    )


def _pass(network: Network, parts: LayerParts, length: int) -> tuple[Tensor, Tensor, Any]:
    """The stream before a block, its queries as attention sees them, and the angles that the block is given."""
    name = f"layers.{parts.index}.attn.q"
    site = Site(STREAM, "resid", POSITIONS, parts.block, "input")
    wider = dataclasses.replace(network, site_list=(*network.site_list, site), _cache={})
    size = getattr(getattr(network.module, "config", None), "vocab_size", 2)
    ids = torch.randint(0, size, (1, length), generator=torch.Generator().manual_seed(0))
    with _listening(network.module.get_submodule(parts.attention)) as heard:
        run = wider.run(ids, capture=[STREAM, name], stop_at=name)
    return run[STREAM][0], run[name][0], heard.get("position_embeddings")


@contextmanager
def _listening(attention: nn.Module) -> Iterator[dict[str, Any]]:
    """The keyword arguments that a module is called with while this is open."""
    heard: dict[str, Any] = {}

    def hook(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        heard.update(kwargs)

    handle = attention.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield heard
    finally:
        handle.remove()


def _turned_units(turn: Any, angles: tuple[Tensor, ...], maps: HeadMaps, length: int) -> Tensor:
    """What the model's own function makes of each unit vector at each position: [pos d_head d_head]."""
    d_head = maps.query.shape[1]
    units = torch.eye(d_head).to(maps.query)[None, :, None].expand(1, d_head, length, d_head)
    turned, _ = turn(units, units, *(each[:1] for each in angles))
    return turned[0].permute(1, 2, 0)


def _queries(maps: HeadMaps, stream: Float[Tensor, "pos d_model"]) -> Float[Tensor, "head pos d_head"]:
    """Queries before any rotation."""
    raw = torch.einsum("hrd,td->htr", maps.query, stream * inverse_scale(maps.norm, stream)[:, None])
    raw = raw + maps.query_bias[:, None]
    return raw * inner_scale(raw, maps.query_norm)[..., None]


def inner_scale(vectors: Float[Tensor, "*batch d_head"], norm: Any) -> Float[Tensor, "*batch"]:
    """1 / sigma of a head's own norm, from vectors with its gain (and centring) folded in."""
    if norm is None:
        return torch.ones_like(vectors[..., 0])
    return torch.rsqrt((vectors / norm.gain).square().mean(-1) + norm.eps)


def _close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) <= _TOLERANCE * float(other.abs().max().clamp(min=1e-6))
