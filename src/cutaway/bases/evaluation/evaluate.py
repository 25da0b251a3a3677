"""One dictionary, everything that is asked of it, each number beside its rivals'.

1. Rows of the reference stimuli: the mean that ablation puts in place, and what rivals are fitted on.
2. One look at the held-out rows: explained variance, L0, dead and dense latents of the basis and of its rivals.
3. The network with the site replaced by each of them, by its mean and by zero: cross-entropy and KL recovered.
4. Sparse probing and absorption, where tokens have names.
5. The same kind of basis, trained on an untrained twin, on the twin's activations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cutaway.bases.basis import Basis, Origin, check_origin
from cutaway.bases.evaluation.contenders import ABLATIONS, FIT_ROWS, ablations, rivals
from cutaway.bases.evaluation.probing import Concept, Examples, Probing, examples, probing, token_concepts
from cutaway.bases.evaluation.reconstruction import DENSE, Reconstruction, reconstructions
from cutaway.bases.evaluation.recovery import Recovered, recovered
from cutaway.bases.evaluation.site_rows import SiteRows, column_sums, sample
from cutaway.bases.linear import Linear
from cutaway.bases.unfolding.behaviour import Behaviour, Labels, Progress, compare
from cutaway.bases.unfolding.showing import MAX_TOKENS, as_set
from cutaway.bases.unfolding.view import view
from cutaway.evidence import untrained_twin
from cutaway.networks.network import Network
from cutaway.stimuli import StimulusSet

BEHAVIOUR_STIMULI = 32
"""Stimuli on which whole networks are compared: every rival costs a full pass there."""
TWIN = "untrained twin"


@dataclass(frozen=True)
class Scores:
    """What one basis earned. ``recovered`` compares the network with it in place to ablation of the site."""

    name: str
    width: int
    reconstruction: Reconstruction
    behaviour: Behaviour | None = None
    recovered: Recovered | None = None
    probing: Probing | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; what was not asked, or has no answer here, is null."""
        parts = {"behaviour": self.behaviour, "recovered": self.recovered, "probing": self.probing}
        plain = {name: None if part is None else part.to_json() for name, part in parts.items()}
        return {"name": self.name, "width": self.width, **self.reconstruction.to_json(), **plain}


@dataclass(frozen=True)
class Evaluation:
    """Scores of a basis (the first) and of its rivals, on stimuli that it was not trained on."""

    basis: str
    origin: Origin
    network: str
    fingerprint: str
    stimuli: tuple[str, str, int]  # name, fingerprint, count
    reference: str
    skip_first: int
    seed: int
    scores: tuple[Scores, ...]
    notes: tuple[str, ...] = ()

    def of(self, name: str) -> Scores:
        """The scores of the basis or of a rival, by name."""
        return next(each for each in self.scores if each.name == name)

    @property
    def own(self) -> Scores:
        """The basis's own scores."""
        return self.scores[0]

    def to_json(self) -> dict[str, Any]:
        """One document."""
        name, fingerprint, count = self.stimuli
        return {
            "basis": self.basis,
            "origin": self.origin.to_json(),
            "network": self.network,
            "fingerprint": self.fingerprint,
            "stimuli": {"name": name, "fingerprint": fingerprint, "count": count},
            "reference": self.reference,
            "skip_first": self.skip_first,
            "dense_level": DENSE,
            "seed": self.seed,
            "scores": [each.to_json() for each in self.scores],
            "notes": list(self.notes),
        }


