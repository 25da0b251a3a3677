"""Is a concept linearly readable from activations, on entities the probe never saw?

Algorithm
1. Folds are unions of groups (marker pairs, topics). A fold's rows are scored by a probe trained on the other
   folds; centring and scaling use training rows only.
2. The probe is ridge regression on Fisher-coded labels (1/n+ and -1/n-), solved in its dual form: one
   factorisation for each fold serves the labels and all shuffles. A small penalty gives linear discriminant
   analysis, an infinite one the difference in means.
3. AUROC counts positive-negative pairs within a fold only. Pooling over folds would be biased: with group A
   held out the training mean moves away from A (the known pessimism of leave-one-out AUROC).
4. Null: labels move between entities inside groups that hold both classes (otherwise inside folds), and every
   shuffle trains again (Hewitt and Liang 2019). Selectivity is balanced accuracy minus its mean over
   shuffles.
5. For contrast, "seen" numbers split each entity's rows over training and test, so the probe may memorise
   entities. A high seen and a low held-out number mean that words were memorised, not the concept read.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence._arrays import Names, Numbers, as_codes, as_labels
from cutaway.evidence.intervals import RESAMPLES, Interval, auroc_interval, mean_interval, proportion_interval
from cutaway.evidence.measurement import Measurement
from cutaway.evidence.nulls import shuffled_labels
from cutaway.evidence.permutation import permutation_p
from cutaway.evidence.scores import concordant_pairs

LARGEST_LEAVE_ONE_OUT = 16  # more groups than this are merged into folds
SEEN_SPLITS = 4
SEEN_CONTROLS = 20


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What a linear probe reads on held-out groups, and what it would read if there were nothing to read.

    ``auroc`` and ``selectivity`` are measurements over held-out groups (n = entities; p one-sided against
    re-trained label shuffles; intervals leave out groups). ``accuracy`` is balanced; ``control_accuracy`` is
    its mean over shuffles. The ``seen_`` numbers share entities between training and test (NaN if entities
    have one row).
    """

    auroc: Measurement
    selectivity: Measurement
    accuracy: float
    control_accuracy: float
    seen_auroc: float
    seen_control_auroc: float
    direction: Float[Tensor, " d"]  # unit length, towards the positive class, trained on all rows
    scores: Float[np.ndarray, " row"]  # held-out scores; comparable within a fold only
    folds: Int[np.ndarray, " row"]
    null_aurocs: Float[np.ndarray, " draw"]  # same seed, same shuffles: stack over sites for familywise_p


@dataclass(frozen=True)
class _Scored:
    """Held-out scores, and correctness at the training midpoint; column 0 is the truth, the rest shuffles."""

    scores: Float[np.ndarray, "row column"]
    correct: Bool[np.ndarray, "row column"]


