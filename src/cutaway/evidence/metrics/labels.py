"""How well a label in words predicts where a feature fires: detection, fuzzing and simulation scores.

A judge that answers in no usable form has failed to predict. Such replies count as wrong and are reported; dropping
them rewards a label for confusing its judge, and pooling several scorers into one number mixes unlike things
(both happen in a published pipeline).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence._arrays import Numbers, as_labels, as_numbers
from cutaway.evidence.scores import auroc


@dataclass(frozen=True)
class Reply:
    """A judge's answer on one example: ``said`` is its chance (0 to 1) or yes/no that the feature fires.

    None: no usable answer.
    """

    feature: str
    scorer: str  # "detection", "fuzzing", ...
    said: float | bool | int | None
    fires: bool


@dataclass(frozen=True)
class LabelScores:
    """Scores of one label by one scorer over ``n`` examples, ``unparsed`` of which had no usable reply.

    ``auc`` is from the chances that the judge gave (from yes/no, it equals the balanced accuracy if all replies
    were usable).
    """

    balanced_accuracy: float
    f1: float
    auc: float
    unparsed: int
    n: int


def label_scores(
    said: Sequence[float | bool | int | None], fires: Numbers, *, threshold: float | int = 0.5
) -> LabelScores:
    """Balanced accuracy (TPR + TNR) / 2, F1 and AUC of a judge's replies (chances or yes/no; None = unparsed).

    A chance above ``threshold`` is a yes. An unparsed reply is a miss on an example that fires, a false alarm on one
    that does not, and ranks worst for the AUC. :class:`NotTestable` unless both kinds of examples occur.
    """
    parsed = np.array([reply is not None for reply in said], dtype=bool)
    chances = _chances(said)
    truth = _both_kinds(fires, len(chances))
    # the wrong answer, further off than any chance could be
    values = np.where(parsed, chances, np.where(truth, -1.0, 2.0))
    yes = values > threshold
    hits, false_alarms, misses = (int(x.sum()) for x in (yes & truth, yes & ~truth, ~yes & truth))
    return LabelScores(
        balanced_accuracy=(hits / int(truth.sum()) + 1 - false_alarms / int((~truth).sum())) / 2,
        f1=2 * hits / (2 * hits + false_alarms + misses),
        auc=auroc(values, truth),
        unparsed=int((~parsed).sum()),
        n=len(truth),
    )


def label_scores_by_scorer(replies: Sequence[Reply]) -> dict[tuple[str, str], LabelScores]:
    """:func:`label_scores` for each (feature, scorer): scorers are never pooled."""
    groups: dict[tuple[str, str], list[Reply]] = {}
    for reply in replies:
        groups.setdefault((reply.feature, reply.scorer), []).append(reply)
    return {
        key: label_scores([reply.said for reply in group], [reply.fires for reply in group])
        for key, group in groups.items()
    }


def simulation_correlation(simulated: Sequence[Numbers], actual: Sequence[Numbers]) -> float:
    """Pearson correlation of simulated and actual activations over the concatenated tokens of all texts, -1 to 1.

    Concatenated, not averaged over texts: a text on which the feature is silent has no correlation of its own.
    :class:`NotTestable` if either side does not vary.
    """
    lengths = [[len(np.asarray(text)) for text in side] for side in (simulated, actual)]
    if lengths[0] != lengths[1] or not lengths[0]:
        raise BadInput("Simulated and actual activations must hold the same texts with the same numbers of tokens.")
    guess, truth = (
        as_numbers(np.concatenate([np.asarray(text, dtype=np.float64) for text in side]), "Activations")
        for side in (simulated, actual)
    )
    guess, truth = guess - guess.mean(), truth - truth.mean()
    spread = float(np.linalg.norm(guess) * np.linalg.norm(truth))
    if spread == 0:
        raise NotTestable("A correlation is undefined: simulated or actual activations do not vary.")
    return float(guess @ truth) / spread


def _chances(said: Sequence[float | bool | int | None]) -> Float[np.ndarray, " row"]:
    values = np.array([math.nan if reply is None else float(reply) for reply in said])
    odd = [reply for reply in said if reply is not None and not 0 <= float(reply) <= 1]
    if odd:
        raise BadInput(f"A judge's reply is a chance between 0 and 1, yes/no or None, found {odd[0]}.")
    return values


def _both_kinds(fires: Numbers, rows: int) -> Bool[np.ndarray, " row"]:
    try:
        return as_labels(fires, rows)
    except BadInput as error:
        if np.asarray(fires).shape == (rows,) and len(np.unique(np.asarray(fires))) < 2:
            raise NotTestable(
                "A label is scored on examples that fire and on others; only one kind was given."
            ) from error
        raise
