"""Compiled transformers: token and position tables are two sources, parts are seen through identity modules."""

from dataclasses import replace

import torch
from torch import nn

from cutaway.networks.anatomy import Anatomy, LayerParts, Projection
from cutaway.networks.compiled.module import Block, CompiledTransformer
from cutaway.networks.compiled.spec import Spec
from cutaway.networks.sites import HEAD_STREAM, HEADS, PATTERN, POSITIONS, Site
from cutaway.registry import FAMILIES


class CompiledFamily:
    """``embed`` and ``pos_embed`` are what each table adds; a layer without an MLP has no ``resid_mid``."""

    modality = "text"

    def matches(self, module: nn.Module) -> bool:
        """True for :class:`CompiledTransformer`."""
        return isinstance(module, CompiledTransformer)

    def task(self, module: nn.Module) -> str:
        """``compiled`` (an answer at every position) or ``causal-lm``, as the specification says."""
        return module.spec.task if isinstance(module, CompiledTransformer) else "other"

    def sites(self, module: nn.Module) -> tuple[Site, ...]:
        """embed, pos_embed, each layer's parts, final (where there is a last norm), logits."""
        assert isinstance(module, CompiledTransformer)
        spec = module.spec
        found = [
            Site("embed", "embed", POSITIONS, "token_embed", width=spec.d_model),
            Site("pos_embed", "embed", POSITIONS, "pos_embed", width=spec.d_model),
        ]
        for index in range(spec.num_layers):
            found += _layer_sites(spec, index)
        if spec.layer_norm:
            found.append(Site("final", "resid", POSITIONS, "final_norm", width=spec.d_model))
        found.append(Site("logits", "output", POSITIONS, "unembed", width=spec.num_outputs))
        return tuple(replace(site, depth=depth) for depth, site in enumerate(found))

    def anatomy(self, module: nn.Module) -> Anatomy:
        """Where each part reads and writes the stream."""
        assert isinstance(module, CompiledTransformer)
        return Anatomy(
            embeds=(("embed", "token_embed"), ("pos_embed", "pos_embed")),
            layers=tuple(_parts(block, index, module.spec) for index, block in enumerate(_blocks(module))),
            final_norm="final_norm" if module.spec.layer_norm else None,
            unembed="unembed",
            causal=module.spec.causal,
        )


def _layer_sites(spec: Spec, index: int) -> list[Site]:
    name, heads = f"layers.{index}", spec.num_heads

    def inside(part: str, kind: str) -> Site:
        layout = PATTERN if part == "pattern" else HEAD_STREAM
        return Site(f"{name}.attn.{part}", kind, layout, f"{name}.attn.{part}", width=heads)

    def added(part: str, kind: str, path: str) -> Site:
        return Site(f"{name}.{part}", kind, POSITIONS, f"{name}.{path}" if path else name, width=spec.d_model)

    attention = [
        inside("q", "query"),
        inside("k", "key"),
        inside("v", "value"),
        inside("pattern", "pattern"),
        Site(f"{name}.attn.heads", "heads", HEADS, f"{name}.attn.linear", "input", heads, heads=heads),
        added("attn_out", "attn_out", "attn.linear"),
    ]
    mlp = [
        added("resid_mid", "resid_mid", "mid"),
        Site(f"{name}.mlp_in", "mlp_in", POSITIONS, f"{name}.mlp", "input", spec.d_model),
        Site(f"{name}.mlp", "mlp", POSITIONS, f"{name}.mlp.linear_2", "input", spec.mlp_hidden),
        added("mlp_out", "mlp_out", "mlp.linear_2"),
    ]
    return [*attention, *(mlp if spec.mlp_hidden else []), added("resid", "resid", "")]


def _blocks(module: CompiledTransformer) -> list[Block]:
    return [block for block in module.layers if isinstance(block, Block)]


def _parts(block: Block, index: int, spec: Spec) -> LayerParts:
    path = f"layers.{index}"
    columns = torch.arange(spec.num_heads * spec.key_size).view(spec.num_heads, spec.key_size)
    has_mlp, normed = hasattr(block, "mlp"), spec.layer_norm
    return LayerParts(
        index=index,
        block=path,
        attention=f"{path}.attn",
        query=Projection(f"{path}.attn.query", columns),
        key=Projection(f"{path}.attn.key", columns),
        value=Projection(f"{path}.attn.value", columns),
        out=f"{path}.attn.linear",
        attn_norm=f"{path}.norm1" if normed else None,
        attn_added=f"{path}.attn.linear",
        mlp=f"{path}.mlp" if has_mlp else None,
        mlp_norm=f"{path}.norm2" if normed and has_mlp else None,
        down=f"{path}.mlp.linear_2" if has_mlp else None,
        mlp_added=f"{path}.mlp.linear_2" if has_mlp else None,
    )


FAMILIES.register("compiled")(CompiledFamily())
