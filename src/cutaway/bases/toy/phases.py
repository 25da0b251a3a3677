"""When is a feature worth a place? The phase diagram of two features in one unit (Elhage et al. 2022).

The first feature has importance 1, the second any. The network can ignore the second (W = [1, 0]), give it the unit
(W = [0, 1]), or put both on it with opposite signs (W = [1, -1]): superposition. With f a rectifier, means as biases of
what is ignored and none where both are read, the losses follow by integration over inputs uniform in [0, 1]:

    ignored     I (p / 3 - p^2 / 4)           what the mean leaves of the second feature
    dedicated       p / 3 - p^2 / 4           what it leaves of the first
    both        (1 + I) p^2 / 6               both active: the smaller one is missed twice, E min(x, y)^2 = 1 / 6
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.bases.toy.geometry import represented
from cutaway.bases.toy.inputs import Settings
from cutaway.bases.toy.training import Toys, train

PHASES = ("not represented", "dedicated", "superposition")


def theory_losses(
    activity: Float[Tensor, "*cells"], importance: Float[Tensor, "*cells"]
) -> Float[Tensor, "*cells phase"]:
    """The losses of the three ways, in the order of :data:`PHASES`."""
    left = activity / 3 - activity.square() / 4
    both = (1 + importance) * activity.square() / 6
    return torch.stack([importance * left, left, both], -1)


def theory_border(importance: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """The activity below which both features are kept: 4 c / (2 (1 + I) + 3 c) with c = min(I, 1)."""
    least = np.minimum(importance, 1.0)
    return 4 * least / (2 * (1 + importance) + 3 * least)


@dataclass(frozen=True, eq=False)
class Diagram:
    """What became of the second feature, by its importance (rows) and the features' activity (columns).

    ``phase`` and ``theory`` index :data:`PHASES`; ``phase`` is that of the seed of least loss, ``phases`` [row column
    seed] that of every seed; ``toys`` holds the networks in row-major order.
    """

    importance: Float[Tensor, " row"]
    activity: Float[Tensor, " column"]
    phase: Int[Tensor, "row column"]
    phases: Int[Tensor, "row column seed"]
    theory: Int[Tensor, "row column"]
    toys: Toys

    @property
    def agreement(self) -> float:
        """Share of cells in which the best seed does what the theory says is cheapest."""
        return float((self.phase == self.theory).double().mean())


def phase_diagram(
    importance: Float[Tensor, " row"],
    activity: Float[Tensor, " column"],
    *,
    seeds: int = 5,
    steps: int = 800,
    batch: int = 128,
    lr: float = 2e-2,
    seed: int = 0,
) -> Diagram:
    """Trains two features in one unit for every pair of importance and activity; raises what :func:`train` raises."""
    rows, columns = torch.meshgrid(importance, activity, indexing="ij")
    weights = torch.stack([torch.ones(rows.numel()), rows.flatten()], -1)
    asked = Settings(columns.flatten(), weights, hidden=1)
    toys = train(asked, seeds=seeds, steps=steps, batch=batch, lr=lr, seed=seed)
    every = phase_of(toys.weights).view(*rows.shape, seeds)
    best = every.gather(-1, toys.best.view(*rows.shape, 1))[..., 0]
    return Diagram(importance, activity, best, every, theory_losses(columns, rows).argmin(-1), toys)


def phase_of(weights: Float[Tensor, "*nets 1 2"]) -> Int[Tensor, "*nets"]:
    """What became of the second feature, as an index into :data:`PHASES`."""
    kept = represented(weights)
    return torch.where(kept[..., 1], torch.where(kept[..., 0], 2, 1), 0)
