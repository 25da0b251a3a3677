"""Two motifs that need labels of units: pure shapes that are applied to objects, and superposition.

Pure, then applied: a clean shape family (curves) is followed by units of other labels that read mostly from it.

Superposition (the car unit of 4c, spread over dog units; Olah et al., "Zoom In", 2020): a pure unit whose outgoing
weights lie on many units that are labelled otherwise, although little else would make them answer to it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from cutaway.evidence import Measurement
from cutaway.structure.motifs.common import (
    Kernel,
    Search,
    against_shuffles,
    as_array,
    check_activations,
    check_labels,
    confirmed,
    contrast,
    corrected,
    drives,
    firing,
    with_q,
)

Labels = Sequence[str | None]
FEWEST_MEMBERS = 2
MOST_OWN = 0.5
_STRONGEST = 3  # excitatory sources of a target that count as what it reads


@dataclass(frozen=True, eq=False)
class LabelledLayers:
    """Two layers whose units have labels (None: no label): the kernel between them, and what both did.

    ``sources`` and ``targets`` are activations at the same positions of the same stimuli (the targets' best before
    their rectifier); ``origins`` says which samples come from one picture. Labels or activations that do not fit the
    kernel raise ``BadInput``.
    """

    kernel: Kernel
    source_labels: Labels
    target_labels: Labels
    sources: Float[Tensor, "sample sources"]
    targets: Float[Tensor, "sample targets"]
    origins: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_activations(self.kernel, self.sources, self.targets)
        check_labels(self.source_labels, self.kernel.shape[1], "sources")
        check_labels(self.target_labels, self.kernel.shape[0], "targets")

    def energy(self) -> Float[np.ndarray, "target source"]:
        """The excitatory weight energy of each pair: the sum of squares of its positive weights."""
        return np.square(as_array(self.kernel).clip(min=0)).sum((2, 3))


@dataclass(frozen=True)
class PureThenApplied:
    """``target``, labelled ``target_label``, reads mostly from sources labelled ``shape``.

    ``weights`` is the share of its excitatory weight energy from these sources; null: labels exchanged among sources.
    ``confirmation``: the measured target where one of these sources fires minus where none does.
    """

    shape: str
    target: int
    target_label: str
    weights: Measurement
    confirmation: Measurement
    q: float = math.nan


def pure_then_applied(
    layers: LabelledLayers,
    *,
    level: float = 0.05,
    shuffles: int = 999,
    seed: int = 0,
) -> Search[PureThenApplied]:
    """Targets of another label that read from a labelled family of sources more than exchanged labels would make them.

    Families of fewer than two sources are left out. p is at least 1 / (shuffles + 1): ask for more
    shuffles where there are many targets.
    """
    source_labels, target_labels = layers.source_labels, layers.target_labels
    fires, values, energy = firing(layers.sources), as_array(layers.targets), layers.energy()
    energy = energy / energy.sum(1, keepdims=True).clip(min=1e-300)  # of what a target reads; 0 where it reads nothing
    shapes = [name for name in dict.fromkeys(source_labels) if name and source_labels.count(name) >= FEWEST_MEMBERS]
    members = np.array([[label == shape for label in source_labels] for shape in shapes]).reshape(len(shapes), -1)
    rows = [(s, t) for s, shape in enumerate(shapes) for t, own in enumerate(target_labels) if own not in (None, shape)]
    if not rows:
        return Search("pure, then applied", (), 0, level)
    which = tuple(np.array(rows).T)

    def shares(order: np.ndarray) -> Float[np.ndarray, " candidate"]:
        return (members[:, order].astype(float) @ energy.T)[which]

    tests = against_shuffles(
        shares(np.arange(len(source_labels))),
        lambda rng: shares(rng.permutation(len(source_labels))),
        n=len(source_labels),
        shuffles=shuffles,
        seed=seed,
        pooled=False,
    )

    def measure(place: int) -> Measurement:
        s, t = rows[place]
        return _answers(values[:, t], fires[:, members[s]], layers.origins, seed)

    confirmations = confirmed(tests, measure, level=level, seed=seed)
    found = [
        PureThenApplied(shapes[s], t, str(target_labels[t]), test, one)
        for (s, t), test, one in zip(rows, tests, confirmations, strict=True)
    ]
    return Search("pure, then applied", with_q(found, corrected(tests, confirmations), level), len(found), level)


def _answers(
    values: Float[np.ndarray, " sample"],
    fires: Bool[np.ndarray, "sample member"],
    origins: Sequence[str] | None,
    seed: int,
) -> Measurement:
    some = np.asarray(fires.any(axis=1))
    return contrast(values, some, ~some, origins, shuffles=499, seed=seed)


@dataclass(frozen=True)
class Superposition:
    """The pure unit ``source``, labelled ``label``, is spread over ``targets`` that are labelled otherwise.

    ``own_share`` is the part of its outgoing excitatory energy that goes to targets of its own label. ``weights`` is
    the number of otherwise labelled targets among whose three strongest excitatory sources it is; null: each target's
    drives exchanged among its sources (binomial). ``confirmation``: mean over ``targets`` of the measured activation
    where this source fires and no source of the target's own label does, minus where neither does.
    """

    source: int
    label: str
    targets: tuple[int, ...]
    own_share: float
    weights: Measurement
    confirmation: Measurement
    q: float = math.nan


def superpositions(
    layers: LabelledLayers,
    *,
    level: float = 0.05,
    seed: int = 0,
) -> Search[Superposition]:
    """Labelled (pure) sources that are among the strongest of more units of other labels than chance would have it.

    A finding sends at most half of its excitatory energy to units of its own label and reaches at least two others.
    """
    source_labels, target_labels = layers.source_labels, layers.target_labels
    weights = drives(layers.kernel)
    foreign = np.array([[bool(s and t and s != t) for s in source_labels] for t in target_labels])
    reads = _strongest(weights) & foreign
    pure = [source for source, label in enumerate(source_labels) if label]
    tests = [_more_often_than_chance(reads[:, source], foreign[:, source], weights.shape[1]) for source in pure]
    fires, values = firing(layers.sources), as_array(layers.targets)
    reached = [[int(target) for target in np.flatnonzero(reads[:, source])] for source in pure]

    def measure(place: int) -> Measurement:
        return _unexplained(pure[place], reached[place], layers, fires, values, seed)

    confirmations = confirmed(tests, measure, level=level, seed=seed)
    own = _own_shares(layers)
    found = [
        Superposition(source, str(source_labels[source]), tuple(there), float(own[source]), test, one)
        for source, there, test, one in zip(pure, reached, tests, confirmations, strict=True)
    ]
    fits = np.array([each.own_share <= MOST_OWN and len(each.targets) >= 2 for each in found], dtype=bool)
    q = np.where(fits, corrected(tests, confirmations), 1.0)
    return Search("superposition", with_q(found, q, level), len(found), level)


def _more_often_than_chance(
    reads: Bool[np.ndarray, " target"], foreign: Bool[np.ndarray, " target"], sources: int
) -> Measurement:
    """How many foreign targets read a source; binomial p, every source being as likely as any other."""
    count, trials, chance = int(reads.sum()), int(foreign.sum()), min(1.0, _STRONGEST / sources)
    spread = math.sqrt(trials * chance * (1 - chance))
    p = float(stats.binom.sf(count - 1, trials, chance))
    return Measurement(float(count), null_mean=trials * chance, null_std=spread, p=p, n=trials)


def _strongest(weights: Float[np.ndarray, "target source"]) -> Bool[np.ndarray, "target source"]:
    """Which sources are among the three strongest excitatory ones of each target."""
    kept = np.zeros(weights.shape, dtype=bool)
    order = np.argsort(-weights, axis=1)[:, :_STRONGEST]
    np.put_along_axis(kept, order, True, axis=1)
    return kept & (weights > 0)


def _own_shares(layers: LabelledLayers) -> Float[np.ndarray, " source"]:
    energy = layers.energy()
    same = np.array([[bool(s) and s == t for s in layers.source_labels] for t in layers.target_labels])
    return (energy * same).sum(0) / energy.sum(0).clip(min=1e-300)


def _unexplained(
    source: int,
    reached: Sequence[int],
    layers: LabelledLayers,
    fires: Bool[np.ndarray, "sample source"],
    values: Float[np.ndarray, "sample target"],
    seed: int,
) -> Measurement:
    """The mean standardized target where only the source fires minus where it and the target's own label are silent."""
    if not reached:
        return Measurement(math.nan, seed=seed)
    own = np.zeros(len(values), dtype=bool)
    for target in reached:
        members = [s for s, label in enumerate(layers.source_labels) if label == layers.target_labels[target]]
        own |= fires[:, members].any(1)
    spread = values[:, reached].std(0)
    mean = (values[:, reached] / np.where(spread > 0, spread, 1)).mean(1)
    alone = fires[:, source] & ~own
    return contrast(mean, alone, ~fires[:, source] & ~own, layers.origins, shuffles=499, seed=seed)
