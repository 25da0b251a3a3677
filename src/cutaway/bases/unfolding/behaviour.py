"""What an unfolded network still does: its outputs beside the original's, on the same stimuli.

    language model    cross-entropy of the next token, KL(original | unfolded), top-1 agreement, next-token accuracy
    classifier        KL over classes, top-1 agreement, accuracy where true classes are known
    edge detector     share of the edge map's variance kept: 1 - MSE / variance, of the logits and after the sigmoid
    other             share of the output's variance kept

Sums are kept for each entity (a document, a photograph with its crops), and intervals resample entities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from cutaway.bases.unfolding.showing import MAX_TOKENS, Shown, batches
from cutaway.bases.unfolding.sums import Sums, ratio, statistic
from cutaway.errors import BadInput
from cutaway.evidence import Measurement
from cutaway.networks.network import Batch, Network
from cutaway.stimuli import Stimulus

Progress = Callable[[int, int, str], None]
Labels = Callable[[Stimulus], int | None]

_TOKENS = ("n", "loss", "loss_original", "kl", "agree", "right", "right_original")
_CLASSES = ("n", "kl", "agree", "labelled", "right", "right_original")
_VALUES = ("n", "error", "spread")


@dataclass(frozen=True, eq=False)
class Behaviour:
    """How an unfolded network compares with its original; what its kind of network has no answer for is None.

    ``loss`` and ``kl`` are in nats a token (a picture), ``agreement`` and the accuracies shares of 1, ``output_kept``
    and ``edges_kept`` shares of variance (1 is all of it, negative is worse than its mean). ``sums`` has what they
    were made from.
    """

    kind: str
    kl: Measurement | None = None
    agreement: Measurement | None = None
    loss: Measurement | None = None
    loss_original: Measurement | None = None
    accuracy: Measurement | None = None
    accuracy_original: Measurement | None = None
    output_kept: Measurement | None = None
    edges_kept: Measurement | None = None
    sums: Sums | None = None

    def to_json(self) -> dict[str, Any]:
        """The kind, and every number as a measurement or null."""
        numbers = {name: value for name, value in vars(self).items() if name not in ("kind", "sums")}
        return {"kind": self.kind} | {k: None if v is None else v.to_json() for k, v in numbers.items()}


def compare(
    original: Network,
    changed: Mapping[str, Network],
    stimuli: Any,
    *,
    labels: Labels | None = None,
    batch_size: int = 8,
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Behaviour]:
    """Behaviour of several changed networks on the same stimuli; the original is run once for all.

    ``labels`` gives a picture's true class where it is known. Texts are cut to ``max_tokens``. One batch of outputs
    is held at a time. Raises ``BadInput`` where no stimulus can be used.
    """
    reader = _reader(original)
    tallies = {name: reader(labels) for name in changed}
    for shown in batches(original, stimuli, batch_size=batch_size, max_tokens=max_tokens):
        with torch.no_grad():
            clean = original.run(shown.batch).logits
            for name, network in changed.items():
                tallies[name].add(clean, network.run(shown.batch).logits, shown)
        if progress is not None:
            progress(shown.done, shown.total, "comparing outputs")
    return {name: tally.result(seed) for name, tally in tallies.items()}


class _Tokens:
    """Next-token predictions."""

    def __init__(self, _labels: Labels | None) -> None:
        self.sums = Sums(_TOKENS)

    def add(self, clean: Tensor, changed: Tensor, shown: Shown) -> None:
        for row, entity in enumerate(shown.entities):
            here, targets = _predicting(shown.batch, row)
            if len(targets):
                self.sums.add(entity, *token_terms(clean[row, here], changed[row, here], targets))

    def result(self, seed: int) -> Behaviour:
        if not len(self.sums):
            raise BadInput("No text has two tokens, so there is no next token to predict; give longer texts.")
        found = {name: ratio(self.sums, name, "n", seed=seed) for name in _TOKENS[1:]}
        return Behaviour(
            "causal-lm", found["kl"], found["agree"], found["loss"], found["loss_original"], found["right"],
            found["right_original"], sums=self.sums,
        )  # fmt: skip


class _Classes:
    """Predictions of one class for each stimulus."""

    def __init__(self, labels: Labels | None) -> None:
        self.sums, self.labels = Sums(_CLASSES), labels

    def add(self, clean: Tensor, changed: Tensor, shown: Shown) -> None:
        for row, (entity, stimulus) in enumerate(zip(shown.entities, shown.stimuli)):
            label = self.labels(stimulus) if self.labels is not None else None
            target = torch.tensor([0 if label is None else label], device=clean.device)
            n, _, _, kl, agree, right, original = token_terms(clean[row : row + 1], changed[row : row + 1], target)
            known = label is not None
            self.sums.add(entity, n, kl, agree, float(known), right * known, original * known)

    def result(self, seed: int) -> Behaviour:
        accuracies = (None, None)
        if self.sums.total("labelled"):
            accuracies = tuple(ratio(self.sums, k, "labelled", seed=seed) for k in ("right", "right_original"))
        kl, agree = (ratio(self.sums, name, "n", seed=seed) for name in ("kl", "agree"))
        return Behaviour("classifier", kl, agree, None, None, *accuracies, sums=self.sums)


class _Values:
    """Outputs that are numbers, not choices: variance is around each output unit's mean over everything shown."""

    def __init__(self, edges: bool) -> None:
        self.plain, self.sigmoid = _Spread(), _Spread() if edges else None

    def add(self, clean: Tensor, changed: Tensor, shown: Shown) -> None:
        for row, entity in enumerate(shown.entities):
            one, other = (_vectors(each, shown.batch, row) for each in (clean, changed))
            self.plain.add(entity, one, other)
            if self.sigmoid is not None:
                self.sigmoid.add(entity, one.sigmoid(), other.sigmoid())

    def result(self, seed: int) -> Behaviour:
        edges = None if self.sigmoid is None else self.sigmoid.kept(seed)
        kind = "values" if self.sigmoid is None else "edges"
        return Behaviour(kind, output_kept=self.plain.kept(seed), edges_kept=edges, sums=self.plain.sums())


