"""Networks made of equal attention-and-MLP blocks: one table of paths describes a family."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from cutaway.networks.sites import HEAD_STREAM, HEADS, PATTERN, POSITIONS, VECTOR, Site

Place = tuple[str, str]  # module path inside the block, port


@dataclass(frozen=True)
class BlockFamily:
    """Where a family keeps its parts; paths are relative to the model body or to a block.

    ``attention`` is the module that calls the attention function, ``heads`` the module whose input is the heads'
    outputs side by side, ``mlp`` the one whose input is the MLP's hidden units (after the nonlinearity; the gated
    product for SwiGLU). ``attn_out`` and ``mlp_out`` are what is added to the residual stream.
    """

    class_names: tuple[str, ...]  # beginnings of the module's class name
    modality: str
    body: tuple[str, ...]  # where the body may sit in the module, "" for the module itself
    blocks: str
    embed: str
    attention: str
    heads: str
    mlp: str
    attn_out: Place
    mlp_out: Place
    resid_mid: Place | None
    final: str | None = None
    head: tuple[str, ...] = ("lm_head",)
    excluded: tuple[str, ...] = field(default=())

    def matches(self, module: nn.Module) -> bool:
        """True if the class name fits and every path of the table is there."""
        name = type(module).__name__
        if not name.startswith(self.class_names) or name.startswith(self.excluded or ("\0",)):
            return False
        prefix = self._prefix(module)
        if prefix is None:
            return False
        blocks = _at(module, prefix + self.blocks)
        parts = (self.attention, self.heads, self.mlp)
        return blocks is not None and len(blocks) > 0 and all(_at(blocks[0], part) is not None for part in parts)

    def task(self, module: nn.Module) -> str:
        """What the module answers, by the head that it has."""
        name = type(module).__name__
        if name.endswith(("ForCausalLM", "LMHeadModel")):
            return "causal-lm"
        if "Classification" in name:
            return "classifier"
        return "encoder" if name.endswith("Model") else "other"

    def sites(self, module: nn.Module) -> tuple[Site, ...]:
        """embed, then for each block its parts, then final and logits."""
        prefix = self._prefix(module) or ""
        blocks = _at(module, prefix + self.blocks)
        config: Any = module.config
        sites = [Site("embed", "embed", POSITIONS, prefix + self.embed, width=config.hidden_size)]
        for layer, block in enumerate(blocks):
            sites += self._block_sites(block, layer, f"{prefix}{self.blocks}.{layer}", config)
        if self.final and _at(module, prefix + self.final) is not None:
            sites.append(Site("final", "resid", POSITIONS, prefix + self.final, width=config.hidden_size))
        for head in self.head:
            if isinstance(_at(module, head), nn.Module):
                layout = VECTOR if self.task(module) == "classifier" else POSITIONS
                sites.append(Site("logits", "output", layout, head, width=_out_width(_at(module, head))))
        return tuple(_with_depth(sites))

    def _block_sites(self, block: nn.Module, layer: int, path: str, config: Any) -> list[Site]:
        width, heads = config.hidden_size, config.num_attention_heads
        groups = getattr(config, "num_key_value_heads", None) or heads
        name = f"layers.{layer}"
        attention = _join(path, self.attention)

        def inside(part: str, kind: str, layout: str, count: int) -> Site:
            return Site(f"{name}.attn.{part}", kind, layout, attention, kind, count)

        def place(part: str, where: Place) -> Site:
            return Site(f"{name}.{part}", part, POSITIONS, _join(path, where[0]), where[1], width)

        mlp_width = _in_width(_at(block, self.mlp))
        return [
            inside("q", "query", HEAD_STREAM, heads),
            inside("k", "key", HEAD_STREAM, groups),
            inside("v", "value", HEAD_STREAM, groups),
            inside("pattern", "pattern", PATTERN, heads),
            Site(f"{name}.attn.heads", "heads", HEADS, _join(path, self.heads), "input", heads, heads=heads),
            place("attn_out", self.attn_out),
            *([place("resid_mid", self.resid_mid)] if self.resid_mid else []),
            Site(f"{name}.mlp", "mlp", POSITIONS, _join(path, self.mlp), "input", mlp_width),
            place("mlp_out", self.mlp_out),
            Site(f"{name}.resid", "resid", POSITIONS, path, width=width),
        ]

    def _prefix(self, module: nn.Module) -> str | None:
        for body in self.body:
            prefix = f"{body}." if body else ""
            if _at(module, prefix + self.blocks) is not None:
                return prefix
        return None


def _join(path: str, part: str) -> str:
    return f"{path}.{part}" if part else path


def _at(module: nn.Module, path: str) -> Any:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def _in_width(projection: nn.Module) -> int:
    """The input width of a Linear, or of GPT-2's Conv1D, which stores [in, out]."""
    return projection.in_features if isinstance(projection, nn.Linear) else int(projection.weight.shape[0])  # type: ignore[union-attr, return-value]


def _out_width(projection: nn.Module) -> int | None:
    return getattr(projection, "out_features", None)


def _with_depth(sites: list[Site]) -> list[Site]:
    from dataclasses import replace

    return [replace(site, depth=depth) for depth, site in enumerate(sites)]
