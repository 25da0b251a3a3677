"""The graph that circuits are subsets of: who can write to what, by name.

Sources are the embedding, every head and every MLP; targets are the query, key and value inputs of every head, the
input of every MLP, and the output. Between an earlier source and a later target there is one edge, the path through the
residual stream alone. Keys and values of grouped heads are one target for the group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool
from torch import Tensor

from cutaway.errors import BadInput, NotTestable
from cutaway.networks.anatomy import Anatomy, LayerParts

OUTPUT = "unembed"


@dataclass(frozen=True)
class Target:
    """One reader of the stream: ``port`` is q, k, v, mlp or output; ``index`` the head (or group) in its layer."""

    name: str
    layer: int
    port: str
    index: int
    upstream: int  # the first so many sources can reach it


@dataclass(frozen=True)
class Edge:
    """One path through the residual stream, from a source's output to a target's input."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}->{self.target}"


@dataclass(frozen=True)
class EdgeGraph:
    """All sources and targets of a transformer in the order of its forward pass."""

    sources: tuple[str, ...]
    targets: tuple[Target, ...]

    @classmethod
    def of(cls, parts: Anatomy) -> EdgeGraph:
        """The graph of a pre-norm transformer; raises ``NotTestable`` where outputs do not just add up."""
        _check(parts)
        sources = [name for name, _ in parts.embeds]
        targets: list[Target] = []
        for layer in parts.layers:
            before = len(sources)
            targets += _head_targets(layer, before)
            sources += [f"L{layer.index}H{head}" for head in range(layer.heads)]
            if layer.mlp is not None:
                seen = before if layer.parallel else len(sources)
                targets.append(Target(f"L{layer.index}MLP", layer.index, "mlp", 0, seen))
                sources.append(f"L{layer.index}MLP")
        targets.append(Target(OUTPUT, len(parts.layers), "output", 0, len(sources)))
        return cls(tuple(sources), tuple(targets))

    @cached_property
    def possible(self) -> Bool[Tensor, "source target"]:
        """True where an edge exists."""
        reach = torch.tensor([target.upstream for target in self.targets])
        return torch.arange(len(self.sources))[:, None] < reach

    @cached_property
    def source_index(self) -> dict[str, int]:
        """The row of each source."""
        return {name: index for index, name in enumerate(self.sources)}

    @cached_property
    def target_index(self) -> dict[str, int]:
        """The column of each target."""
        return {target.name: index for index, target in enumerate(self.targets)}

    @property
    def count(self) -> int:
        """Number of edges."""
        return int(self.possible.sum())

    def edges(self) -> list[Edge]:
        """Every edge, targets in order."""
        return [Edge(self.sources[s], t.name) for t in self.targets for s in range(t.upstream)]

    def index(self, edge: Edge) -> tuple[int, int]:
        """Row and column of an edge; raises ``BadInput`` for one that the graph does not have."""
        row, column = self.source_index.get(edge.source), self.target_index.get(edge.target)
        if row is None or column is None or not self.possible[row, column]:
            raise BadInput(f"The edge {edge} was asked for; the network has none between these two. "
                           f"Sources are like {self.sources[-1]}, targets like {self.targets[0].name}.")  # fmt: skip
        return row, column

    def mask(self, edges: Iterable[Edge]) -> Bool[Tensor, "source target"]:
        """True at the given edges."""
        mask = torch.zeros_like(self.possible)
        for edge in edges:
            mask[self.index(edge)] = True
        return mask

    def layer_targets(self, layer: int, ports: Sequence[str]) -> list[int]:
        """Columns of a layer's targets with one of the ports, in order."""
        return [column for column, t in enumerate(self.targets) if t.layer == layer and t.port in ports]


_OWNER = re.compile(r"L(\d+)([HG])(\d+)\.[qkv]")


def owners(target: str, group: int = 1) -> tuple[str, ...]:
    """The sources that a target's input feeds: ``L3H1.q`` the head L3H1; a group's keys all heads of the group."""
    match = _OWNER.fullmatch(target)
    if match is None:
        return () if target == OUTPUT else (target,)
    layer, kind, index = match[1], match[2], int(match[3])
    heads = [index] if kind == "H" else range(index * group, (index + 1) * group)
    return tuple(f"L{layer}H{head}" for head in heads)


def _head_targets(layer: LayerParts, upstream: int) -> list[Target]:
    grouped = "H" if layer.group == 1 else "G"
    found = [Target(f"L{layer.index}H{head}.q", layer.index, "q", head, upstream) for head in range(layer.heads)]
    for port, projection in (("k", layer.key), ("v", layer.value)):
        found += [
            Target(f"L{layer.index}{grouped}{head}.{port}", layer.index, port, head, upstream)
            for head in range(projection.heads)
        ]
    return found


def _check(parts: Anatomy) -> None:
    if not parts.pre_norm:
        raise NotTestable(
            "Edges were asked for; this network puts a norm behind every sum (as BERT does), so its parts' outputs do "
            "not add up to what a later part reads. Single parts can be ablated and patched (cutaway feature)."
        )
    wrapped = [layer for layer in parts.layers if layer.attn_added != layer.out]
    if wrapped:
        raise NotTestable(
            "Edges were asked for; this network puts a norm behind attention before its heads join the stream (as "
            "Gemma 2 does), so one head's share is not defined by itself. Use a network without such a norm."
        )
