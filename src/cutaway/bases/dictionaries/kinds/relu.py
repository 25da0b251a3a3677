"""ReLU with an L1 penalty (Bricken et al. 2023, Towards Monosemanticity; Cunningham et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float
from torch import Tensor

from cutaway.bases.dictionaries.kind import DICTIONARIES, Pass
from cutaway.bases.dictionaries.kinds._losses import activity, decoder_norms, output, squared_error

if TYPE_CHECKING:
    from cutaway.bases.dictionaries.dictionary import Dictionary
    from cutaway.bases.dictionaries.recipe import Recipe


@DICTIONARIES.register("relu")
class ReLU:
    """f = relu(pre); penalty l1 * sum f |d|."""

    has_k: ClassVar[bool] = False
    extras: ClassVar[tuple[str, ...]] = ()
    learned: ClassVar[tuple[str, ...]] = ()
    revive: ClassVar[str] = "resample"

    @staticmethod
    def encode(dictionary: Dictionary, acts: Float[Tensor, "row d_in"]) -> Float[Tensor, "row latent"]:
        """What is above 0."""
        return dictionary.pre(acts).relu()

    @staticmethod
    def train_on(
        dictionary: Dictionary, x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"], recipe: Recipe
    ) -> Pass:
        """Squared error and L1."""
        codes = ReLU.encode(dictionary, x)
        out = output(dictionary, codes @ dictionary.W_dec, x)
        penalty = recipe.l1 * (codes @ decoder_norms(dictionary)).mean()
        return Pass(out, squared_error(out, y), penalty, *activity(codes))
