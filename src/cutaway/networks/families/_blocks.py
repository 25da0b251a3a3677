"""Networks made of equal attention-and-MLP blocks: one table of paths describes a family."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.networks.anatomy import Anatomy, LayerParts, Projection
from cutaway.networks.sites import HEAD_STREAM, HEADS, PATTERN, POSITIONS, VECTOR, Site

Place = tuple[str, str]  # module path inside the block, port


@dataclass(frozen=True)
class Reads:
    """Where a family's blocks read the residual stream; paths are relative to a block.

    ``projections`` are the query, key and value maps, or one fused map, whose output is then split ``by_head`` (a
    head's query, key and value side by side) or not (all queries, then all keys, then all values).
    """

    projections: tuple[str, ...]
    attn_norm: str | None
    mlp: str
    mlp_norm: str | None
    by_head: bool = False
    pre_norm: bool = True
    causal: bool = True
    parallel: str = ""  # the config's name of the switch for parallel attention and MLP


@dataclass(frozen=True)
class BlockFamily:
    """Where a family keeps its parts; paths are relative to the model body or to a block.

    ``attention`` is the module that calls the attention function, ``heads`` the module whose input is the heads'
    outputs side by side, ``mlp`` the one whose input is the MLP's hidden units (after the nonlinearity; the gated
    product for SwiGLU). ``attn_out`` and ``mlp_out`` are what is added to the residual stream; ``mlp_in`` is what the
    MLP reads, behind its norm, for families that say in ``reads`` which module that is.
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
    reads: tuple[Reads, ...] = ()  # the first whose modules exist is taken

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

    def anatomy(self, module: nn.Module) -> Anatomy | None:
        """Where heads and MLPs read and write, for causal language models and encoders; None without a table."""
        prefix = self._prefix(module) or ""
        blocks = _at(module, prefix + self.blocks)
        reads = next((r for r in self.reads if all(_at(blocks[0], path) is not None for path in r.projections)), None)
        if reads is None:
            return None
        config: Any = module.config
        layers = tuple(
            self._parts(block, index, f"{prefix}{self.blocks}.{index}", reads, config)
            for index, block in enumerate(blocks)
        )
        head = next((path for path in self.head if isinstance(_at(module, path), nn.Module)), None)
        return Anatomy(
            (("embed", prefix + self.embed),),
            layers,
            prefix + self.final if self.final else None,
            head,
            pre_norm=reads.pre_norm,
            causal=reads.causal,
        )

    def _parts(self, block: nn.Module, index: int, path: str, reads: Reads, config: Any) -> LayerParts:
        heads = config.num_attention_heads
        groups = getattr(config, "num_key_value_heads", None) or heads
        query, key, value = _projections(block, path, reads, heads, groups)
        return LayerParts(
            index,
            path,
            _join(path, self.attention),
            query,
            key,
            value,
            _join(path, self.heads),
            reads.attn_norm and _join(path, reads.attn_norm),
            _join(path, self.attn_out[0]),
            _join(path, reads.mlp),
            reads.mlp_norm and _join(path, reads.mlp_norm),
            _join(path, self.mlp),
            _join(path, self.mlp_out[0]),
            parallel=bool(reads.parallel and getattr(config, reads.parallel, False)),
        )

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
        whole_mlp = next((reads.mlp for reads in self.reads if _at(block, reads.mlp) is not None), None)
        return [
            inside("q", "query", HEAD_STREAM, heads),
            inside("k", "key", HEAD_STREAM, groups),
            inside("v", "value", HEAD_STREAM, groups),
            inside("pattern", "pattern", PATTERN, heads),
            Site(f"{name}.attn.heads", "heads", HEADS, _join(path, self.heads), "input", heads, heads=heads),
            place("attn_out", self.attn_out),
            *([place("resid_mid", self.resid_mid)] if self.resid_mid else []),
            *([place("mlp_in", (whole_mlp, "input"))] if whole_mlp else []),
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


def _projections(
    block: nn.Module, path: str, reads: Reads, heads: int, groups: int
) -> tuple[Projection, Projection, Projection]:
    """Which features of which module's output are whose query, key and value."""
    counts = (heads, groups, groups)
    if len(reads.projections) == 3:
        widths = [_features(_at(block, part)) for part in reads.projections]
        made = [torch.arange(width).unflatten(0, (count, -1)) for width, count in zip(widths, counts)]
        query, key, value = (Projection(_join(path, part), columns) for part, columns in zip(reads.projections, made))
        return query, key, value
    columns = torch.arange(_features(_at(block, reads.projections[0])))
    parts: list[Tensor]
    if reads.by_head:
        parts = [part.flatten(1) for part in columns.unflatten(0, (heads, 3, -1)).unbind(1)]
    else:
        size = len(columns) // sum(counts)
        parts = [part.unflatten(0, (-1, size)) for part in columns.split([count * size for count in counts])]
    query, key, value = (Projection(_join(path, reads.projections[0]), part) for part in parts)
    return query, key, value


def _features(projection: nn.Module) -> int:
    """The output width of a Linear or a Conv1D."""
    return projection.out_features if isinstance(projection, nn.Linear) else int(projection.weight.shape[1])  # type: ignore[union-attr, return-value]


def _in_width(projection: nn.Module) -> int:
    """The input width of a Linear, or of GPT-2's Conv1D, which stores [in, out]."""
    return projection.in_features if isinstance(projection, nn.Linear) else int(projection.weight.shape[0])  # type: ignore[union-attr, return-value]


def _out_width(projection: nn.Module) -> int | None:
    return getattr(projection, "out_features", None)


def _with_depth(sites: list[Site]) -> list[Site]:
    from dataclasses import replace

    return [replace(site, depth=depth) for depth, site in enumerate(sites)]
