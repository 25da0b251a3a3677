"""Gated (Rajamanoharan et al. 2024, arXiv 2404.16014): which latents are active, apart from how active they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float
from torch import Tensor

from cutaway.bases.dictionaries.kind import DICTIONARIES, Pass
from cutaway.bases.dictionaries.kinds._losses import activity, decoder_norms, output, squared_error

if TYPE_CHECKING:
    from cutaway.bases.dictionaries.dictionary import Dictionary
    from cutaway.bases.dictionaries.recipe import Recipe


@DICTIONARIES.register("gated")
class Gated:
    """Gate pi = W_enc x + gate_bias, f = 1[pi > 0] relu(exp(gate_scale) W_enc x + b_enc).

    Loss: error + l1 * sum relu(pi) |d| + the error of relu(pi) through a decoder that this term does not move.
    """

    has_k: ClassVar[bool] = False
    extras: ClassVar[tuple[str, ...]] = ("gate_bias", "gate_scale")
    learned: ClassVar[tuple[str, ...]] = ("gate_bias", "gate_scale")
    revive: ClassVar[str] = "resample"

    @staticmethod
    def encode(dictionary: Dictionary, acts: Float[Tensor, "row d_in"]) -> Float[Tensor, "row latent"]:
        """Magnitudes where the gate is open."""
        return _codes(dictionary, acts)[0]

    @staticmethod
    def train_on(
        dictionary: Dictionary, x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"], recipe: Recipe
    ) -> Pass:
        """Error of the codes, L1 of the gate, error of the gate alone."""
        codes, gate = _codes(dictionary, x)
        opened = gate.relu()
        out = output(dictionary, codes @ dictionary.W_dec, x)
        penalty = recipe.l1 * (opened @ decoder_norms(dictionary)).mean()
        alone = opened @ dictionary.W_dec.detach() + dictionary.b_dec.detach()
        if dictionary.skip is not None:
            alone = alone + x @ dictionary.skip.detach().T
        return Pass(out, squared_error(out, y), penalty + squared_error(alone, y), *activity(codes))


def _codes(dictionary: Dictionary, acts: Tensor) -> tuple[Tensor, Tensor]:
    assert dictionary.gate_bias is not None and dictionary.gate_scale is not None
    raw = (acts - dictionary.b_in) @ dictionary.W_enc.T
    gate = raw + dictionary.gate_bias
    return (gate > 0) * (raw * dictionary.gate_scale.exp() + dictionary.b_enc).relu(), gate
