"""A label in words that is also a predictor, and its scores. There is no label without its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cutaway.evidence import Measurement, measure_against_null, measure_auroc
from cutaway.evidence.metrics import LabelScores, label_scores
from cutaway.features.labels.cases import Case, Cases

SHUFFLES = 999
Chance = float | bool | int | None


@runtime_checkable
class Label(Protocol):
    """What a feature answers to, in words, and the chance (0 to 1) that it fires on a case; None: no usable answer."""

    @property
    def text(self) -> str:
        """The label as a reader sees it."""
        ...

    @property
    def method(self) -> str:
        """How it was made: ``tokens``, ``promoted tokens``, ``tuning``, ``example clusters``, ``language model``."""
        ...

    def predict(self, cases: Sequence[Case]) -> Sequence[Chance]:
        """The chance for each case, from the case alone."""
        ...


@dataclass(frozen=True)
class Detection:
    """How well a label tells cases at which the feature fires from others.

    ``accuracy`` is the balanced accuracy at chance 0.5, ``auc`` needs no threshold; both have shuffled labels as null
    and p (greater). ``failed`` replies were unusable: they count as wrong.
    """

    accuracy: Measurement
    auc: Measurement
    f1: float
    failed: int
    n: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"balanced_accuracy": self.accuracy.to_json(), "auc": self.auc.to_json(), "f1": self.f1,
                "failed_replies": self.failed, "cases": self.n}  # fmt: skip


@dataclass(frozen=True)
class ScoredLabel:
    """A label with its scores on held-out cases: against silence, and against what other features fire on.

    ``others`` is None where no other feature fires while this one is silent.
    """

    text: str
    method: str
    silent: Detection
    others: Detection | None
    notes: tuple[str, ...] = ()
    label: Label | None = field(default=None, compare=False, repr=False)

    @property
    def failed(self) -> int:
        """Replies without a usable answer, over all cases."""
        return self.silent.failed + (self.others.failed if self.others else 0)

    def __str__(self) -> str:
        score = self.silent.accuracy
        failed = f", {self.failed} failed replies" if self.failed else ""
        return f"{self.text} [{self.method}; balanced accuracy {score.value:.2f}, p = {score.p:.2g}{failed}]"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "text": self.text,
            "method": self.method,
            "silent": self.silent.to_json(),
            "others": self.others and self.others.to_json(),
            "failed_replies": self.failed,
            "notes": list(self.notes),
        }


def score_label(label: Label, held_out: Cases, *, notes: Sequence[str] = (), seed: int = 0) -> ScoredLabel:
    """The label's scores on cases that it was not made from.

    Raises ``NotTestable`` without cases at which the feature is silent.
    """
    shown = [*held_out.fires, *held_out.silent, *held_out.others]
    # One shuffled pass, so that a judge cannot tell kinds by their order.
    order = np.random.default_rng(seed).permutation(len(shown))
    replies = label.predict([shown[index] for index in order])
    said: list[Chance] = [None] * len(shown)
    for index, reply in zip(order.tolist(), replies, strict=True):
        said[index] = reply
    yes, no = len(held_out.fires), len(held_out.silent)
    parts = said[:yes], said[yes : yes + no], said[yes + no :]
    silent = detection(parts[0], parts[1], held_out.fires, held_out.silent, seed=seed)
    others = detection(parts[0], parts[2], held_out.fires, held_out.others, seed=seed) if held_out.others else None
    return ScoredLabel(label.text, label.method, silent, others, tuple(notes), label)


def detection(
    on: Sequence[Chance], off: Sequence[Chance], fires: Sequence[Case], silent: Sequence[Case], *, seed: int = 0
) -> Detection:
    """Scores of chances said on cases that fire and on others (:func:`cutaway.evidence.metrics.label_scores`).

    The null shuffles which cases fire; a reply that failed stays wrong in every shuffle, so failing earns nothing.
    """
    said, truth = [*on, *off], np.array([True] * len(on) + [False] * len(off))
    found = label_scores(said, truth)
    rng = np.random.default_rng(seed)
    shuffled = [label_scores(said, rng.permutation(truth)) for _ in range(SHUFFLES)]
    options = {"n": len(truth), "alternative": "greater", "seed": seed}
    low, high = _accuracy_interval(said, truth, [case.origin for case in [*fires, *silent]], seed)
    null = [each.balanced_accuracy for each in shuffled]
    accuracy = measure_against_null(found.balanced_accuracy, null, bootstrap=[low, high], **options)
    accuracy = Measurement(
        accuracy.value, low, high, accuracy.null_mean, accuracy.null_std, accuracy.p, len(truth), seed
    )
    return Detection(accuracy, _auc(said, truth, found, seed), found.f1, found.unparsed, found.n)


def _accuracy_interval(
    said: Sequence[Chance], truth: np.ndarray, origins: Sequence[str], seed: int
) -> tuple[float, float]:
    """Bootstrap of the balanced accuracy over origins."""
    correct = np.array([reply is not None and (float(reply) > 0.5) == fires for reply, fires in zip(said, truth)])
    names = {origin: index for index, origin in enumerate(dict.fromkeys(origins))}
    codes = np.array([names[origin] for origin in origins])
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=SHUFFLES)
    weights = drawn[:, codes].astype(float)
    usable = (weights[:, truth].sum(axis=1) > 0) & (weights[:, ~truth].sum(axis=1) > 0)
    rates = [
        (weights[usable][:, side] @ correct[side]) / weights[usable][:, side].sum(axis=1) for side in (truth, ~truth)
    ]
    low, high = np.quantile((rates[0] + rates[1]) / 2, (0.025, 0.975))
    return float(low), float(high)


def _auc(said: Sequence[Chance], truth: np.ndarray, found: LabelScores, seed: int) -> Measurement:
    if found.unparsed:
        return Measurement(found.auc, n=found.n, seed=seed)
    chances = [float(reply) for reply in said if reply is not None]
    return measure_auroc(chances, truth, alternative="greater", shuffles=SHUFFLES, seed=seed)
