"""Coders whose weights are written down."""

import torch

from cutaway.bases.crosscoders import Crosscoder, Plan


def by_hand(
    decoder: list[list[float]], writes: tuple[int, ...], encoder: list[list[float]] | None = None
) -> Crosscoder:
    """A rectified crosscoder with these weights [latent joined], no biases, no scales; tied if no encoder is given."""
    names = ("a", "b", "c")[: len(writes)]
    coder = Crosscoder(Plan("crosscoder", names, (sum(writes),), writes, len(decoder), selection="l1"))
    with torch.no_grad():
        coder.W_dec[0].copy_(torch.tensor(decoder))
        coder.W_enc[0].copy_(torch.tensor(decoder if encoder is None else encoder))
    return coder.requires_grad_(False)
