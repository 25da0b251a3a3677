"""How much of a network a circuit is: by edges, by parameters, by compute.

Parameters and compute count the blocks only (attention maps and MLPs): the tables before and behind serve every
circuit. A head's query, key and value maps count where an edge enters them (a group's key and value once), its output
map where an edge leaves it, an MLP where edges enter and leave. Compute is multiplications for one token: each weight
once, and the attention of a head that reads and writes 2 d_head per position that it can look at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cutaway.circuits.discovery.selection import Mask, Topology
from cutaway.circuits.edges.wiring import Wired


@dataclass(frozen=True)
class Shares:
    """A circuit's size: number of edges, and shares (0 to 1) of edges, block parameters and block compute."""

    edge_count: int
    edges: float
    parameters: float
    compute: float
    components: tuple[str, ...]


def shares(wired: Wired, topology: Topology, mask: Mask, *, length: int) -> Shares:
    """The shares of a circuit on prompts of ``length`` tokens."""
    own, all_ = _counts(wired, topology, mask, length), _counts(wired, topology, topology.possible, length)
    used = [wired.graph.sources[row] for row in np.flatnonzero(mask.any(1))]
    return Shares(
        int(mask.sum()), float(mask.sum() / topology.possible.sum()), own[0] / max(all_[0], 1),
        own[1] / max(all_[1], 1), tuple(used),
    )  # fmt: skip


def _counts(wired: Wired, topology: Topology, mask: Mask, length: int) -> tuple[float, float]:
    graph = wired.graph
    entered, left = np.any(mask, axis=0), np.any(mask, axis=1)
    looked = (length + 1) / 2 if wired.parts.causal else length
    parameters = compute = 0.0
    for layer, weights in zip(wired.parts.layers, wired.weights):
        for port, read in zip(("q", "k", "v"), weights.read):
            columns = graph.layer_targets(layer.index, (port,))
            parameters += float(entered[columns].sum()) * read[0].numel()
        rows = [graph.source_index[f"L{layer.index}H{head}"] for head in range(layer.heads)]
        parameters += float(left[rows].sum()) * weights.write[0].numel()
        compute += float(left[rows].sum()) * 2 * weights.write.shape[2] * looked
        if layer.mlp is not None:
            row = graph.source_index[f"L{layer.index}MLP"]
            (column,) = graph.layer_targets(layer.index, ("mlp",))
            parameters += float(left[row] and entered[column]) * _mlp_size(wired, layer.mlp)
    return parameters, parameters + compute


def _mlp_size(wired: Wired, path: str) -> int:
    part: torch.nn.Module = wired.module(path)
    return sum(parameter.numel() for parameter in part.parameters())
