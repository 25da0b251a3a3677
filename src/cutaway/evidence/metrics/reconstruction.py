"""How well codes stand for the activations that they were made from: explained variance, L0, loss and KL recovered.

Conventions: all moments are over rows, in float64, with population variance; nothing is squared after averaging
(that slip made the mean predictor of data far from the origin look good, SAELens issue 659).
"""

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence.metrics._ratio import Number, share_of_way

NO_VARIANCE = 1e-28  # variance below this share of the mean square is rounding of constant rows


def explained_variance(
    activations: Float[np.ndarray, "row d"], reconstruction: Float[np.ndarray, "row_or_1 width"]
) -> float:
    """Share of the activations' total variance that the reconstruction gets right: 1 - E|x - x'|^2 / sum_d Var(x_d).

    1 is perfect, exactly 0 is what predicting the mean of these rows earns, negative is worse than the mean. The
    reconstruction may be one row for all. :class:`NotTestable` if all rows are equal.
    """
    x, guess = activations.astype(np.float64), reconstruction.astype(np.float64)
    if x.shape[1] != guess.shape[1] or len(guess) not in (1, len(x)):
        raise BadInput(f"A reconstruction of shape {guess.shape} cannot stand for activations of shape {x.shape}.")
    if not (x.size and np.isfinite(x).all() and np.isfinite(guess).all()):
        raise BadInput("Explained variance needs at least one row, and finite activations and reconstructions.")
    variance = _mean_square(x - x.mean(axis=0))
    if variance <= NO_VARIANCE * _mean_square(x):
        raise NotTestable(f"Explained variance is undefined: all {len(x)} rows are equal; give rows that differ.")
    return 1.0 - _mean_square(x - guess) / variance


def l0(codes: Float[np.ndarray, "row latent"], *, threshold: float | int = 0.0) -> float:
    """Mean number of active latents in a row: those with |code| > ``threshold``."""
    if not codes.size or np.isnan(codes).any():
        raise BadInput("L0 needs at least one row of codes without NaN.")
    return float((np.abs(codes) > threshold).sum(axis=1).mean())


def loss_recovered(*, clean: Number, reconstructed: Number, ablated: Number) -> float:
    """Share of the loss that removing a site costs which its reconstruction saves.

    (L_ablated - L_reconstructed) / (L_ablated - L_clean): 1 as good as the site itself, 0 as bad as without it.
    Losses are means over the same tokens, in any one unit. :class:`NotTestable` unless the ablation costs
    something, for then there is nothing to recover.
    """
    if ablated < clean:
        raise NotTestable(
            f"Loss recovered is undefined: without the site the loss is lower ({ablated:.6g} against {clean:.6g}), "
            "so there is nothing to recover."
        )
    return share_of_way(reconstructed, ablated, clean, what="Loss recovered", because="removing the site costs nothing")


def kl_recovered(*, reconstructed: Number, ablated: Number) -> float:
    """1 - KL_reconstructed / KL_ablated: :func:`loss_recovered` where the clean network is at 0 by definition.

    Both are divergences of the clean network's predictions from the changed ones (:func:`kl_divergence`).
    """
    if min(reconstructed, ablated) < 0:
        raise BadInput(f"A divergence is at least 0, found {reconstructed} and {ablated}.")
    return share_of_way(reconstructed, ablated, 0.0, what="KL recovered", because="removing the site changes nothing")


def kl_divergence(reference_logits: Float[np.ndarray, "row vocab"], logits: Float[np.ndarray, "other words"]) -> float:
    """Mean over rows of KL(softmax(reference) | softmax(logits)), in nats, at least 0. The order matters.

    A logit of -inf in the reference is a word that cannot occur and adds nothing.
    """
    if reference_logits.shape != logits.shape:
        raise BadInput(
            f"Logits of shapes {reference_logits.shape} and {logits.shape} were compared; use the same rows."
        )
    if not len(reference_logits) or np.isnan(reference_logits).any() or np.isnan(logits).any():
        raise BadInput("A divergence needs at least one row of logits without NaN.")
    log_p = log_softmax(reference_logits.astype(np.float64), axis=1)
    log_q = log_softmax(logits.astype(np.float64), axis=1)
    p = np.exp(log_p)
    possible = p > 0
    terms = np.where(possible, p * (np.where(possible, log_p, 0.0) - np.where(possible, log_q, 0.0)), 0.0)
    return float(max(terms.sum(axis=1).mean(), 0.0))


def _mean_square(rows: Float[np.ndarray, "row d"]) -> float:
    """E|x|^2. One function for error and variance, so that the mean predictor's ratio is 1 to the last bit."""
    return float((rows**2).sum(axis=1).mean())
