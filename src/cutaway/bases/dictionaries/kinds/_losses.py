"""What the kinds share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

if TYPE_CHECKING:
    from cutaway.bases.dictionaries.dictionary import Dictionary


def above_threshold(dictionary: Dictionary, acts: Float[Tensor, "row d_in"]) -> Float[Tensor, "row latent"]:
    """``z 1[z > threshold]`` of z = relu(pre)."""
    assert dictionary.threshold is not None
    codes = dictionary.pre(acts).relu()
    return codes * (codes > dictionary.threshold)


def output(
    dictionary: Dictionary, decoded: Float[Tensor, "row d_out"], x: Float[Tensor, "row d_in"]
) -> Float[Tensor, "row d_out"]:
    """Bias and skip added to decoded codes."""
    found = decoded + dictionary.b_dec
    return found if dictionary.skip is None else found + x @ dictionary.skip.T


def squared_error(out: Float[Tensor, "row d_out"], y: Float[Tensor, "row d_out"]) -> Float[Tensor, ""]:
    """Mean over rows of |out - y|^2."""
    return torch.nn.functional.mse_loss(out.to(y.dtype), y) * y.shape[1]


def decoder_norms(dictionary: Dictionary) -> Float[Tensor, " latent"]:
    """|d| of every latent, with its gradient."""
    return torch.linalg.vector_norm(dictionary.W_dec, dim=1)


def activity(codes: Float[Tensor, "row latent"]) -> tuple[Bool[Tensor, " latent"], float]:
    """Which latents fired, and the mean number of active ones a row."""
    live = codes.detach() > 0
    return live.any(0), float(live.sum()) / len(codes)
