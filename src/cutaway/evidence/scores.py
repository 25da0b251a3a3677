"""Effect sizes that need more than one call to scipy: AUROC within strata, and Cohen's d."""

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.stats import rankdata

from cutaway.errors import BadInput
from cutaway.evidence._arrays import Names, Numbers, as_labels, as_numbers, as_stratum


def auroc(scores: Numbers, labels: Numbers, *, strata: Names | None = None) -> float:
    """Probability that a positive row outscores a negative row of the same stratum, ties counting half.

    0.5 is chance, range 0 to 1. Comparing only within strata (for example the folds of a cross-validation)
    keeps offsets between strata out of the number. :class:`BadInput` if no stratum holds both classes.
    """
    values = as_numbers(scores, "Scores")
    truth = as_labels(labels, len(values))
    won, pairs = concordant_pairs(values[:, None], truth[:, None], as_stratum(strata, len(values)))
    if pairs[0] == 0:
        raise BadInput("No stratum holds both classes, so there is nothing to compare; use coarser strata.")
    return float(won[0] / pairs[0])


def concordant_pairs(
    scores: Float[np.ndarray, "row #column"],
    labels: Bool[np.ndarray, "row #column"],
    strata: Shaped[np.ndarray, " row"],
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " column"]]:
    """Positive-negative pairs that scores order correctly (ties half), and all pairs, by column.

    Their ratio is the AUROC; it equals the Mann-Whitney U over n1 n0, computed from midranks. Columns
    broadcast, so that one score can meet many shuffled labels.
    """
    columns = max(scores.shape[1], labels.shape[1])
    won, pairs = np.zeros(columns), np.zeros(columns)
    for stratum in np.unique(strata):
        rows = strata == stratum
        ranks, positive = rankdata(scores[rows], axis=0), labels[rows]
        n1 = positive.sum(axis=0)
        won += np.einsum("rc,rc->c", *np.broadcast_arrays(ranks, positive)) - n1 * (n1 + 1) / 2
        pairs += n1 * (rows.sum() - n1)
    return won, pairs


def cohens_d(first: Numbers, second: Numbers) -> float:
    """Difference of two means in units of their pooled standard deviation (n - 1); signed, first minus
    second.
    """
    a, b = as_numbers(first, "First sample"), as_numbers(second, "Second sample")
    if min(len(a), len(b)) < 2:
        raise BadInput(f"Cohen's d needs two values in each sample, found {len(a)} and {len(b)}.")
    pooled = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2)
    if pooled == 0:
        raise BadInput("Both samples are constant, so a difference in standard deviations has no meaning.")
    return float((a.mean() - b.mean()) / np.sqrt(pooled))
