"""Taps inside attention functions: patterns, queries, keys and values of any transformers model.

transformers looks its attention function up by name at every call. While a pass needs something from inside
attention, the name points at ours; ours calls the original function, so that a capture changes no bit of the output.
Only where a pattern is edited (or needs a gradient) is the output computed from the explicit pattern.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import NotTestable

#: port -> the function that sees its tensor and may return another
Taps = dict[str, Callable[[Tensor], Tensor | None]]

_ACTIVE: dict[int, Taps] = {}
_PREFIX = "cutaway_"
# What attention functions are told beside q, k, v, mask and scale, and what explicit_pattern understands of it.
_UNSUPPORTED = ("s_aux", "sinks", "cache")


@contextmanager
def tapped(module: nn.Module, taps: dict[nn.Module, Taps], explicit: bool) -> Iterator[None]:
    """While open, the attention modules in ``taps`` show their insides; everything is put back afterwards."""
    if not taps:
        yield
        return
    configs = {id(config): config for config in _configs(module)}
    before = {key: config._attn_implementation for key, config in configs.items()}
    try:
        for key, config in configs.items():
            config._attn_implementation = _registered(before[key])
        for attention, functions in taps.items():
            _ACTIVE[id(attention)] = {**functions, **({"explicit": lambda _: None} if explicit else {})}
        yield
    finally:
        for attention in taps:
            _ACTIVE.pop(id(attention), None)
        for key, config in configs.items():
            config._attn_implementation = before[key]


def _configs(module: nn.Module) -> list[Any]:
    found = [getattr(part, "config", None) for part in module.modules()]
    return [config for config in found if getattr(config, "_attn_implementation", None)]


def _registered(original: str) -> str:
    """The name under which transformers finds our function around ``original``."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if original.startswith(_PREFIX):
        return original
    if original not in ("sdpa", "eager"):
        raise NotTestable(
            f"Attention patterns cannot be seen inside {original!r} attention; load the network with "
            "attn_implementation='sdpa' or 'eager'."
        )
    name = _PREFIX + original
    if name not in ALL_ATTENTION_FUNCTIONS.valid_keys():
        ALL_ATTENTION_FUNCTIONS.register(name, _attention_around(original))
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[original])
    return name


def _attention_around(original: str) -> Callable[..., Any]:
    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **kwargs: Any,
    ) -> Any:
        function = _original(module, original)
        taps = _ACTIVE.get(id(module))
        if taps is None:
            return function(module, query, key, value, attention_mask, **kwargs)
        query, key, value = (
            _shown(taps, port, tensor) for port, tensor in (("query", query), ("key", key), ("value", value))
        )
        if "pattern" not in taps:
            return function(module, query, key, value, attention_mask, **kwargs)
        pattern = explicit_pattern(module, query, key, attention_mask, **kwargs)
        edited = taps["pattern"](pattern)
        if edited is None and "explicit" not in taps:
            return function(module, query, key, value, attention_mask, **kwargs)
        pattern = pattern if edited is None else edited
        mixed = pattern.to(value.dtype) @ _repeat(value, pattern.shape[1])
        return mixed.transpose(1, 2).contiguous(), pattern

    return attention


def _shown(taps: Taps, port: str, tensor: Tensor) -> Tensor:
    edited = taps[port](tensor) if port in taps else None
    return tensor if edited is None else edited


def _original(module: nn.Module, name: str) -> Callable[..., Any]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if name == "eager":
        return sys.modules[type(module).__module__].eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS[name]


def explicit_pattern(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> Tensor:
    """Attention probabilities [batch head query key]: softmax(q k^T * scaling + mask), rows sum to 1."""
    unknown = [name for name in _UNSUPPORTED if kwargs.get(name) is not None]
    if unknown:
        raise NotTestable(f"Attention with {unknown[0]!r} has no explicit pattern here; capture other sites.")
    scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
    precise = torch.promote_types(query.dtype, torch.float32)
    scores = (query @ _repeat(key, query.shape[1]).transpose(-1, -2)).to(precise) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if position_bias is not None:
        scores = scores + position_bias
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    if mask is None and causal and query.shape[2] > 1:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        mask = mask[..., : scores.shape[-1]]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    # A row that may attend to nothing (left padding) is all zeros, not NaN.
    return torch.nan_to_num(scores.softmax(-1)).to(query.dtype)


def _repeat(tensor: Tensor, heads: int) -> Tensor:
    """Key or value heads repeated for grouped queries."""
    groups = heads // tensor.shape[1]
    return tensor if groups == 1 else tensor.repeat_interleave(groups, dim=1)
