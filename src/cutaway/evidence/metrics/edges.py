"""Comparing a scored or chosen set of edges with the true one: ROC, precision and recall at a size, Jaccard.

An edge that is true but that the ablation used cannot show (a path that is constant over the data under mean
ablation, say) is no miss of a method. ``showable`` marks the others: true edges outside it count for precision as
true, and are left out of recall and of the AUROC.
"""

import itertools
import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence._arrays import Numbers, as_numbers


@dataclass(frozen=True, eq=False)
class RocCurve:
    """One point for each distinct score, from (0, 0) to (1, 1); ``thresholds[0]`` is infinite (nothing chosen)."""

    false_positive_rate: Float[np.ndarray, " point"]
    true_positive_rate: Float[np.ndarray, " point"]
    thresholds: Float[np.ndarray, " point"]

    @property
    def area(self) -> float:
        """AUROC: area by trapezoids, which gives ties their half."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))


@dataclass(frozen=True)
class PrecisionRecall:
    """Of ``size`` chosen edges, the share that is true; of the true edges, the share that was chosen."""

    precision: float
    recall: float
    size: int


def edge_roc(scores: Numbers, truth: Numbers, *, showable: Numbers | None = None) -> RocCurve:
    """The exact ROC curve of edge scores (higher = more likely in the circuit): every threshold that matters.

    Edges with equal scores enter together. Whether scores are signed or absolute is the caller's choice, and
    should be said. :class:`NotTestable` if all or none of the edges are true.
    """
    values, true, shown = _edges(scores, truth, showable)
    counted = shown | ~true
    values, true = values[counted], true[counted]
    if true.all() or not true.any():
        raise NotTestable(f"An AUROC needs true and false edges, found {int(true.sum())} true of {len(true)}.")
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    hits = np.cumsum(true[order])[last_of_tie]
    misses = last_of_tie + 1 - hits
    return RocCurve(
        false_positive_rate=np.concatenate([[0.0], misses / misses[-1]]),
        true_positive_rate=np.concatenate([[0.0], hits / hits[-1]]),
        thresholds=np.concatenate([[np.inf], values[order][last_of_tie]]),
    )


def edge_auroc(scores: Numbers, truth: Numbers, *, showable: Numbers | None = None) -> float:
    """Chance that a true edge outscores a false one, ties half: the area of :func:`edge_roc`."""
    return edge_roc(scores, truth, showable=showable).area


def precision_recall(scores: Numbers, truth: Numbers, *, size: int, showable: Numbers | None = None) -> PrecisionRecall:
    """Precision and recall of the ``size`` highest-scored edges.

    Where edges tie at the cut, both are expectations over breaking the tie at random. Recall is NaN if no true
    edge can be shown.
    """
    values, true, shown = _edges(scores, truth, showable)
    if not 1 <= size <= len(values):
        raise BadInput(f"A circuit of {size} edges was asked for; there are {len(values)}.")
    cut = np.sort(values)[-size]
    above, tied = values > cut, values == cut
    weight = above + tied * ((size - above.sum()) / tied.sum())
    wanted = true & shown
    recall = float((weight * wanted).sum() / wanted.sum()) if wanted.any() else math.nan
    return PrecisionRecall(precision=float((weight * true).sum() / size), recall=recall, size=size)


def jaccard(first: Collection[Hashable], second: Collection[Hashable]) -> float:
    """Shared members over all members of two sets: 1 the same, 0 disjoint; NaN if both are empty."""
    a, b = set(first), set(second)
    return len(a & b) / len(a | b) if a | b else math.nan


def mean_jaccard(sets: Sequence[Collection[Hashable]]) -> float:
    """Mean :func:`jaccard` over all pairs of sets: how alike circuits found under different seeds are.

    Compare with random sets of the same sizes: with share s of all edges they reach about s / (2 - s).
    """
    if len(sets) < 2:
        raise BadInput(f"Agreement needs two sets or more, found {len(sets)}.")
    return float(np.mean([jaccard(a, b) for a, b in itertools.combinations(sets, 2)]))


def _edges(
    scores: Numbers, truth: Numbers, showable: Numbers | None
) -> tuple[Float[np.ndarray, " edge"], Bool[np.ndarray, " edge"], Bool[np.ndarray, " edge"]]:
    values = as_numbers(scores, "Edge scores")
    marks = (truth, np.ones(len(values), dtype=bool) if showable is None else showable)
    true, shown = (_mask(mark, len(values)) for mark in marks)
    return values, true, shown


def _mask(marks: Numbers, rows: int) -> Bool[np.ndarray, " edge"]:
    array = np.asarray(marks)
    if array.shape != (rows,) or not np.isin(array, (0, 1)).all():
        raise BadInput(f"Edges must be marked true or false, one mark for each of {rows} scores.")
    return array.astype(bool)
