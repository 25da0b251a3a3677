"""Whose latent is it, by decoder norms alone: the published first look, which rare latents escape.

The norm difference of Lindsey et al. 2024 and Minder et al. 2025: 1/2 (1 + (|d_B| - |d_A|) / max(|d_A|, |d_B|)),
0 for a latent that only A's decoder writes, 1/2 for one written alike, 1 for B's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.bases.crosscoders.coder import Coder

ONLY_FIRST, SHARED, ONLY_SECOND, BETWEEN = "only-first", "shared", "only-second", "between"
BINS = ((0.0, 0.1, ONLY_FIRST), (0.4, 0.6, SHARED), (0.9, 1.0, ONLY_SECOND))


def norm_difference(first: Float[Tensor, " latent"], second: Float[Tensor, " latent"]) -> Float[Tensor, " latent"]:
    """Delta-norm of each latent, 0 to 1, from its decoder norms in two networks; NaN where both are 0."""
    return (1 + (second - first) / torch.maximum(first, second)) / 2


def norm_differences(coder: Coder, first: str | int = 0, second: str | int = 1) -> Float[Tensor, " latent"]:
    """:func:`norm_difference` of two blocks of a crosscoder, in its scaled units."""
    numbers = [coder.plan.block(each) if isinstance(each, str) else each for each in (first, second)]
    norms = coder.block_norms().detach()
    return norm_difference(norms[numbers[0]], norms[numbers[1]])


def norm_bins(differences: Float[Tensor, " latent"]) -> tuple[str, ...]:
    """The published bins: below 0.1 the first network's, 0.4 to 0.6 shared, above 0.9 the second's, else between."""
    return tuple(_bin(float(value)) for value in differences)


def bin_counts(names: Sequence[str]) -> dict[str, int]:
    """How many latents are in each bin."""
    return {name: list(names).count(name) for name in (ONLY_FIRST, SHARED, ONLY_SECOND, BETWEEN)}


def reference_blocks(coder: Coder) -> Int[Tensor, " latent"]:
    """The block in which each latent's decoder is longest: whose own it would be, if anybody's."""
    return coder.block_norms().detach().argmax(0)


def _bin(value: float) -> str:
    if value < BINS[0][1]:
        return ONLY_FIRST
    if BINS[1][0] <= value <= BINS[1][1]:
        return SHARED
    return ONLY_SECOND if value > BINS[2][0] else BETWEEN
