"""How a dictionary starts: biases at the geometric median, encoder and decoder pointing the same way."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.bases.basis import Origin
from cutaway.bases.dictionaries.dictionary import Dictionary
from cutaway.bases.dictionaries.making import make
from cutaway.bases.dictionaries.recipe import Recipe
from cutaway.bases.training.frame import Frame


def begin(
    recipe: Recipe,
    frame: Frame,
    x: Float[Tensor, "row d_in"],
    y: Float[Tensor, "row d_out"],
    replaces: bool,
    origin: Origin | None,
) -> Dictionary:
    """A fresh dictionary in the frame's scale; ``x`` and ``y`` are a sample in that scale."""
    dictionary = make(
        recipe.kind,
        x.shape[1],
        recipe.width,
        y.shape[1],
        k=recipe.k,
        skip=recipe.skip,
        transcoder=replaces,
        seed=recipe.seed,
        name=recipe.name,
        origin=origin,
    )
    with torch.no_grad():
        dictionary.b_dec.copy_(frame.centre_out * frame.scale_out)
        if not dictionary.tied:
            dictionary.b_in.copy_(frame.centre_in * frame.scale_in)
        if not dictionary.rule.has_k:  # half of the latents fire at first, and write x width / (2 d_in) times too long
            dictionary.W_enc.mul_(min(1.0, 2 * x.shape[1] / recipe.width))
        if replaces:
            _aim(dictionary, x, y)
    return dictionary


def _aim(dictionary: Dictionary, x: Tensor, y: Tensor) -> None:
    """Decoder rows of a transcoder at what is written where the latent is high, as for an SAE they are at what is read.

    Row i is the mean of ``y - b_dec`` weighted by latent i's positive pre-activation; random where that is 0.
    """
    aimed = dictionary.pre(x).relu().T @ (y - dictionary.b_dec)
    found = aimed.norm(dim=1, keepdim=True)
    dictionary.W_dec.copy_(torch.where(found > 0, aimed / found.clamp(min=1e-12), dictionary.W_dec))
