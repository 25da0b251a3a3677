"""What an attention pattern [batch head query key] is, as numbers between 0 and 1 for each sequence and head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.networks.anatomy import anatomy
from cutaway.networks.network import Network

TOGETHER = 4  # sequences in one pass: all patterns of a pass are held at once

Statistic = Callable[[Float[Tensor, "batch head query key"]], Float[Tensor, "batch head"]]


def attention_at(
    pattern: Float[Tensor, "batch head query key"], offset: int, first: int = 1
) -> Float[Tensor, "batch head"]:
    """Mean attention from position i to i - offset, over all i from ``first`` on for which that position exists.

    On [start, r, r] with |r| = T and ``first`` = T + 1: offset T - 1 is the induction score (to what came after this
    token the last time), T the duplicate-token score. Offset 1 is the previous-token score, -1 the next-token score.
    """
    queries = torch.arange(max(first, offset), pattern.shape[2] + min(0, offset), device=pattern.device)
    return pattern[:, :, queries, queries - offset].mean(-1)


def start_attention(pattern: Float[Tensor, "batch head query key"]) -> Float[Tensor, "batch head"]:
    """Mean attention to the first position from all others."""
    return pattern[:, :, 1:, 0].mean(-1)


def offset_share(pattern: Float[Tensor, "batch head query key"], *, causal: bool) -> Float[Tensor, "batch head"]:
    """The share of a pattern's variance that the offset explains: 1 - SS(around each offset's mean) / SS(total).

    The first position is left out on both sides (many heads rest there), and so is what a causal mask forbids. 0 for a
    pattern without variance.
    """
    length = pattern.shape[-1]
    query, key = torch.meshgrid(torch.arange(1, length), torch.arange(1, length), indexing="ij")
    kept = query >= key if causal else torch.ones_like(query, dtype=torch.bool)
    query, key = query[kept], key[kept]
    values = pattern[..., query.to(pattern.device), key.to(pattern.device)].double()
    group = (query - key + length).to(pattern.device)
    between = _group_means(values, group, 2 * length)
    spread = (values - values.mean(-1, keepdim=True)).square().sum(-1)
    explained = (between - values.mean(-1, keepdim=True)).square().sum(-1)
    return torch.where(spread > 1e-20, explained / spread.clamp(min=1e-20), torch.zeros_like(spread)).float()


def _group_means(
    values: Float[Tensor, "batch head pair"], group: Int[Tensor, " pair"], groups: int
) -> Float[Tensor, "batch head pair"]:
    """Each value replaced by its group's mean."""
    sums = torch.zeros(*values.shape[:2], groups, dtype=values.dtype, device=values.device)
    sums.index_add_(-1, group, values)
    sizes = torch.bincount(group, minlength=groups).clamp(min=1)
    return (sums / sizes)[..., group]


def measured(
    network: Network,
    ids: Int[Tensor, "sequence pos"],
    statistics: Sequence[Statistic],
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "statistic sequence head_of_all"]:
    """Each statistic of every head on every sequence; heads in the order of layers. Runs no further than needed."""
    layers = anatomy(network).layers
    sites = [f"layers.{layer.index}.attn.pattern" for layer in layers]
    rows = []
    for at in range(0, len(ids), TOGETHER):
        run = network.run(ids[at : at + TOGETHER], capture=sites, stop_at=sites[-1])
        rows.append(torch.stack([torch.cat([f(run[site]) for site in sites], 1).cpu() for f in statistics]))
        if progress is not None:
            progress(min(at + TOGETHER, len(ids)), len(ids))
    return torch.cat(rows, 1)
