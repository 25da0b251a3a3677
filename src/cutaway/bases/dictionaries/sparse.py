"""Codes as lists of active latents: decoding and gradients that touch nothing else.

With k of W latents active, decoder and gradients cost k/W of the dense products; only the encoder's one matrix product
stays. Sums over the active entries of a row, or of a latent, are embedding bags, which PyTorch runs on CPU and GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from cutaway.bases.basis import SparseCodes


@dataclass(frozen=True, eq=False)
class Pattern:
    """Which latents are active where: entry e is latent ``latents[e]`` of row ``rows[e]``, in the order of rows.

    ``starts[r]`` is the first entry of row r, so that rows may have any number of entries.
    """

    rows: Int[Tensor, " entry"]
    latents: Int[Tensor, " entry"]
    starts: Int[Tensor, " row"]
    width: int

    @cached_property
    def by_latent(self) -> tuple[Int[Tensor, " entry"], Int[Tensor, " latent"]]:
        """The entries in the order of latents (rows stay in order), and where each latent begins."""
        order = self.latents.int().sort(stable=True).indices
        counts = torch.bincount(self.latents, minlength=self.width)
        return order, counts.cumsum(0) - counts

    def fired(self, values: Float[Tensor, " entry"]) -> Bool[Tensor, " latent"]:
        """Latents that are above 0 somewhere."""
        return torch.zeros(self.width, dtype=torch.bool, device=values.device).index_fill_(
            0, self.latents[values > 0], True
        )

    def bags(self, group: Int[Tensor, " latent"], count: int) -> tuple[Int[Tensor, " entry"], Pattern]:
        """Each row split by the group of its latents: the new order of entries, and the pattern with rows x count rows
        (row r's groups follow each other).
        """
        key = self.rows * count + group[self.latents]
        order = key.sort(stable=True).indices
        return order, pattern_of(key[order], self.latents[order], len(self.starts) * count, self.width)


def pattern_of(rows: Int[Tensor, " entry"], latents: Int[Tensor, " entry"], count: int, width: int) -> Pattern:
    """The pattern of entries that lie in the order of ``count`` rows."""
    each = torch.bincount(rows, minlength=count)
    return Pattern(rows, latents, each.cumsum(0) - each, width)


def pattern_of_block(latents: Int[Tensor, "row k"], width: int) -> Pattern:
    """The pattern of k latents in every row."""
    count, k = latents.shape
    rows = torch.arange(count, device=latents.device).repeat_interleave(k)
    return Pattern(rows, latents.flatten(), torch.arange(0, count * k, k, device=latents.device), width)


def read(
    acts: Float[Tensor, "row d_in"],
    W_enc: Float[Tensor, "latent d_in"],
    b_enc: Float[Tensor, " latent"],
    b_in: Float[Tensor, " d_in"],
    values: Float[Tensor, " entry"],
    pattern: Pattern,
) -> Float[Tensor, " entry"]:
    """The active entries of ``(acts - b_in) W_enc' + b_enc``, already computed as ``values``, with their gradients."""
    return _Read.apply(acts, W_enc, b_enc, b_in, values, pattern)  # type: ignore[no-any-return]


def write(
    values: Float[Tensor, " entry"], W_dec: Float[Tensor, "latent d_out"], pattern: Pattern
) -> Float[Tensor, "row d_out"]:
    """Codes times decoder, row by row over active latents only."""
    found = F.embedding_bag(pattern.latents, W_dec.detach(), pattern.starts, mode="sum", per_sample_weights=values)
    return _Write.apply(found, W_dec, values.detach(), pattern)  # type: ignore[no-any-return]


def packed(values: Float[Tensor, " entry"], pattern: Pattern) -> SparseCodes:
    """As a rectangle: as many columns as the fullest row has entries; unused places hold 0."""
    place = torch.arange(len(values), device=values.device) - pattern.starts[pattern.rows]
    shape = (len(pattern.starts), int(place.max()) + 1 if len(place) else 0)
    codes, latents = values.new_zeros(shape), pattern.latents.new_zeros(shape)
    codes[pattern.rows, place], latents[pattern.rows, place] = values, pattern.latents
    return SparseCodes(codes, latents, pattern.width)


def sums_by_latent(
    weights: Float[Tensor, " entry"], rows: Float[Tensor, "row d"], pattern: Pattern
) -> Float[Tensor, "latent d"]:
    """For each latent the sum over its entries of weight x row: the gradient of a matrix that is read sparsely."""
    order, starts = pattern.by_latent
    return F.embedding_bag(pattern.rows[order], rows, starts, mode="sum", per_sample_weights=weights[order])


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, acts: Tensor, W: Tensor, b: Tensor, b_in: Tensor, values: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(acts, W, b_in)
        ctx.pattern = pattern
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (acts, W, b_in), pattern = ctx.saved_tensors, ctx.pattern
        dW = sums_by_latent(grad, acts - b_in, pattern) if ctx.needs_input_grad[1] else None
        db = torch.zeros_like(W[:, 0]).index_add_(0, pattern.latents, grad)
        dacts = None
        if ctx.needs_input_grad[0]:
            dacts = F.embedding_bag(pattern.latents, W, pattern.starts, mode="sum", per_sample_weights=grad)
        return dacts, dW, db, -(db @ W) if ctx.needs_input_grad[3] else None, None, None


class _Write(torch.autograd.Function):
    """The identity on what was decoded; its backward adds the decoder's gradient, summed latent by latent."""

    @staticmethod
    def forward(ctx: Any, found: Tensor, W: Tensor, values: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(values)
        ctx.pattern = pattern
        return found.view_as(found)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (values,) = ctx.saved_tensors
        dW = sums_by_latent(values, grad, ctx.pattern) if ctx.needs_input_grad[1] else None
        return grad, dW, None, None
