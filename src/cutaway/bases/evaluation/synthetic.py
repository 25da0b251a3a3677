"""Activations made of known features, and how many of these a dictionary finds.

    independent     each feature is on by itself, with its own frequency
    correlated      features of a group share a Gaussian factor: on together more often than chance would have it
    hierarchical    a child is on only where its parent is (what absorption feeds on: Chanin et al. 2024)

Frequencies are equal, or fall as a power of the rank. Directions are random unit vectors; sizes are 1 + |noise|.
A recipe after SynthSAEBench, small enough for a processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm
from torch import Tensor

from cutaway.bases.basis import Basis
from cutaway.bases.linear import random_directions
from cutaway.errors import BadInput
from cutaway.evidence.metrics import mcc

KINDS = ("independent", "correlated", "hierarchical")
GROUP = 4  # features that share a factor, or a parent and its children
SHARED = 0.6  # correlation of the Gaussian factors within a group
CHILD = 0.5  # chance of a child where its parent is on
NULLS = 5


@dataclass(frozen=True, eq=False)
class Sampled:
    """Rows of activations and the true size of each feature in them (0 where it is off)."""

    acts: Float[Tensor, "row d"]
    codes: Float[Tensor, "row feature"]


@dataclass(frozen=True, eq=False)
class Truth:
    """Known features: unit directions, how often each is on, and how they hang together."""

    directions: Float[Tensor, "feature d"]
    frequency: Float[np.ndarray, " feature"]
    kind: str
    noise: float = 0.0

    def sample(self, rows: int, *, seed: int = 0) -> Sampled:
        """So many rows; the same for the same seed."""
        rng = np.random.default_rng([seed, 3])
        on = _switches(self, rows, rng)
        sizes = np.where(on, 1 + np.abs(rng.standard_normal(on.shape)) * 0.25, 0.0)
        codes = torch.from_numpy(sizes).float()
        acts = codes @ self.directions
        if self.noise:
            acts = acts + self.noise * torch.from_numpy(rng.standard_normal(tuple(acts.shape))).float()
        return Sampled(acts, codes)


def synthetic_features(
    features: int, d: int, *, kind: str = "independent", active: float = 0.05, power: float = 0.0, noise: float = 0.0,
    seed: int = 0,
) -> Truth:  # fmt: skip
    """``features`` random unit directions in ``d`` dimensions, on in a share ``active`` of rows on average.

    ``power`` > 0: frequencies fall as rank^-power (mean still ``active``, at most 0.5). ``noise``: deviation of what
    is added to each unit. Hierarchical: one parent in each group of :data:`GROUP`, its children half as often.
    """
    if kind not in KINDS or features < 2 or d < 2 or not 0 < active < 0.5:
        raise BadInput(
            f"{features} {kind} features in {d} dimensions, {active:g} active, were asked for; choose "
            f"{', '.join(KINDS)}, two or more of each, and a share below 0.5."
        )
    directions = random_directions(d, features, seed=seed).directions()
    ranks = np.arange(1, features + 1, dtype=np.float64) ** -power
    frequency = np.minimum(ranks / ranks.mean() * active, 0.5)
    return Truth(directions, frequency, kind, noise)


def _switches(truth: Truth, rows: int, rng: np.random.Generator) -> Bool[np.ndarray, "row feature"]:
    count = len(truth.frequency)
    group = np.arange(count) // GROUP
    noise = rng.standard_normal((rows, count))
    if truth.kind == "correlated":
        shared = rng.standard_normal((rows, group[-1] + 1))
        noise = np.sqrt(1 - SHARED) * noise + np.sqrt(SHARED) * shared[:, group]
    on = noise < norm.ppf(truth.frequency)
    if truth.kind == "hierarchical":
        parent = group * GROUP
        child = np.arange(count) != parent
        on[:, child] = on[:, parent[child]] & (rng.random((rows, int(child.sum()))) < CHILD)
    return on


@dataclass(frozen=True)
class Recovery:
    """How well a basis finds the true features.

    ``mcc``: mean |cosine| of matched directions, features without a partner counting 0; ``f1``: mean over features of
    the F1 with which the matched latent is active exactly where the feature is. ``random_*``: the same of as many
    random directions, with as many active latents a row.
    """

    mcc: float
    f1: float
    random_mcc: float
    random_f1: float
    l0: float
    features: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return vars(self).copy()


def recovery(basis: Basis, truth: Truth, given: Sampled, *, seed: int = 0) -> Recovery:
    """Recovery of ``truth`` on rows that the basis was not trained on."""
    with torch.no_grad():
        codes = basis.encode(given.acts)
    active = (codes != 0).cpu().numpy()
    l0 = float(active.sum(1).mean())
    nulls = [_random(basis, truth, given, l0, seed + draw) for draw in range(NULLS)]
    found, f1 = _scores(_rows(basis), active, truth, given)
    chance = [float(np.mean(column)) for column in zip(*nulls)]
    return Recovery(found, f1, chance[0], chance[1], l0, len(truth.directions))


def _random(basis: Basis, truth: Truth, given: Sampled, l0: float, seed: int) -> tuple[float, float]:
    drawn = random_directions(given.acts.shape[1], basis.width, seed=1_000 + seed).keeping(max(1, round(l0)))
    return _scores(_rows(drawn), (drawn.encode(given.acts) > 0).numpy(), truth, given)


def _scores(
    rows: Float[np.ndarray, "latent d"], active: Bool[np.ndarray, "row latent"], truth: Truth, given: Sampled
) -> tuple[float, float]:
    wanted = truth.directions.double().numpy()
    cosines = _unit(rows) @ wanted.T
    latents, features = linear_sum_assignment(np.abs(cosines), maximize=True)
    on = (given.codes > 0).numpy()[:, features]
    said = active[:, latents]
    hits, total = (on & said).sum(0), on.sum(0) + said.sum(0)
    f1 = np.divide(2 * hits, total, out=np.zeros(len(hits)), where=total > 0)
    return mcc(rows, wanted, missing_as_zero=True), float(f1.sum() / len(wanted))


def _unit(rows: Float[np.ndarray, "latent d"]) -> Float[np.ndarray, "latent d"]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def _rows(basis: Basis) -> Float[np.ndarray, "latent d"]:
    return basis.directions().detach().double().cpu().numpy()
