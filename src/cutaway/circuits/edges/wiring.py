"""Places of a transformer that edges need beside its sites, and the network with those places added.

A pass with captures and edits at these places is an ordinary :meth:`Network.run`; nothing is hooked behind its back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.circuits.edges.graph import EdgeGraph
from cutaway.errors import NotTestable
from cutaway.networks.anatomy import (
    Anatomy,
    LayerParts,
    NormMath,
    Projection,
    anatomy,
    norm_math,
    output_weight,
    projection_weight,
)
from cutaway.networks.network import Network
from cutaway.networks.sites import POSITIONS, Site


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """One layer's maps, ready for use: reading [target d_head d_model] (norm's gain not folded in), writing."""

    read: tuple[Float[Tensor, "_ d_head d_model"], ...]  # query, key, value
    bias: tuple[Float[Tensor, "_ d_head"] | None, ...]
    write: Float[Tensor, "head d_model d_head"]
    attn_norm: nn.Module | None
    mlp_norm: nn.Module | None


@dataclass(frozen=True, eq=False)
class Wired:
    """A network whose residual stream can be cut open: its graph, its anatomy, its weights, its extra places."""

    network: Network  # with the extra sites
    parts: Anatomy
    graph: EdgeGraph
    weights: tuple[LayerWeights, ...]
    final_norm: nn.Module | None
    width: int

    def module(self, path: str) -> nn.Module:
        """A part by its path."""
        return self.network.module.get_submodule(path)

    def norm(self, module: nn.Module | None) -> NormMath | None:
        """A norm's arithmetic, read off once."""
        if module is None:
            return None
        known = self.network._cache.setdefault("norms", {})
        if id(module) not in known:
            known[id(module)] = norm_math(module, self.width)
        return known[id(module)]


def projections(layer: LayerParts) -> tuple[tuple[str, Projection], ...]:
    """The layer's ports and their maps."""
    return (("q", layer.query), ("k", layer.key), ("v", layer.value))


def stream_site(layer: int) -> str:
    """Where heads of a layer read the stream, before the norm."""
    return f"edges.{layer}.stream"


def projected_site(layer: int, module: str) -> str:
    """The output of a query, key or value map (or of a fused one)."""
    return f"edges.{layer}.{module.rsplit('.', 1)[-1]}"


def mlp_stream_site(layer: int) -> str:
    """Where the MLP of a layer reads the stream, before the norm."""
    return f"edges.{layer}.mlp_stream"


def mlp_in_site(layer: int) -> str:
    """What the MLP of a layer is given, after the norm."""
    return f"edges.{layer}.mlp_in"


def heads_site(layer: int) -> str:
    """The heads' outputs side by side."""
    return f"edges.{layer}.heads"


def mlp_out_site(layer: int) -> str:
    """What the MLP writes."""
    return f"edges.{layer}.mlp_out"


FINAL_STREAM, FINAL_OUT = "edges.final_stream", "edges.final_out"


def embed_site(name: str) -> str:
    """What an embedding table writes."""
    return f"edges.{name}"


def wire(network: Network) -> Wired:
    """Opens up a transformer; raises ``NotTestable`` for networks in which edges are not defined."""
    if "wired" in network._cache:
        return network._cache["wired"]
    parts = anatomy(network)
    graph = EdgeGraph.of(parts)
    if parts.unembed is None:
        raise NotTestable(f"Edges to the output of {network.name} were asked for; it has no unembedding.")
    sites = tuple(_sites(parts))
    opened = dataclasses.replace(network, site_list=sites, source=network.source, _cache={})
    weights = tuple(_weights(network, layer) for layer in parts.layers)
    wired = Wired(opened, parts, graph, weights, _norm_at(network, parts.final_norm), int(weights[0].write.shape[1]))
    network._cache["wired"] = wired
    return wired


def _weights(network: Network, layer: LayerParts) -> LayerWeights:
    maps = [projection_weight(network, projection) for _, projection in projections(layer)]
    return LayerWeights(
        tuple(weight.detach() for weight, _ in maps),
        tuple(None if bias is None else bias.detach() for _, bias in maps),
        output_weight(network, layer).detach(),
        _norm_at(network, layer.attn_norm),
        _norm_at(network, layer.mlp_norm),
    )


def _norm_at(network: Network, path: str | None) -> nn.Module | None:
    """The norm at a path; an identity is none."""
    module = None if path is None else network.module.get_submodule(path)
    return None if isinstance(module, nn.Identity) else module


def _sites(parts: Anatomy) -> Iterator[Site]:
    def place(name: str, module: str, port: str = "output") -> Site:
        return Site(name, "edges", POSITIONS, module, port)

    for name, module in parts.embeds:
        yield place(embed_site(name), module)
    for layer in parts.layers:
        index = layer.index
        yield place(stream_site(index), layer.attn_norm or layer.query.module, "input")
        for module in dict.fromkeys(projection.module for _, projection in projections(layer)):
            yield place(projected_site(index, module), module)
        yield place(heads_site(index), layer.out, "input")
        if layer.mlp is not None and layer.mlp_added is not None:
            yield place(mlp_stream_site(index), layer.mlp_norm or layer.mlp, "input")
            yield place(mlp_in_site(index), layer.mlp, "input")
            yield place(mlp_out_site(index), layer.mlp_added)
    final = parts.final_norm or parts.unembed or ""
    yield place(FINAL_STREAM, final, "input")
    if parts.final_norm is not None:
        yield place(FINAL_OUT, parts.final_norm)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """While open, no parameter asks for a gradient, so that none is computed or made room for."""
    asking = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def apply_norm(module: nn.Module | None, stream: Tensor) -> Tensor:
    """The stream as a reader sees it."""
    return stream if module is None else module(stream)


def head_outputs(
    heads: Float[Tensor, "batch pos flat"],
    write: Float[Tensor, "head d_model d_head"],
    chosen: Sequence[int] | None = None,
) -> Float[Tensor, "chosen batch pos d_model"]:
    """Each head's share of the stream, for all heads or the chosen ones."""
    split = heads.unflatten(-1, (write.shape[0], -1)).movedim(2, 0)
    if chosen is not None and len(chosen) < len(write):
        split, write = split[list(chosen)], write[list(chosen)]
    made = torch.bmm(split.flatten(1, 2), write.to(heads).transpose(1, 2))
    return made.unflatten(1, heads.shape[:2])
