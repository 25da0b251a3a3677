"""TopK (Makhzani and Frey 2013; Gao et al. 2024, arXiv 2406.04093): the k largest pre-activations of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.bases.dictionaries.kind import DICTIONARIES, Pass
from cutaway.bases.dictionaries.kinds._losses import output, squared_error
from cutaway.bases.dictionaries.select import largest, largest_per_row
from cutaway.bases.dictionaries.sparse import pattern_of_block, read, write

if TYPE_CHECKING:
    from cutaway.bases.dictionaries.dictionary import Dictionary
    from cutaway.bases.dictionaries.recipe import Recipe


@DICTIONARIES.register("topk")
class TopK:
    """f = relu of the k largest; no penalty, dead latents by AuxK."""

    has_k: ClassVar[bool] = True
    extras: ClassVar[tuple[str, ...]] = ()
    learned: ClassVar[tuple[str, ...]] = ()
    revive: ClassVar[str] = "aux"

    @staticmethod
    def encode(dictionary: Dictionary, acts: Float[Tensor, "row d_in"]) -> Float[Tensor, "row latent"]:
        """The k largest, the others 0."""
        assert dictionary.k is not None
        pre = dictionary.pre(acts)
        values, places = largest(pre, dictionary.k)
        return torch.zeros_like(pre).scatter(1, places, values.relu())

    @staticmethod
    def train_on(
        dictionary: Dictionary, x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"], recipe: Recipe
    ) -> Pass:
        """Squared error; only active latents are decoded and get gradients."""
        d = dictionary
        assert d.k is not None
        values, places = largest_per_row(x - d.b_in, d.W_enc, d.b_enc, d.k)
        pattern = pattern_of_block(places, d.width)
        codes = read(x, d.W_enc, d.b_enc, d.b_in, values.flatten(), pattern).relu()
        out = output(d, write(codes, d.W_dec, pattern), x)
        live = int((codes > 0).sum())
        return Pass(out, squared_error(out, y), 0.0, pattern.fired(codes), live / len(x))
