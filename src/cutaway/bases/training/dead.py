"""Latents that never fire: what is done so that they come back.

AuxK (Gao et al. 2024, arXiv 2406.04093): dead latents learn to write what the others leave over.
Resampling (Bricken et al. 2023): dead latents start anew from rows that are badly reconstructed.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cutaway.bases.dictionaries.dictionary import Dictionary
from cutaway.bases.dictionaries.select import largest

ENCODER_SHARE = 0.2  # of the living latents' mean encoder norm (Bricken et al.)


def aux_error(
    dictionary: Dictionary,
    x: Float[Tensor, "row d_in"],
    left_over: Float[Tensor, "row d_out"],
    dead: Int[Tensor, " dead"],
) -> Float[Tensor, ""]:
    """Mean over rows of |e - e'|^2: e what is left over, e' what the d_out / 2 largest of the dead latents write.

    Scaled by min(dead / (d_out / 2), 1), so that a few dead latents do not have to explain everything.
    """
    most = max(1, left_over.shape[1] // 2)
    pre = (x - dictionary.b_in) @ dictionary.W_enc[dead].T + dictionary.b_enc[dead]
    values, places = largest(pre, min(most, len(dead)))
    codes = torch.zeros_like(pre).scatter(1, places, values.relu())
    found = codes @ dictionary.W_dec[dead].to(codes.dtype)
    return min(len(dead) / most, 1.0) * (left_over.detach() - found).square().sum(1).mean()


@torch.no_grad()
def resample(
    dictionary: Dictionary,
    optimizer: torch.optim.Optimizer,
    x: Float[Tensor, "row d_in"],
    y: Float[Tensor, "row d_out"],
    errors: Float[Tensor, " row"],
    dead: Bool[Tensor, " latent"],
    chance: torch.Generator,
) -> int:
    """Points dead latents at rows drawn with probability ~ (squared error)^2, resets their moments; how many."""
    where = dead.nonzero()[:, 0]
    where = where[: int((errors > 0).sum())]
    if not len(where) or bool(dead.all()):
        return 0
    weights = errors.double().cpu().square()
    rows = torch.multinomial(weights / weights.sum(), len(where), generator=chance).to(x.device)
    read, written = x[rows] - dictionary.b_in, y[rows] - dictionary.b_dec
    read = read / read.norm(dim=1, keepdim=True).clamp(min=1e-12)
    length = ENCODER_SHARE * dictionary.W_enc[~dead].norm(dim=1).mean()
    dictionary.W_dec[where] = written / written.norm(dim=1, keepdim=True).clamp(min=1e-12)
    dictionary.W_enc[where] = length * read
    dictionary.b_enc[where] = 0
    for extra in ("gate_bias", "gate_scale"):
        if (part := getattr(dictionary, extra)) is not None:
            part[where] = 0
    if dictionary.threshold is not None:
        dictionary.threshold[where] = length * (x[rows] - dictionary.b_in).norm(dim=1) / 2
    _forget(optimizer, dictionary, where)
    return len(where)


def _forget(optimizer: torch.optim.Optimizer, dictionary: Dictionary, where: Tensor) -> None:
    for parameter in dictionary.parameters():
        if parameter.shape[:1] != (dictionary.width,) or parameter is dictionary.b_dec:
            continue
        state = optimizer.state.get(parameter, {})
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in state:
                state[moment][where] = 0
