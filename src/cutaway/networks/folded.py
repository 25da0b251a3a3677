"""Attention heads as matrices on the residual stream itself: the norms' gains, centring and biases folded in.

A head reads ``norm(x) = gain * centre(x) / sigma(x) + beta`` by ``W norm(x) + b``. All of that but the scale
``1 / sigma(x)`` is linear, so W is replaced by ``W diag(gain) C`` and b by ``b + W beta`` (Elhage et al. 2021, "A
Mathematical Framework for Transformer Circuits"). A norm behind the query or key map (Qwen 3, Gemma 3) and one behind
the output map (Gemma 2) are folded the same way. What is left of every norm is one number per position, read off a
pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.errors import NotTestable
from cutaway.networks.anatomy import LayerParts, NormMath, anatomy, norm_math, output_weight, projection_weight
from cutaway.networks.network import Network

_QUERY_NORMS, _KEY_NORMS = ("q_norm", "q_layernorm"), ("k_norm", "k_layernorm")


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """One layer's heads, for a stream that its norm has divided by sigma: ``q = query x + query_bias``, and so on.

    Keys and values are repeated for grouped queries, so that every query head has its own row. ``scale`` multiplies
    q . k; ``softcap`` bends the score afterwards (Gemma 2). ``out_bias`` belongs to no head. The norms that were
    folded in are kept: their scales at each position are not.
    """

    layer: int
    query: Float[Tensor, "head d_head d_model"]
    key: Float[Tensor, "head d_head d_model"]
    value: Float[Tensor, "head d_head d_model"]
    out: Float[Tensor, "head d_model d_head"]
    query_bias: Float[Tensor, "head d_head"]
    key_bias: Float[Tensor, "head d_head"]
    value_bias: Float[Tensor, "head d_head"]
    out_bias: Float[Tensor, " d_model"]
    scale: float
    softcap: float | None = None
    norm: NormMath | None = None
    query_norm: NormMath | None = None
    key_norm: NormMath | None = None
    out_norm: NormMath | None = None

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return int(self.query.shape[0])


def head_maps(network: Network, layer: int) -> HeadMaps:
    """The maps of one layer, folded; the network's own tensors are not touched.

    Raises ``NotTestable`` for a norm that is neither LayerNorm nor RMSNorm, or that runs over several heads at once.
    """
    layers = anatomy(network).layers
    if not 0 <= layer < len(layers):
        raise NotTestable(f"Layer {layer} was asked for; {network.name} has layers 0 to {len(layers) - 1}.")
    return _once(network, ("head maps", layer), lambda: _folded(network, layers[layer]))


@torch.no_grad()
def _folded(network: Network, parts: LayerParts) -> HeadMaps:
    attention = network.module.get_submodule(parts.attention)
    norm = norm_at(network, parts.attn_norm)
    d_head = int(parts.query.columns.shape[1])
    inner = [_inner_norm(attention, names, d_head) for names in (_QUERY_NORMS, _KEY_NORMS)]
    projections = (parts.query, parts.key, parts.value)
    maps = [
        _reading(*projection_weight(network, each), norm, after) for each, after in zip(projections, [*inner, None])
    ]
    maps = [_per_query_head(weight, bias, parts.heads) for weight, bias in maps]
    out_norm = norm_at(network, parts.attn_added) if parts.attn_added != parts.out else None
    out, out_bias = _writing(network, parts, out_norm)
    (query, query_bias), (key, key_bias), (value, value_bias) = maps
    return HeadMaps(
        parts.index, query, key, value, out, query_bias, key_bias, value_bias, out_bias,
        _score_scale(attention, d_head), getattr(attention, "attn_logit_softcapping", None),
        norm, inner[0], inner[1], out_norm,
    )  # fmt: skip


def norm_at(network: Network, path: str | None) -> NormMath | None:
    """The arithmetic of the norm at a module path (None for no norm), read off once."""
    if path is None:
        return None
    module = network.module.get_submodule(path)
    return _once(network, ("norm", path), lambda: norm_math(module, stream_width(network)))


def stream_width(network: Network) -> int:
    """The width of the residual stream: what heads write to."""
    return int(output_weight(network, anatomy(network).layers[0]).shape[1])


def read_through(
    norm: NormMath | None, weight: Float[Tensor, "*row d"], bias: Float[Tensor, "*row"] | None = None
) -> tuple[Float[Tensor, "*row d"], Float[Tensor, "*row"]]:
    """``W norm(x) + b`` as ``W' x / sigma(x) + b'``: the folded W' and b'."""
    bias = torch.zeros_like(weight[..., 0]) if bias is None else bias
    if norm is None:
        return weight, bias
    bias = bias if norm.bias is None else bias + weight @ norm.bias
    folded = weight * norm.gain
    return (folded - folded.mean(-1, keepdim=True) if norm.centred else folded), bias


def pass_through(norm: NormMath | None, vectors: Float[Tensor, "*row d"]) -> Float[Tensor, "*row d"]:
    """What the linear part of a norm (centring and gain, without scale and bias) makes of vectors."""
    if norm is None:
        return vectors
    return (vectors - vectors.mean(-1, keepdim=True) if norm.centred else vectors) * norm.gain


def inverse_scale(norm: NormMath | None, stream: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """1 / sigma(x) of a norm at each position; 1 where there is no norm."""
    if norm is None:
        return torch.ones_like(stream[..., 0])
    moved = stream - stream.mean(-1, keepdim=True) if norm.centred else stream
    return torch.rsqrt(moved.square().mean(-1) + norm.eps)


def token_embeddings(network: Network) -> Float[Tensor, "vocab d_model"]:
    """The token table as it is stored (Gemma multiplies it by a constant, which a norm takes out again)."""
    get = getattr(network.module, "get_input_embeddings", None)
    module: Any = get() if get is not None else network.module.get_submodule(anatomy(network).embeds[0][1])
    if not isinstance(module, nn.Embedding):
        raise NotTestable(f"The token table of {network.name} was asked for; {type(module).__name__} is no table.")
    return module.weight.detach()


def unembedding(network: Network) -> tuple[Float[Tensor, "out d_model"], Float[Tensor, " out"]]:
    """The unembedding with the final norm folded in: logits = W x / sigma(x) + b. ``NotTestable`` without one."""
    return _once(network, ("unembedding",), lambda: _unembedding(network))


@torch.no_grad()
def _unembedding(network: Network) -> tuple[Tensor, Tensor]:
    parts = anatomy(network)
    if parts.unembed is None or not parts.pre_norm:
        raise NotTestable(f"Effects on output tokens were asked for; {network.name} has no unembedding of its stream.")
    module: Any = network.module.get_submodule(parts.unembed)
    bias = getattr(module, "bias", None)
    return read_through(norm_at(network, parts.final_norm), module.weight.detach(), bias)


def _once(network: Network, key: Any, make: Callable[[], Any]) -> Any:
    cache = network._cache.setdefault("folded", {})
    if key not in cache:
        cache[key] = make()
    return cache[key]


def _inner_norm(attention: nn.Module, names: tuple[str, ...], d_head: int) -> NormMath | None:
    """The norm of each head's own query or key, where the layer has one."""
    module = next(
        (getattr(attention, name) for name in names if isinstance(getattr(attention, name, None), nn.Module)), None
    )
    if module is None or isinstance(module, nn.Identity):
        return None
    width = next((len(p) for p in module.parameters() if p.ndim == 1), d_head)
    if width != d_head:
        raise NotTestable(
            f"Queries and keys are normed over {width} numbers, not over a head's {d_head}: no head's alone."
        )
    found = norm_math(module, d_head)
    if found.bias is not None or float(found.gain.abs().min()) == 0:
        raise NotTestable(
            "Queries and keys go through a norm with a bias or a gain of 0, which their maps cannot take up."
        )
    return found


def _reading(
    weight: Tensor, bias: Tensor | None, before: NormMath | None, after: NormMath | None
) -> tuple[Tensor, Tensor]:
    weight, bias = read_through(before, weight.detach(), None if bias is None else bias.detach())
    if after is None:
        return weight, bias
    return pass_through(after, weight.transpose(1, 2)).transpose(1, 2), pass_through(after, bias)


def _per_query_head(weight: Tensor, bias: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    times = heads // len(weight)
    return weight.repeat_interleave(times, 0), bias.repeat_interleave(times, 0)


def _writing(network: Network, parts: LayerParts, norm: NormMath | None) -> tuple[Tensor, Tensor]:
    weight = output_weight(network, parts).detach()
    module: Any = network.module.get_submodule(parts.out)
    bias = getattr(module, "bias", None)
    bias = torch.zeros_like(weight[0, :, 0]) if bias is None else bias.detach()
    return pass_through(norm, weight.transpose(1, 2)).transpose(1, 2), pass_through(norm, bias)


def _score_scale(attention: nn.Module, d_head: int) -> float:
    scaling: Any = getattr(attention, "scaling", None)
    return d_head**-0.5 if scaling is None else float(scaling)
