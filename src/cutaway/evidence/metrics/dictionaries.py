"""How good a dictionary's directions are, with and without a known truth.

Matching: MCC, MMCS. Concepts: sparse probing (Gurnee et al. 2023), absorption (Chanin et al. 2024), SCR and TPP
(Karvonen et al. 2024), RAVEL (Huang et al. 2024). Random dictionaries come close on several of these; report the same
number for random directions beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence._arrays import Numbers, as_labels, as_numbers
from cutaway.evidence.metrics._ratio import Number, share_of_way

ABSORBERS = 3  # at most so many latents may stand in for the main ones
ABSORBER_COSINE = 0.1  # and each must point along the probe by so much
ABSORBED_SHARE = 0.4  # and together carry so much of the probe's projection


def mcc(
    learned: Float[np.ndarray, "latent d"], truth: Float[np.ndarray, "feature d"], *, missing_as_zero: bool = False
) -> float:
    """Mean |cosine| of learned and true directions under the best one-to-one matching (Hungarian algorithm), 0 to 1.

    The mean is over matched pairs, min(latents, features) of them. ``missing_as_zero`` divides by the number of
    true features, so that a dictionary that is too small pays for what it lacks. A row of zeros (a dead latent) has
    cosine 0 with everything.
    """
    cosines = np.abs(_cosines(learned, truth))
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    total = float(cosines[rows, columns].sum())
    return total / (len(truth) if missing_as_zero else len(rows))


def mmcs(first: Float[np.ndarray, "a d"], second: Float[np.ndarray, "b d"]) -> float:
    """Mean over the rows of ``first`` of the largest signed cosine with a row of ``second``. Not symmetric.

    Many rows of ``second`` raise it for nothing: subtract the value of random directions of the same shape.
    """
    return float(_cosines(first, second).max(axis=1).mean())


def sparse_probing_latents(codes: Float[np.ndarray, "row latent"], labels: Numbers, *, k: int) -> Int[np.ndarray, " k"]:
    """The ``k`` latents with the largest |difference of class means|, largest first, ties by index."""
    truth = as_labels(labels, len(codes))
    if not 1 <= k <= codes.shape[1]:
        raise BadInput(f"{k} latents were asked for; the dictionary has {codes.shape[1]}.")
    gap = np.abs(codes[truth].mean(axis=0) - codes[~truth].mean(axis=0))
    return np.argsort(-gap, kind="stable")[:k]


def sparse_probing(
    codes: Float[np.ndarray, "row latent"],
    labels: Numbers,
    held_out_codes: Float[np.ndarray, "other latent"],
    held_out_labels: Numbers,
    *,
    k: int = 1,
) -> float:
    """Held-out accuracy of logistic regression on the ``k`` latents that separate the training classes best.

    Usual k: 1, 2, 5. Latents are scaled by their training deviation; the accuracy is plain, so balance classes.
    """
    from sklearn.linear_model import LogisticRegression  # slow to load, and needed here only

    chosen = sparse_probing_latents(codes, labels, k=k)
    test = as_labels(held_out_labels, len(held_out_codes))
    centre, scale = codes[:, chosen].mean(axis=0), codes[:, chosen].std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    classifier = LogisticRegression(max_iter=1000).fit(
        (codes[:, chosen] - centre) / scale, as_labels(labels, len(codes))
    )
    said = classifier.predict((held_out_codes[:, chosen] - centre) / scale)
    return float((said == test).mean())


class AbsorptionTerms(NamedTuple):
    """Along a concept's probe: the activation's projection, the main latents' part, the best other latents' part."""

    probe: Float[np.ndarray, " row"]
    main: Float[np.ndarray, " row"]
    others: Float[np.ndarray, " row"]


def absorption_terms(
    activations: Float[np.ndarray, "row d"],
    codes: Float[np.ndarray, "row latent"],
    decoder: Float[np.ndarray, "latent d"],
    probe: Float[np.ndarray, " d"],
    *,
    main: Sequence[int],
) -> AbsorptionTerms:
    """What :func:`absorption_fraction` compares, for rows that hold the concept.

    Latent i carries f_i (d_i . probe). ``main`` are the latents that are known to stand for the concept. Of the
    others, the :data:`ABSORBERS` with the largest part count in each row, if their direction has a cosine of at
    least :data:`ABSORBER_COSINE` with the probe and their part is positive.
    """
    parts = codes.astype(np.float64) * (decoder.astype(np.float64) @ probe)
    allowed = _cosines(decoder, probe[None])[:, 0] >= ABSORBER_COSINE
    allowed[list(main)] = False
    rivals = np.sort(np.maximum(parts[:, allowed], 0.0), axis=1)
    return AbsorptionTerms(
        probe=activations.astype(np.float64) @ probe,
        main=parts[:, list(main)].sum(axis=1),
        others=rivals[:, max(rivals.shape[1] - ABSORBERS, 0) :].sum(axis=1),
    )


def absorption_fraction(terms: AbsorptionTerms) -> Float[np.ndarray, " row"]:
    """By row, the share of a concept that other latents carry in place of the main ones, 0 to 1.

    With a, m, b the three terms: 0 if m >= a (nothing is missing) or b / a < 0.4 (nobody carries it), 1 if m <= 0,
    otherwise r / (r + m) with r = min(b, a - m). NaN where a <= 0: the probe does not see the concept there. Take
    ``np.nanmean`` for the dictionary's number and say how many rows were NaN.
    """
    a, m, b = (np.asarray(each, dtype=np.float64) for each in terms)
    if not np.isfinite([a, m, b]).all():
        raise BadInput("Absorption needs finite projections.")
    missing = np.minimum(b, a - m)
    partial = np.divide(missing, missing + m, out=np.ones_like(a), where=m > 0)
    fraction = np.where((m >= a) | (b < ABSORBED_SHARE * a), 0.0, partial)
    return np.where(a > 0, fraction, np.nan)


def scr(ablated: Number, *, spurious: Number, clean: Number) -> float:
    """Spurious correlation removal: (A_ablated - A_spurious) / (A_clean - A_spurious).

    Accuracies of a biased probe after removing the spurious concept's latents, of the biased probe, and of a probe
    trained without the bias; 1 removes all of the bias. Published warning: it ranks dictionaries unreliably.
    """
    return share_of_way(ablated, spurious, clean, what="SCR", because="the probe has no bias to remove")


def tpp(drops: Float[np.ndarray, "ablated probe"]) -> float:
    """Targeted probe perturbation: mean_i [drop_ii - mean over j != i of drop_ij], 0 if nothing is specific.

    ``drops[i, j]`` is the accuracy that concept j's probe loses when concept i's latents are removed.
    """
    count = len(drops)
    if drops.shape != (count, count) or count < 2 or not np.isfinite(drops).all():
        raise BadInput(f"TPP needs a finite square table of two concepts or more, found shape {drops.shape}.")
    own = np.diagonal(drops)
    others = (drops.sum(axis=1) - own) / (count - 1)
    return float((own - others).mean())


def ravel(*, cause_a: Number, cause_b: Number, isolate_ab: Number, isolate_ba: Number) -> float:
    """Disentanglement: the mean of four shares (0 to 1).

    Cause: interchanging A's features changes attribute A as asked, and B's B. Isolate: interchanging A's features
    leaves B alone, and the reverse.
    """
    shares = as_numbers([cause_a, cause_b, isolate_ab, isolate_ba], "RAVEL's four shares")
    if shares.min() < 0 or shares.max() > 1:
        raise BadInput(f"RAVEL's four numbers are shares between 0 and 1, found {shares.tolist()}.")
    return float(shares.mean())


def _cosines(first: Float[np.ndarray, "a d"], second: Float[np.ndarray, "b d"]) -> Float[np.ndarray, "a b"]:
    units = [_unit_rows(rows) for rows in (first, second)]
    return units[0] @ units[1].T


def _unit_rows(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    wide = rows.astype(np.float64)
    if not np.isfinite(wide).all():
        raise BadInput("Directions hold values that are not finite; drop those rows and say so.")
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    if not norms.any():
        raise NotTestable("No row has a direction: all are zero, so no cosine is defined.")
    return np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
