"""How much alike are a unit's examples? The monosemanticity score, and its null."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from cutaway.errors import BadInput

Vectors = Float[np.ndarray, "*set example axis"]
Values = Float[np.ndarray, "*set example"]
RESAMPLES = 500


def monosemanticity(values: Values, vectors: Vectors) -> Float[np.ndarray, "*set"]:
    """sum over pairs r s / sum over pairs r, in [-1, 1]: r the product of activations, s the cosine of the vectors.

    After Pach et al. (2025), who scale activations to 0..1 over all inputs; do the same before (:func:`scaled`). Only
    pairs of different examples count. NaN where fewer than two examples are active. Leading axes are sets of examples
    (units, draws), all computed at once.
    """
    return _weighted(values, _unit_length(vectors), np.ones_like(values))


def _weighted(values: Values, units: Vectors, copies: Values) -> Float[np.ndarray, "*set"]:
    """The score where an example stands for ``copies`` of itself, pairs of copies of one example left out."""
    if (values < 0).any():
        raise BadInput("The monosemanticity score weighs pairs by activations between 0 and 1; scale them first.")
    mass = values * copies
    same = np.square(mass).sum(axis=-1)
    whole = np.square(np.einsum("...n,...nd->...d", mass, units)).sum(axis=-1)
    own = (np.square(mass) * np.square(units).sum(axis=-1)).sum(axis=-1)
    pairs = np.square(mass.sum(axis=-1)) - same
    return np.divide(whole - own, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 1e-12)


def scaled(values: Values, low: float, high: float) -> Values:
    """Activations as shares of the way from ``low`` to ``high``, cut to 0..1."""
    return np.clip((values - low) / max(high - low, 1e-300), 0.0, 1.0)


def resampled_scores(
    values: Float[np.ndarray, " example"], vectors: Float[np.ndarray, "example axis"], *, seed: int = 0
) -> Float[np.ndarray, " draw"]:
    """The score in bootstrap samples of the examples; those without a pair are left out."""
    count = len(values)
    copies = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)
    units = _unit_length(vectors)
    scores = _weighted(np.broadcast_to(values, copies.shape), np.broadcast_to(units, (RESAMPLES, *units.shape)), copies)
    return scores[~np.isnan(scores)]


def _unit_length(vectors: Vectors) -> Vectors:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
