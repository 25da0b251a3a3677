"""BatchTopK (Bussmann et al. 2024, arXiv 2412.06410): the k x rows largest pre-activations of a batch.

Outside training a row cannot wait for its batch: theta, the running mean of the smallest kept value, then is every
latent's JumpReLU threshold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float
from torch import Tensor

from cutaway.bases.dictionaries.kind import DICTIONARIES, Pass
from cutaway.bases.dictionaries.kinds._losses import above_threshold, output, squared_error
from cutaway.bases.dictionaries.select import largest_in_batch
from cutaway.bases.dictionaries.sparse import Pattern, read, write

if TYPE_CHECKING:
    from cutaway.bases.dictionaries.dictionary import Dictionary
    from cutaway.bases.dictionaries.recipe import Recipe


@DICTIONARIES.register("batchtopk")
class BatchTopK:
    """k latents a row on average; no penalty, dead latents by AuxK."""

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
        """Squared error; only active latents are decoded and get gradients."""
        codes, pattern = active_in_batch(dictionary, x)
        out = output(dictionary, write(codes, dictionary.W_dec, pattern), x)
        return Pass(out, squared_error(out, y), 0.0, pattern.fired(codes), *kept(codes, pattern))


def active_in_batch(dictionary: Dictionary, x: Float[Tensor, "row d_in"]) -> tuple[Float[Tensor, " entry"], Pattern]:
    """Codes of the batch's k x rows largest pre-activations, and where they are."""
    d = dictionary
    assert d.k is not None
    values, pattern = largest_in_batch(x - d.b_in, d.W_enc, d.b_enc, d.k * len(x))
    return read(x, d.W_enc, d.b_enc, d.b_in, values, pattern), pattern


def kept(codes: Tensor, pattern: Pattern) -> tuple[float, float | None]:
    """Mean number of active latents, and the smallest kept code (None where none is)."""
    return len(codes) / len(pattern.starts), float(codes.detach().min()) if len(codes) else None
