"""The unfolded network: the network with sites replaced by bases, and what it does beside the original."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.bases.basis import Basis
from cutaway.bases.unfolding.behaviour import Behaviour, Labels, compare
from cutaway.bases.unfolding.sums import Sums, ratio
from cutaway.bases.unfolding.view import View, view
from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import Measurement
from cutaway.networks.edits import Edit, Patch
from cutaway.networks.network import Batch, Network, Run
from cutaway.stimuli.tasks import TaskSet, continuation


@dataclass(frozen=True, eq=False)
class Unfolded:
    """A network whose sites are computed by bases. ``network`` is it as a :class:`Network`, made by :func:`unfold`.

    Its sites of codes (``SITE@NAME``) and errors (``SITE@NAME.error``) are captured and edited like any other.
    """

    original: Network
    network: View
    skip_first: int = 0

    @property
    def bases(self) -> tuple[Basis, ...]:
        """The bases that stand for sites."""
        return self.network.bases

    @property
    def keep_error(self) -> bool:
        """True if what the bases miss is added back."""
        return self.network.keep_error

    def run(self, batch: Any, capture: Iterable[str] = (), edits: Iterable[Edit] = (), **options: Any) -> Run:
        """As :meth:`Network.run`."""
        return self.network.run(batch, capture, edits, **options)

    def errors(self, batch: Any) -> dict[str, Tensor]:
        """What each basis misses in the original's own pass, by error site: the error nodes of these stimuli."""
        batch = batch if isinstance(batch, Batch) else self.original.prepare(batch)
        whole = view(self.original, self.bases, keep_error=True, skip_first=self.skip_first)
        return {name: whole.run(batch, capture=[name])[name] for name in whole.error_sites}

    def with_errors(self, batch: Any, errors: dict[str, Tensor] | None = None, edits: Iterable[Edit] = ()) -> Run:
        """A pass in which the given errors (by default the original's) are added back as constants.

        Without other edits its output is the original's up to rounding, through the codes; with edits of codes it is
        what a circuit of codes and frozen errors does.
        """
        batch = batch if isinstance(batch, Batch) else self.original.prepare(batch)
        errors = self.errors(batch) if errors is None else errors
        whole = view(self.original, self.bases, keep_error=True, skip_first=self.skip_first)
        constants = [Patch(name, value) for name, value in errors.items()]
        return whole.run(batch, edits=[*edits, *constants])

    def behaviour(self, stimuli: Any, *, labels: Labels | None = None, **options: Any) -> Behaviour:
        """What it still does; options are those of :func:`~cutaway.bases.unfolding.behaviour.compare`."""
        return compare(self.original, {"unfolded": self.network}, stimuli, labels=labels, **options)["unfolded"]


def unfold(
    network: Network, bases: Basis | Sequence[Basis], *, keep_error: bool = False, skip_first: int = 0
) -> Unfolded:
    """The network with what each basis writes replaced by what it makes of what it reads.

    SAEs stand for their site, transcoders compute one site from another. With ``keep_error`` what they miss stays, as
    error nodes. The first ``skip_first`` real tokens of each text are left as they are. Raises ``BadInput`` for bases
    of another network or width, and where two bases write one site.
    """
    given: list[Basis] = list(bases) if isinstance(bases, Sequence) else [bases]
    written = [basis.origin.writes for basis in given if basis.origin is not None]
    twice = [name for name in written if written.count(name) > 1]
    if twice and not keep_error:
        raise BadInput(f"{twice[0]} was to be replaced by two bases; the second would read the first: give one.")
    return Unfolded(network, view(network, given, keep_error=keep_error, skip_first=skip_first), skip_first)


@dataclass(frozen=True)
class TaskAccuracy:
    """Share of a task's clean prompts after which the right answer outweighs the wrong one (chance is 0.5)."""

    task: str
    unfolded: Measurement
    original: Measurement

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"task": self.task, "unfolded": self.unfolded.to_json(), "original": self.original.to_json()}


def task_accuracy(unfolded: Unfolded, task: TaskSet, *, batch_size: int = 16, seed: int = 0) -> TaskAccuracy:
    """Accuracy of both networks on a task's pairs; intervals resample the entities that pairs share.

    Raises ``NotTestable`` for a network that is no language model with a tokenizer.
    """
    network = unfolded.original
    if network.task != "causal-lm" or network.tokenizer is None:
        raise NotTestable(f"{network.name} is no language model with a tokenizer, so it cannot do {task.name}.")
    sums = Sums(("n", "unfolded", "original"))
    for start in range(0, len(task), batch_size):
        pairs = task.pairs[start : start + batch_size]
        batch = network.prepare([pair.clean for pair in pairs])
        gaps = [_gap(each, batch, pairs, network) for each in (unfolded.network, network)]
        for pair, mine, original in zip(pairs, *gaps):
            sums.add(pair.group or pair.id, 1, mine > 0, original > 0)
    return TaskAccuracy(task.name, *(ratio(sums, name, "n", seed=seed) for name in ("unfolded", "original")))


def _gap(runs: Network, batch: Batch, pairs: Sequence[Any], network: Network) -> list[float]:
    """Logit of the right answer less that of the wrong one, after each prompt."""
    with torch.no_grad():
        logits = runs.run(batch, logits="last").logits[:, 0]
    gaps = []
    for row, pair in enumerate(pairs):
        right, wrong = (continuation(network.tokenizer, pair.clean, word) for word in (pair.target, pair.against))
        if right is None or wrong is None:
            raise BadInput(f"An answer of {pair.clean!r} is not one token here; make the task with this tokenizer.")
        gaps.append(float(logits[row, right] - logits[row, wrong]))
    return gaps
