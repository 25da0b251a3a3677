"""Matryoshka (Bussmann et al. 2025, arXiv 2503.17547): BatchTopK whose first latents must do without the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.bases.dictionaries.kind import DICTIONARIES, Pass
from cutaway.bases.dictionaries.kinds._losses import above_threshold, output, squared_error
from cutaway.bases.dictionaries.kinds.batchtopk import active_in_batch, kept
from cutaway.bases.dictionaries.sparse import write

if TYPE_CHECKING:
    from cutaway.bases.dictionaries.dictionary import Dictionary
    from cutaway.bases.dictionaries.recipe import Recipe


@DICTIONARIES.register("matryoshka")
class Matryoshka:
    """Mean over nested prefixes m of |y - (f[:m] W_dec[:m] + b)|^2."""

    has_k: ClassVar[bool] = True
    extras: ClassVar[tuple[str, ...]] = ("threshold",)
    learned: ClassVar[tuple[str, ...]] = ()
    revive: ClassVar[str] = "aux"

    @staticmethod
    def encode(dictionary: Dictionary, acts: Float[Tensor, "row d_in"]) -> Float[Tensor, "row latent"]:
        """What is above the thresholds."""
        return above_threshold(dictionary, acts)

    @staticmethod
    def train_on(
        dictionary: Dictionary, x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"], recipe: Recipe
    ) -> Pass:
        """One decode for all prefixes: every row split by its latents' group, the groups added up."""
        codes, pattern = active_in_batch(dictionary, x)
        group = groups(dictionary.width, recipe.prefixes).to(x.device)
        count = len(recipe.prefixes)
        order, bags = pattern.bags(group, count)
        parts = write(codes[order], dictionary.W_dec, bags).unflatten(0, (len(x), count)).cumsum(1)
        outs = [output(dictionary, part, x) for part in parts.unbind(1)]
        error = torch.stack([squared_error(out, y) for out in outs]).mean()
        return Pass(outs[-1], error, 0.0, pattern.fired(codes), *kept(codes, pattern))


def groups(width: int, prefixes: tuple[float, ...]) -> Int[Tensor, " latent"]:
    """In which prefix each latent comes first."""
    ends = torch.tensor([max(1, round(share * width)) for share in prefixes])
    return torch.searchsorted(ends, torch.arange(width), right=True)