def probe(
    acts: Float[Tensor, "row d"],
    labels: Numbers,
    groups: Names,
    entities: Names,
    *,
    ridge: float = 0.1,
    folds: int = 8,
    shuffles: int = 199,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ProbeResult:
    """Probe ``acts`` for a binary concept, each group held out in turn, with the control task as its null.

    ``ridge`` is the penalty in units of the mean eigenvalue of the training Gram matrix (0.1: mildly
    regularised discriminant; ``math.inf``: difference in means). Groups with both classes are left out one by
    one when there are at most 16; otherwise groups are merged into ``folds`` balanced folds. Entities lie
    inside groups. :class:`NotTestable` if groups cannot be split so that every fold and its complement hold
    both classes.
    """
    truth, group, entity = _design(acts, labels, groups, entities)
    fold = _folds(truth, group, folds, seed)
    strata = group if _all_mixed(truth, group) else fold
    draws = shuffled_labels(truth, entity, count=shuffles, strata=strata, seed=seed)
    columns = np.vstack([truth, draws]).T
    held_out = _cross_validated(acts, columns, fold, ridge)
    won, pairs = concordant_pairs(held_out.scores, columns, fold)
    accuracy = _balanced(held_out.correct, columns)
    seen = _seen_aurocs(acts, columns[:, : 1 + SEEN_CONTROLS], entity, ridge)
    return ProbeResult(
        auroc=_auroc_measurement(won / pairs, held_out.scores[:, 0], truth, group, fold, entity, seed),
        selectivity=_selectivity(accuracy, held_out.correct[:, 0], truth, group, entity, resamples, seed),
        accuracy=float(accuracy[0]),
        control_accuracy=float(accuracy[1:].mean()),
        seen_auroc=float(seen[0]),
        seen_control_auroc=float(seen[1:].mean()),
        direction=probe_direction(acts, truth, ridge=ridge),
        scores=held_out.scores[:, 0],
        folds=fold,
        null_aurocs=(won / pairs)[1:],
    )


def probe_direction(acts: Float[Tensor, "row d"], labels: Numbers, *, ridge: float = 0.1) -> Float[Tensor, " d"]:
    """Unit direction of the probe trained on all rows, in the coordinates of ``acts``, towards the positive
    class.
    """
    truth = as_labels(labels, len(acts))
    centred, scale = _standardised(acts, torch.arange(len(acts)))
    dual, _ = _dual(centred @ centred.T, _coded(truth[:, None], acts), ridge)
    direction = (centred.T @ dual[:, 0]) / scale
    if not bool(direction.any()):
        raise NotTestable("The classes have equal mean activations, so there is no direction between them.")
    return (direction / direction.norm()).to(acts.dtype)


def _design(
    acts: Float[Tensor, "row d"], labels: Numbers, groups: Names, entities: Names
) -> tuple[Bool[np.ndarray, " row"], Int[np.ndarray, " row"], Int[np.ndarray, " row"]]:
    rows = len(acts)
    if not bool(torch.isfinite(acts).all()):
        raise BadInput("Activations hold values that are not finite; drop those rows and say so.")
    truth = as_labels(labels, rows)
    group, entity = as_codes(groups, rows, "Groups"), as_codes(entities, rows, "Entities")
    homes: dict[int, int] = {}
    for mine, home in zip(entity.tolist(), group.tolist()):
        if homes.setdefault(mine, home) != home:
            raise BadInput("An entity lies in two groups, so holding out one leaks it; name entities inside groups.")
    return truth, group, entity


def _all_mixed(truth: Bool[np.ndarray, " row"], cells: Int[np.ndarray, " row"]) -> bool:
    return set(cells[truth]) == set(cells[~truth])


def _folds(truth: Bool[np.ndarray, " row"], group: Int[np.ndarray, " row"], folds: int, seed: int) -> np.ndarray:
    """Fold of each row: its group, or one of ``folds`` unions of groups that hold both classes."""
    count = int(group.max()) + 1
    if 2 <= count <= LARGEST_LEAVE_ONE_OUT and _all_mixed(truth, group):
        return group
    splits = min(folds, len(set(group[truth])), len(set(group[~truth])))
    while splits >= 2:  # the splitter balances classes as well as it can, which may leave a fold without one
        splitter = StratifiedGroupKFold(splits, shuffle=True, random_state=seed)
        fold = np.zeros(len(truth), dtype=int)
        for number, (_, test) in enumerate(splitter.split(truth, truth, group)):
            fold[test] = number
        if _all_mixed(truth, fold) and len(set(fold.tolist())) == splits:
            return fold
        splits -= 1
    raise NotTestable(f"{count} groups cannot be split so that each part holds both classes; add groups of each class.")


def _cross_validated(
    acts: Float[Tensor, "row d"],
    columns: Bool[np.ndarray, "row column"],
    fold: Int[np.ndarray, " row"],
    ridge: float,
) -> _Scored:
    scores, correct = np.zeros(columns.shape), np.zeros(columns.shape, dtype=bool)
    for held in np.unique(fold):
        test = np.flatnonzero(fold == held)
        predicted, midpoint = _fit_and_score(acts, columns, np.flatnonzero(fold != held), test, ridge)
        scores[test] = predicted
        correct[test] = (predicted > midpoint) == columns[test]
    return _Scored(scores, correct)


def _fit_and_score(
    acts: Float[Tensor, "row d"],
    columns: Bool[np.ndarray, "row column"],
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
    ridge: float,
) -> tuple[Float[np.ndarray, "test column"], Float[np.ndarray, " column"]]:
    """Scores of test rows, and the midpoint between the classes' mean training scores, for every label
    column.
    """
    standard, _ = _standardised(acts, torch.from_numpy(train))
    gram = standard @ standard[train].T
    labels = columns[train]
    dual, fitted = _dual(gram[train], _coded(labels, acts), ridge)
    at_train = fitted.cpu().numpy()
    positive = np.where(labels, at_train, 0).sum(axis=0) / labels.sum(axis=0)
    negative = np.where(labels, 0, at_train).sum(axis=0) / (~labels).sum(axis=0)
    return (gram[test] @ dual).cpu().numpy(), (positive + negative) / 2


def _standardised(
    acts: Float[Tensor, "row d"], train: Int[Tensor, " train"]
) -> tuple[Float[Tensor, "row d"], Float[Tensor, " d"]]:
    """All rows less the training mean over the training deviation, in float64; constant units stay zero."""
    exact = acts.detach().double()
    deviation, mean = torch.std_mean(exact[train], dim=0, correction=0)
    usable = deviation > 1e-9 * exact.abs().amax().clamp(min=1e-300)
    scale = torch.where(usable, deviation, torch.inf)
    return (exact - mean) / scale, scale


def _coded(labels: Bool[np.ndarray, "row column"], like: Tensor) -> Float[Tensor, "row column"]:
    """Fisher's coding: 1/n+ and -1/n-. Columns sum to zero, so no intercept is needed."""
    positives = labels.sum(axis=0)
    if (positives == 0).any() or (positives == len(labels)).any():
        raise NotTestable("A training part holds one class only; add groups of the missing class.")
    coded = np.where(labels, 1 / positives, -1 / (len(labels) - positives))
    return torch.from_numpy(coded).to(like.device)


def _dual(
    gram: Float[Tensor, "row row"], targets: Float[Tensor, "row column"], ridge: float
) -> tuple[Float[Tensor, "row column"], Float[Tensor, "row column"]]:
    """Dual coefficients a of (G + penalty) a = y, and the fitted scores G a."""
    penalty = ridge * gram.diagonal().mean()
    if math.isinf(ridge) or penalty == 0:
        return targets, gram @ targets
    factor = torch.linalg.cholesky(gram + penalty * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
    dual = torch.cholesky_solve(targets, factor)
    return dual, targets - penalty * dual


def _balanced(
    correct: Bool[np.ndarray, "row column"], columns: Bool[np.ndarray, "row column"]
) -> Float[np.ndarray, " column"]:
    """Mean of the two classes' shares of correct rows."""
    hits = (correct & columns).sum(axis=0) / columns.sum(axis=0)
    return (hits + (correct & ~columns).sum(axis=0) / (~columns).sum(axis=0)) / 2


def _auroc_measurement(
    aurocs: Float[np.ndarray, " column"],
    scores: Float[np.ndarray, " row"],
    truth: Bool[np.ndarray, " row"],
    group: Int[np.ndarray, " row"],
    fold: Int[np.ndarray, " row"],
    entity: Int[np.ndarray, " row"],
    seed: int,
) -> Measurement:
    interval = auroc_interval(scores, truth, group, strata=fold)
    return _against_shuffles(aurocs, interval, entity, seed)


def _selectivity(
    accuracies: Float[np.ndarray, " column"],
    correct: Bool[np.ndarray, " row"],
    truth: Bool[np.ndarray, " row"],
    group: Int[np.ndarray, " row"],
    entity: Int[np.ndarray, " row"],
    resamples: int,
    seed: int,
) -> Measurement:
    """Accuracy minus the shuffles' mean accuracy; the interval is that of the accuracy over groups, moved."""
    control = accuracies[1:].mean()
    share = np.where(truth, truth.mean(), 1 - truth.mean())
    low, high = mean_interval(correct / (2 * share), group, resamples=resamples, seed=seed)
    if low == high:  # every group alike: there is no spread to resample, but certainty is not earned
        count = len(set(group.tolist()))
        low, high = proportion_interval(round(float(accuracies[0]) * count), count)
    interval = Interval(max(low, 0.0) - control, min(high, 1.0) - control)
    return _against_shuffles(accuracies - control, interval, entity, seed)


def _against_shuffles(
    columns: Float[np.ndarray, " column"], interval: Interval, entity: Int[np.ndarray, " row"], seed: int
) -> Measurement:
    value, null = float(columns[0]), columns[1:]
    p = permutation_p(value, null, alternative="greater")
    n = int(entity.max()) + 1
    return Measurement(value, interval.low, interval.high, float(null.mean()), float(null.std(ddof=1)), p, n, seed)


def _seen_aurocs(
    acts: Float[Tensor, "row d"],
    columns: Bool[np.ndarray, "row column"],
    entity: Int[np.ndarray, " row"],
    ridge: float,
) -> Float[np.ndarray, " column"]:
    """AUROCs when the rows of each entity are dealt over the folds in turn; NaN if an entity has one row."""
    seen: dict[Hashable, int] = {}
    turn = np.zeros(len(entity), dtype=int)
    for row, name in enumerate(entity.tolist()):
        turn[row] = seen.setdefault(name, 0)
        seen[name] += 1
    fold = turn % min(SEEN_SPLITS, *seen.values(), len(entity))
    if fold.max() == 0:
        return np.full(columns.shape[1], np.nan)
    won, pairs = concordant_pairs(_cross_validated(acts, columns, fold, ridge).scores, columns, fold)
    return won / pairs