def evaluate(
    network: Network,
    basis: Basis,
    stimuli: Any,
    *,
    reference: Any = None,
    twin: Callable[[Network], Basis] | None = None,
    concepts: Sequence[Concept] | None = None,
    against: bool = True,
    behaviour: int = BEHAVIOUR_STIMULI,
    labels: Labels | None = None,
    skip_first: int = 0,
    batch_size: int = 8,
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """How good a basis is on ``stimuli`` (not those that it was trained on), beside its rivals (``against``).

    ``reference`` (the training stimuli) gives the mean for ablation and the rows on which rivals and probes are
    fitted; without it rivals are fitted on ``stimuli`` themselves, which favours them, and nothing is probed.
    ``twin`` makes a basis of the same kind for another network, here an untrained twin. ``concepts``: default
    :func:`token_concepts`, ``()`` for none. ``behaviour``: on so many stimuli whole networks are compared, 0 for none.
    Texts are cut to ``max_tokens``; their first ``skip_first`` tokens are left as they are and not counted.

    Raises ``BadInput`` for a basis of another network or width, ``NotTestable`` for rows that are all equal.
    """
    origin = check_origin(basis, network)
    shown = as_set(stimuli)
    options = {"skip_first": skip_first, "batch_size": batch_size, "max_tokens": max_tokens, "seed": seed}
    job = _Job(network, basis, origin, shown, reference, options, progress)
    bases = job.contenders(against)
    looks = reconstructions(job.rows, bases, seed=seed)
    behaviours = job.behaviours(bases, behaviour, labels)
    probes = job.probes(bases, token_concepts() if concepts is None else concepts)
    saved = recovered(behaviours, seed=seed)
    scores = [
        Scores(name, each.width, looks[name], behaviours.get(name), saved.get(name), probes.get(name))
        for name, each in bases.items()
    ]
    if twin is not None:
        scores.append(_twin_scores(network, twin, shown, reference, concepts, options, progress))
    return Evaluation(
        basis.name, origin, network.name, network.fingerprint, (shown.name, shown.fingerprint, len(shown)),
        job.fit.name, skip_first, seed, tuple(scores), tuple(job.notes(behaviour)),
    )  # fmt: skip


class _Job:
    """What the steps of :func:`evaluate` share."""

    def __init__(
        self, network: Network, basis: Basis, origin: Origin, shown: StimulusSet, reference: Any,
        options: dict[str, Any], progress: Progress | None,
    ) -> None:  # fmt: skip
        self.network, self.basis, self.origin, self.options, self.progress = network, basis, origin, options, progress
        self.reference = reference
        sites = (network.site(origin.reads), network.site(origin.writes))
        self.rows = SiteRows(network, *sites, shown, **options, progress=progress)
        self.fit = self.rows if reference is None else SiteRows(network, *sites, reference, **options)

    def contenders(self, against: bool) -> dict[str, Basis]:
        """The basis under its own name, then its rivals and the ablations."""
        alone: dict[str, Basis] = {self.basis.name: self.basis}
        if not against:
            return alone
        total, count = column_sums(self.fit)
        mean, seed = (total / count).float(), self.options["seed"]
        l0 = reconstructions(self.rows, alone, seed=seed)[self.basis.name].l0.value
        x, y = sample(self.fit, FIT_ROWS, seed=seed)
        others = rivals(self.basis, self.origin, x, y, mean, l0=l0, seed=seed) | ablations(self.origin, mean)
        taken = set(others) & set(alone)
        return alone | {f"{name} (rival)" if name in taken else name: each for name, each in others.items()}

    def behaviours(self, bases: Mapping[str, Basis], count: int, labels: Labels | None) -> dict[str, Behaviour]:
        """What the network still does with each of them in place."""
        if not count:
            return {}
        skip = self.options["skip_first"]
        changed = {name: view(self.network, [each], keep_error=False, skip_first=skip) for name, each in bases.items()}
        shown = as_set(self.rows.stimuli).take(count, seed=self.options["seed"])
        sizes = {key: self.options[key] for key in ("batch_size", "max_tokens", "seed")}
        return compare(self.network, changed, shown, labels=labels, **sizes, progress=self.progress)

    def probes(self, bases: Mapping[str, Basis], concepts: Sequence[Concept]) -> dict[str, Probing | None]:
        """Probing of the basis and of rivals that have latents; neurons and components without a limit on L0."""
        if self.reference is None or not concepts:
            return {}
        seed = self.options["seed"]
        fit, held = (self._examples(rows, concepts) for rows in (self.fit, self.rows))
        found = {}
        for name, each in bases.items():
            if name not in ABLATIONS:
                whole = replace(each, keep=None) if isinstance(each, Linear) and name != "random" else each
                on_written = each.origin is not None and each.origin.reads == self.origin.writes
                found[name] = probing(whole, fit, held, on_written=on_written, seed=seed)
        return found

    def _examples(self, rows: SiteRows, concepts: Sequence[Concept]) -> dict[str, Examples]:
        return examples(self.network, rows, concepts, seed=self.options["seed"])

    def notes(self, behaviour: int) -> list[str]:
        """What a reader of the numbers must know."""
        found = list(self.network.notes)
        if self.reference is None:
            found.append("rivals were fitted on the evaluated stimuli themselves, which favours them")
        if behaviour and self.network.modality == "tensor":
            found.append("behaviour is compared by the variance of the outputs")
        return found


def _twin_scores(
    network: Network, make: Callable[[Network], Basis], shown: StimulusSet, reference: Any,
    concepts: Sequence[Concept] | None, options: dict[str, Any], progress: Progress | None,
) -> Scores:  # fmt: skip
    """The scores of the same kind of basis, trained and tested on a network that has learned nothing."""
    other = untrained_twin(network, seed=options["seed"])
    scores = evaluate(
        other, make(other), shown, reference=reference, concepts=concepts, against=False, behaviour=0,
        **options, progress=progress,
    )  # fmt: skip
    return replace(scores.own, name=TWIN)