class _Spread:
    """Squared errors, and what is needed for variances around a mean that is known at the end only."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Any]] = {}

    def add(self, entity: str, clean: Float[Tensor, "row unit"], changed: Float[Tensor, "row unit"]) -> None:
        clean, changed = clean.double(), changed.double()
        new = [len(clean), float((clean - changed).square().sum()), float(clean.square().sum()), clean.sum(0)]
        old = self._parts.get(entity)
        self._parts[entity] = new if old is None else [a + b for a, b in zip(old, new)]

    def sums(self) -> Sums:
        count = sum(part[0] for part in self._parts.values())
        mean = torch.stack([part[3] for part in self._parts.values()]).sum(0) / count
        sums = Sums(_VALUES)
        for entity, (n, error, squares, total) in self._parts.items():
            spread = squares - 2 * float(total @ mean) + n * float(mean @ mean)
            sums.add(entity, n, error, max(spread, 0.0))
        return sums

    def kept(self, seed: int) -> Measurement | None:
        sums = self.sums()
        if sums.total("spread") <= 0:
            return None
        columns = (sums.of("error"), sums.of("spread"))
        return statistic(lambda error, spread: 1 - error / spread, *columns, seed=seed)


def token_terms(
    clean: Float[Tensor, "row word"], changed: Float[Tensor, "row word"], targets: Int[Tensor, " row"]
) -> tuple[float, ...]:
    """Sums over rows: count, loss, original's loss, KL(clean | changed), equal top-1, right, original right; nats."""
    p, q = clean.float().log_softmax(-1), changed.float().log_softmax(-1)
    kl = functional.kl_div(q, p, reduction="none", log_target=True).sum(-1).clamp(min=0)
    said, said_clean = changed.argmax(-1), clean.argmax(-1)
    return (
        float(len(targets)), float(functional.nll_loss(q, targets, reduction="sum")),
        float(functional.nll_loss(p, targets, reduction="sum")), float(kl.double().sum()),
        float((said == said_clean).sum()), float((said == targets).sum()), float((said_clean == targets).sum()),
    )  # fmt: skip


def _reader(network: Network) -> Callable[[Labels | None], _Tokens | _Classes | _Values]:
    if network.task == "causal-lm":
        return _Tokens
    if network.task == "classifier":
        return _Classes
    return lambda _labels: _Values(network.task == "edges")


def _predicting(batch: Batch, row: int) -> tuple[Int[Tensor, " place"], Int[Tensor, " place"]]:
    """Positions of a text that have a next real token, and those tokens."""
    tokens = batch.inputs["input_ids"][row]
    real: Bool[Tensor, " pos"] = torch.ones_like(tokens, dtype=torch.bool) if batch.mask is None else batch.mask[row]
    places = real.nonzero().flatten()
    return places[:-1], tokens[places[1:]]


def _vectors(output: Tensor, batch: Batch, row: int) -> Float[Tensor, "row unit"]:
    """One stimulus's output as rows of units: pixels of a map, real tokens of a text, or one vector."""
    value = output[row]
    if value.ndim == 1:
        return value[None]
    if value.ndim == 3:  # [unit y x]
        return value.flatten(1).T
    real = batch.mask[row] if batch.mask is not None and len(value) == batch.mask.shape[1] else None
    return value if real is None else value[real]
