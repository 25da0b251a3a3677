"""The anatomy of a transformer: which module reads the residual stream where, and which writes to it.

Sites (see :mod:`cutaway.networks.families`) say where tensors are seen; the anatomy says how the parts are joined:

    stream = embed (+ pos_embed) + sum over layers of heads and MLPs
    head   reads norm(stream) by its query, key and value maps and writes through its columns of the output map
    MLP    reads norm(stream) and writes through its down projection
    output reads final_norm(stream) through the unembedding

That holds for pre-norm transformers (GPT-2, GPT-NeoX, Llama, Mistral, Qwen, Gemma, compiled programs). Encoders like
BERT put a norm behind each sum; their anatomy says ``pre_norm=False``, for methods that need the sum to refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cutaway.errors import NotTestable
from cutaway.networks.network import Network
from cutaway.registry import FAMILIES


@dataclass(frozen=True, eq=False)
class Projection:
    """The query, key or value map of one layer: features ``columns`` [head d_head] of a linear module's output."""

    module: str
    columns: Int[Tensor, "head d_head"]

    @property
    def heads(self) -> int:
        """How many heads the map serves; fewer for keys and values where queries are grouped."""
        return int(self.columns.shape[0])


@dataclass(frozen=True, eq=False)
class LayerParts:
    """Module paths of one block. ``None`` where the block has no such part (no norm, no MLP).

    The input of ``out`` is the heads' outputs side by side, that of ``down`` the MLP's hidden units. ``mlp`` is the
    module whose input is the normed stream and which is called before anything of the MLP is computed. ``attn_added``
    and ``mlp_added`` are the modules whose outputs join the stream (a post-norm where the family has one).
    """

    index: int
    block: str
    attention: str
    query: Projection
    key: Projection
    value: Projection
    out: str
    attn_norm: str | None
    attn_added: str
    mlp: str | None = None
    mlp_norm: str | None = None
    down: str | None = None
    mlp_added: str | None = None
    parallel: bool = False

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return self.query.heads

    @property
    def group(self) -> int:
        """Query heads that share one key and value head."""
        return self.query.heads // self.key.heads


@dataclass(frozen=True, eq=False)
class Anatomy:
    """All blocks, in order, and what is before and after them.

    ``embeds`` maps source names (``embed``; ``pos_embed`` where positions are a table of their own that is added) to
    module paths whose outputs join the stream at its start. ``start`` is the module whose output is the stream there.
    """

    embeds: tuple[tuple[str, str], ...]
    layers: tuple[LayerParts, ...]
    final_norm: str | None
    unembed: str | None
    pre_norm: bool = True
    causal: bool = True

    @property
    def width(self) -> int:
        """d_head times heads of the first layer: the width of what heads write side by side."""
        return int(self.layers[0].query.columns.numel())


def anatomy(network: Network) -> Anatomy:
    """The anatomy of a transformer; raises ``NotTestable`` for networks whose family does not describe one."""
    if "anatomy" not in network._cache:
        describe = getattr(FAMILIES[network.family], "anatomy", None) if network.family in FAMILIES else None
        found = None if describe is None else describe(network.module)
        if found is None:
            raise NotTestable(
                f"Heads and MLPs of {network.name} were asked for; its family ({network.family}) does not say "
                "where a transformer's parts are; this works for GPT-2, GPT-NeoX, Llama, Mistral, Qwen, Gemma, "
                "BERT and compiled networks."
            )
        network._cache["anatomy"] = found
    return network._cache["anatomy"]


def weight_in_out(module: nn.Module) -> Float[Tensor, "in out"]:
    """A linear map as a matrix to multiply rows by, whether it is stored [out in] or (GPT-2's Conv1D) [in out]."""
    weight: Any = module.weight
    return weight.T if isinstance(module, nn.Linear) else weight


def projection_weight(
    network: Network, projection: Projection
) -> tuple[Float[Tensor, "head d_head d_model"], Float[Tensor, "head d_head"] | None]:
    """What each head's map does to the normed stream: ``y = W x + b`` (b None where there is none)."""
    module: Any = network.module.get_submodule(projection.module)
    columns = projection.columns.to(network.device)
    weight = weight_in_out(module)[:, columns].permute(1, 2, 0)
    bias = getattr(module, "bias", None)
    return weight, None if bias is None else bias[columns]


def output_weight(network: Network, layer: LayerParts) -> Float[Tensor, "head d_model d_head"]:
    """What each head's output becomes in the stream (the layer's output bias belongs to no head)."""
    weight = weight_in_out(network.module.get_submodule(layer.out))
    return weight.unflatten(0, (layer.heads, -1)).transpose(1, 2)


@dataclass(frozen=True, eq=False)
class NormMath:
    """A norm as arithmetic: ``gain * (x - mean(x) if centred else x) / sqrt(mean(.^2) + eps) + bias``."""

    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"] | None
    centred: bool
    eps: float


def norm_math(module: nn.Module, width: int) -> NormMath:
    """Reads LayerNorm or RMSNorm off a module by what it does to three probes, whatever its class is called.

    Raises ``NotTestable`` for a module that is neither.
    """
    like = next(module.parameters(), torch.zeros(1))
    eps = float(getattr(module, "eps", getattr(module, "variance_epsilon", 1e-5)))
    # Every entry of the probe has size 1: where one is small, dividing by it would blow rounding up.
    probe = torch.ones(width, dtype=torch.float64)
    probe[torch.randperm(width, generator=torch.Generator().manual_seed(0))[: width // 2]] = -1
    probe = (probe - probe.mean()).to(like)
    with torch.no_grad():
        plus, minus, moved = module(probe), module(-probe), module(probe + 3)
    bias = (plus + minus) / 2
    scaled = probe / torch.sqrt((probe**2).mean() + eps)
    gain = (plus - bias) / scaled
    offset = probe + 3
    rms = gain * offset / torch.sqrt((offset**2).mean() + eps) + bias
    # A norm that is none differs by far more than the rounding of the narrowest numbers (bfloat16: 2^-8).
    tolerance = max(1e-3, 8 * torch.finfo(like.dtype).eps) * float(plus.abs().max()) + 1e-6
    if float((moved - plus).abs().max()) < tolerance:
        centred = True
    elif float((moved - rms).abs().max()) < tolerance:
        centred = False
    else:
        raise NotTestable(f"{type(module).__name__} is neither a LayerNorm nor an RMSNorm, so it cannot be folded.")
    return NormMath(gain, bias if float(bias.abs().max()) > 0 else None, centred, eps)
