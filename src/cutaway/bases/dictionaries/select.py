"""The largest pre-activations, exactly, without ever holding all of them.

Rows are encoded in slices that stay in the processor's cache. Within a slice the k largest of W are found by blocks:
the k largest entries lie in the k blocks with the largest maxima (a block left out has k blocks above it, each with an
entry at least as large), so that only k blocks are searched instead of W entries.
"""

from __future__ import annotations

from math import ceil, sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cutaway.bases.dictionaries.sparse import Pattern, pattern_of

SLICE_CPU, SLICE_GPU = 2**21, 2**30  # pre-activations held at a time


@torch.no_grad()
def largest_per_row(
    acts: Float[Tensor, "row d"], weight: Float[Tensor, "latent d"], bias: Float[Tensor, " latent"], k: int
) -> tuple[Float[Tensor, "row k"], Int[Tensor, "row k"]]:
    """Values and places of the k largest of ``acts weight' + bias`` in each row, in no order."""
    width = len(weight)
    size = max(1, (SLICE_GPU if acts.is_cuda else SLICE_CPU) // width)
    found = [largest(F.linear(part, weight, bias), k) for part in acts.split(size)]
    values, places = torch.cat([v for v, _ in found]), torch.cat([i for _, i in found])
    return values.to(weight.dtype), places


def largest(values: Float[Tensor, "row latent"], k: int) -> tuple[Float[Tensor, "row k"], Int[Tensor, "row k"]]:
    """The k largest of each row and where they are, in no order."""
    size = _block(values.shape[1], k)
    if size == 1 or values.is_cuda:
        return values.topk(k, dim=1, sorted=False)
    blocks = values.shape[1] // size  # entry j is in block j % blocks: maxima are then taken along whole rows
    chosen = values.view(-1, size, blocks).amax(1).topk(k, dim=1, sorted=False).indices
    steps = torch.arange(0, values.shape[1], blocks, device=values.device)
    places = (chosen[:, None, :] + steps[None, :, None]).flatten(1)
    top, at = values.gather(1, places).topk(k, dim=1, sorted=False)
    return top, places.gather(1, at)


@torch.no_grad()
def largest_in_batch(
    acts: Float[Tensor, "row d"], weight: Float[Tensor, "latent d"], bias: Float[Tensor, " latent"], count: int
) -> tuple[Float[Tensor, " entry"], Pattern]:
    """The ``count`` largest positive pre-activations of the whole batch.

    Rows offer their largest 2 count / rows; a row whose offers are all taken may have more, and is asked for twice as
    many until none is left. Ties with the smallest taken one are all taken.
    """
    width, per = len(weight), min(len(weight), 2 * ceil(count / len(acts)))
    values, latents = largest_per_row(acts, weight, bias, per)
    cut = _cut(values, count)
    while per < width and len(open_rows := (values.amin(1) >= cut).nonzero()[:, 0]):
        per = min(width, 2 * per)
        more, at = largest_per_row(acts[open_rows], weight, bias, per)
        values = F.pad(values, (0, per - values.shape[1]), value=-torch.inf).index_copy(0, open_rows, more)
        latents = F.pad(latents, (0, per - latents.shape[1])).index_copy(0, open_rows, at)
        cut = _cut(values, count)
    keep = (values >= cut) & (values > 0)
    rows = keep.nonzero()[:, 0]
    return values[keep], pattern_of(rows, latents[keep], len(acts), width)


def _cut(values: Tensor, count: int) -> Tensor:
    flat = values.flatten()
    return flat.kthvalue(len(flat) - count + 1).values


def _block(width: int, k: int) -> int:
    """Block size near sqrt(width / k), where maxima and candidates are equally many; 1 where blocks save nothing."""
    best = sqrt(width / k)
    sizes = [size for size in (4, 8, 16, 32, 64) if width % size == 0 and width // size >= k and size * k < width]
    return min(sizes, key=lambda size: abs(size - best), default=1)
