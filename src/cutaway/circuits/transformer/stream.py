"""The residual stream of one pass as the sum of what each part wrote, on norms frozen as they were in that pass.

Pre-norm transformers: the stream is the embedding plus every head, every MLP and the biases of output maps. Where a
norm stands between a part and the stream (Gemma 2 behind attention, BERT behind every sum), its scale at each position
is held fixed; then it is linear, and everything written before it passes through it. What floating point leaves over,
or an architecture that adds something unknown, is a part of its own: ``error``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.errors import BadInput, NotTestable
from cutaway.networks.anatomy import Anatomy, LayerParts, anatomy
from cutaway.networks.folded import HeadMaps, head_maps, inverse_scale, norm_at, pass_through
from cutaway.networks.network import Batch, Network, Run
from cutaway.networks.sites import POSITIONS, Site

BIAS, ERROR = "bias", "error"
_PREFIX = "stream."


@dataclass(frozen=True, eq=False)
class Stream:
    """What each part wrote, at each position; ``values`` is what the network itself had there.

    Names are those of circuit nodes: ``embed`` (``pos_embed``), ``L3H1``, ``L3MLP``; ``bias`` holds what belongs to no
    input (output biases, norms' biases), ``error`` = values - everything else.
    """

    names: tuple[str, ...]
    parts: Float[Tensor, "part batch pos d_model"]
    values: Float[Tensor, "batch pos d_model"]
    run: Run

    @property
    def batch(self) -> Batch:
        """What was shown."""
        return self.run.batch

    @property
    def relative_error(self) -> float:
        """|error| over |values|: about 1e-6 where the parts are all there is."""
        return float(self.parts[self.names.index(ERROR)].norm() / self.values.norm().clamp(min=1e-30))


@torch.no_grad()
def stream_parts(network: Network, stimuli: Any, *, layer: int | None = None, capture: tuple[str, ...] = ()) -> Stream:
    """Runs once and takes apart the stream that enters ``layer`` (None: that leaves the last block).

    ``capture`` names further sites of the same pass. Raises ``NotTestable`` where the family has no anatomy.
    """
    body = anatomy(network)
    depth = len(body.layers) if layer is None else layer
    if not 0 <= depth <= len(body.layers):
        raise BadInput(f"Layer {layer} was asked for; {network.name} has layers 0 to {len(body.layers) - 1}.")
    opened = _opened(network, body)
    wanted = [name for name, _ in _places(network, body, depth)]
    run = opened.run(stimuli, capture=[*wanted, *capture])
    parts = _summed(network, body, depth, run)
    values = run[_PREFIX + f"in{depth}"]
    parts[ERROR] = values - torch.stack(list(parts.values())).sum(0)
    return Stream(tuple(parts), torch.stack(list(parts.values())), values, run)


def _summed(network: Network, body: Anatomy, depth: int, run: Run) -> dict[str, Tensor]:
    start = run[_PREFIX + "in0"]
    several = len(body.embeds) > 1
    parts = {name: run[_PREFIX + name].expand_as(start) if several else start for name, _ in body.embeds}
    parts[BIAS] = torch.zeros_like(start)
    for layer in body.layers[:depth]:
        _add_heads(network, layer, run, parts)
        _behind_norm(network, _sum_norms(network, body, layer)[:1], run, parts)
        if layer.mlp_added is not None:
            parts[f"L{layer.index}MLP"] = run[_PREFIX + f"mlp{layer.index}"]
        _behind_norm(network, _sum_norms(network, body, layer)[1:], run, parts)
    return parts


def _add_heads(network: Network, layer: LayerParts, run: Run, parts: dict[str, Tensor]) -> None:
    maps = head_maps(network, layer.index)
    mixed = run[_PREFIX + f"heads{layer.index}"].unflatten(-1, (layer.heads, -1))
    written = torch.einsum("hdr,bthr->hbtd", maps.out, mixed)
    scale = _out_scale(maps, layer, run)
    for head in range(layer.heads):
        parts[f"L{layer.index}H{head}"] = written[head] * scale
    parts[BIAS] = parts[BIAS] + maps.out_bias * scale
    if maps.out_norm is not None and maps.out_norm.bias is not None:
        parts[BIAS] = parts[BIAS] + maps.out_norm.bias


def _out_scale(maps: HeadMaps, layer: LayerParts, run: Run) -> Tensor:
    if maps.out_norm is None:
        return torch.ones_like(run[_PREFIX + "in0"][..., :1])
    return inverse_scale(maps.out_norm, run[_PREFIX + f"post{layer.index}"])[..., None]


def _behind_norm(network: Network, paths: list[str], run: Run, parts: dict[str, Tensor]) -> None:
    """Sends everything written so far through a norm of the stream itself, its scale as it was."""
    for path in paths:
        norm = norm_at(network, path)
        assert norm is not None
        scale = inverse_scale(norm, run[_PREFIX + path])[..., None]
        for name, value in parts.items():
            parts[name] = pass_through(norm, value) * scale
        if norm.bias is not None:
            parts[BIAS] = parts[BIAS] + norm.bias


def _sum_norms(network: Network, body: Anatomy, layer: LayerParts) -> list[str]:
    """The norms on the stream inside a post-norm block: behind attention and behind the MLP."""
    if body.pre_norm:
        return []
    block = network.module.get_submodule(layer.block)
    found = [f"{layer.block}.{path}" for path, part in block.named_modules() if isinstance(part, nn.LayerNorm)]
    if len(found) != 2:
        raise NotTestable(
            f"{layer.block} has {len(found)} norms; a block that norms its stream has one behind attention and one "
            "behind the MLP, or it cannot be taken apart."
        )
    return found


def _opened(network: Network, body: Anatomy) -> Network:
    """The network with the places that taking apart needs as further sites."""
    known = network._cache.setdefault("opened", {})
    if "network" not in known:
        extra = tuple(site for _, site in _places(network, body, len(body.layers)))
        known["network"] = dataclasses.replace(network, site_list=(*network.site_list, *extra), _cache={})
    return known["network"]


def _places(network: Network, body: Anatomy, depth: int) -> list[tuple[str, Site]]:
    places = [_place(name, path) for name, path in body.embeds] if len(body.embeds) > 1 else []
    places.append(_place("in0", body.layers[0].block, "input"))
    for layer in body.layers[:depth]:
        places.append(_place(f"heads{layer.index}", layer.out, "input"))
        if layer.attn_added != layer.out:
            places.append(_place(f"post{layer.index}", layer.attn_added, "input"))
        if layer.mlp_added is not None:
            places.append(_place(f"mlp{layer.index}", layer.mlp_added))
        places += [_place(path, path, "input") for path in _sum_norms(network, body, layer)]
        places.append(_place(f"in{layer.index + 1}", layer.block))
    return places


def _place(name: str, module: str, port: str = "output") -> tuple[str, Site]:
    return _PREFIX + name, Site(_PREFIX + name, "stream", POSITIONS, module, port)
