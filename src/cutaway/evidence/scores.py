"""Effect sizes that need more than one call to scipy: AUROC within strata, and Cohen's d."""

import numpy as np
from jaxtyping import Bool, Float, Int
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
    strata: Int[np.ndarray, " row"],
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " column"]]:
    """Positive-negative pairs that scores order correctly (ties half), and all pairs, by column.

    Their ratio is the AUROC. Columns broadcast, so that one score can meet many shuffled labels.
    """
    won, pairs = pairs_by_cell(scores, labels, strata)
    return won.sum(axis=0), pairs.sum(axis=0)


def pairs_by_cell(
    scores: Float[np.ndarray, "row #column"],
    labels: Bool[np.ndarray, "row #column"],
    cells: Int[np.ndarray, " row"],
) -> tuple[Float[np.ndarray, "cell column"], Float[np.ndarray, "cell column"]]:
    """:func:`concordant_pairs` of each cell, cells in ascending order: Mann-Whitney's U from midranks, and n1 n0."""
    order = np.argsort(cells, kind="stable")
    starts = np.unique(cells[order], return_index=True)[1]
    positive = labels[order].astype(float)
    ranks = midranks_within(scores[order], cells[order])
    n1 = np.add.reduceat(positive, starts, axis=0)
    sizes = np.diff(np.append(starts, len(cells)))[:, None]
    won = np.add.reduceat(ranks * positive, starts, axis=0) - n1 * (n1 + 1) / 2
    return won, np.broadcast_to(n1 * (sizes - n1), won.shape)


def midranks_within(
    values: Float[np.ndarray, "row column"], cells: Int[np.ndarray, " row"]
) -> Float[np.ndarray, "row column"]:
    """Rank of each value among the rows of its cell, 1 for the smallest, ties sharing their mean rank."""
    codes = np.unique(cells, return_inverse=True)[1]
    # One ranking serves all cells: ranks are at most n, so a step of n + 1 a cell keeps cells apart.
    apart = rankdata(values, method="dense", axis=0) + codes[:, None] * (len(codes) + 1)
    before = np.concatenate([[0], np.cumsum(np.bincount(codes))])[:-1]
    return rankdata(apart, axis=0) - before[codes][:, None]


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
