"""Exact patching: cut edges one at a time, or in groups, and run the rest of the network.

The effect of an edge is what the metric does when that edge alone carries the reference and everything after it is
computed anew. Several cuts share one pass as copies of the batch. Beside the metric's change stands ``moved``: the mean
absolute change of the outputs that are read, which no cancellation hides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.circuits.edges.attribution import Cost
from cutaway.circuits.edges.graph import Edge
from cutaway.circuits.edges.pairs import Metric, Pairs, positions
from cutaway.circuits.edges.runtime import Sources, record, run_edges
from cutaway.circuits.edges.wiring import Wired

TOKENS = 2048  # of a pass with copies; more does not make a CPU faster
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Effects:
    """What cutting did: ``change`` [cut pair] of the metric, ``moved`` [cut pair] of the outputs, and the passes."""

    change: Float[Tensor, "cut pair"]
    moved: Float[Tensor, "cut pair"]
    cost: Cost


def cut_effects(
    wired: Wired,
    pairs: Pairs,
    cuts: Sequence[Bool[Tensor, "source target"]],
    metric: Metric,
    *,
    reference: Sources | None = None,
    progress: Progress | None = None,
) -> Effects:
    """The effect of each set of cut edges (True: carries the reference; by default the corrupted prompts)."""
    reference = record(wired, pairs.corrupt) if reference is None else reference
    base = wired.network.run(pairs.clean, logits=metric.logits).logits.float()
    value = metric.read(base, pairs)
    read = positions(pairs.clean, base)[..., None]
    size = max(1, TOKENS // max(1, reference.heads[0].shape[0] * reference.heads[0].shape[1]))
    changes, moves = [], []
    for at in range(0, len(cuts), size):
        group = torch.stack([~cut for cut in cuts[at : at + size]])
        outputs = run_edges(wired, pairs, group, reference, logits=metric.logits).float()
        repeated = pairs if len(group) == 1 else pairs.times(len(group))
        changes.append(metric.read(outputs, repeated).unflatten(0, (len(group), -1)) - value)
        apart = (outputs.unflatten(0, (len(group), -1)) - base).abs() * read
        moves.append(apart.sum((2, 3)) / (read.sum((1, 2)) * base.shape[-1]))
        if progress is not None:
            progress(min(at + size, len(cuts)), len(cuts))
    empty = torch.zeros(0, len(pairs))
    return Effects(torch.cat([empty, *changes]), torch.cat([empty, *moves]), Cost(2 + len(cuts)))


def edge_effects(
    wired: Wired,
    pairs: Pairs,
    edges: Sequence[Edge],
    metric: Metric,
    *,
    reference: Sources | None = None,
    progress: Progress | None = None,
) -> Effects:
    """The effect of each edge alone."""
    cuts = [wired.graph.mask([edge]) for edge in edges]
    return cut_effects(wired, pairs, cuts, metric, reference=reference, progress=progress)
