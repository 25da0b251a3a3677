"""Toy models of superposition (Elhage et al. 2022), many trained at once.

A network squeezes n features through m units and back: x' = f(W' W x + b), f a rectifier or nothing, and its loss is
the importance-weighted squared error. All settings and seeds are one batched product. Departures from the paper: inputs
that are all zero are not drawn but counted exactly (they are most of a sparse data set and teach the bias only), the
gradient is written out, and the learning rate falls to 0 along a cosine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.bases.toy.inputs import Settings, draw
from cutaway.errors import BadInput

TEST_ROWS = 16384
TEST_SEED = 987_654_321  # test rows are those of no training seed


@dataclass(frozen=True, eq=False)
class Toys:
    """Trained toy networks, and the weights that they began with.

    ``weights`` and ``untrained`` [setting seed hidden feature], ``bias`` [setting seed feature]; ``loss``
    [setting seed] is the mean weighted squared error over rows that training has not drawn, ``loss_of_means`` [setting]
    that of the features' means.
    """

    settings: Settings
    weights: Float[Tensor, "setting seed hidden feature"]
    bias: Float[Tensor, "setting seed feature"]
    loss: Float[Tensor, "setting seed"]
    untrained: Float[Tensor, "setting seed hidden feature"]
    seed: int = 0

    @property
    def best(self) -> Int[Tensor, " setting"]:
        """The seed of least loss, by setting."""
        return self.loss.argmin(1)

    @property
    def best_weights(self) -> Float[Tensor, "setting hidden feature"]:
        """Weights of the seeds of least loss."""
        return self.weights[torch.arange(len(self.best)), self.best]

    @property
    def loss_of_means(self) -> Float[Tensor, " setting"]:
        """What answering with each feature's mean costs: sum of importance times p / 3 - p^2 / 4."""
        p = self.settings.activity
        return self.settings.importance.sum(1) * (p / 3 - p.square() / 4)


@dataclass(frozen=True, eq=False)
class Gradient:
    """The batch's loss by network, and its derivatives."""

    loss: Float[Tensor, " net"]
    weights: Float[Tensor, "net hidden feature"]
    bias: Float[Tensor, "net feature"]


def train(
    asked: Settings,
    *,
    seeds: int = 5,
    steps: int = 2000,
    batch: int = 256,
    lr: float = 1e-2,
    weight_decay: float | int = 0.0,
    seed: int = 0,
) -> Toys:
    """Trains ``seeds`` networks of every setting by AdamW; the same arguments give the same weights.

    Raises ``BadInput`` if nothing is to be trained or if a loss is not finite at the end.
    """
    if min(seeds, steps, batch) < 1:
        raise BadInput(f"seeds={seeds}, steps={steps}, batch={batch}: each has to be at least 1.")
    nets = len(asked.activity) * seeds
    generator = torch.Generator().manual_seed(seed)
    scale = math.sqrt(2 / (asked.features + asked.hidden))
    start = torch.randn(seeds, asked.hidden, asked.features, generator=generator) * scale
    start = start.expand(len(asked.activity), *start.shape)
    weights, bias = start.reshape(nets, asked.hidden, -1).clone(), torch.zeros(nets, asked.features)
    optimizer = torch.optim.AdamW([weights, bias], lr=lr, weight_decay=float(weight_decay))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x = draw(asked, seeds=seeds, rows=batch, generator=generator).flatten(0, 1)
        found = gradient(asked, weights, bias, x)
        weights.grad, bias.grad = found.weights, found.bias
        optimizer.step()
        schedule.step()
    loss = _test_loss(asked, weights, bias, seeds=seeds, seed=seed)
    return Toys(asked, weights.view_as(start), bias.view(len(asked.activity), seeds, -1), loss, start.clone(), seed)


def gradient(
    asked: Settings,
    weights: Float[Tensor, "net hidden feature"],
    bias: Float[Tensor, "net feature"],
    x: Float[Tensor, "net row feature"],
) -> Gradient:
    """Loss and derivatives of networks (settings times seeds) at rows that are not all zero; zero rows are added."""
    each = len(weights) // len(asked.activity)
    importance = asked.importance.repeat_interleave(each, 0)
    some = asked.some_active.repeat_interleave(each)[:, None]
    rectify = asked.output == "relu"
    hidden = x @ weights.mT
    before = torch.baddbmm(bias[:, None], hidden, weights)
    error = (before.clamp(min=0) if rectify else before) - x
    silent = bias.clamp(min=0) if rectify else bias
    weighted = importance[:, None] * error
    loss = some[:, 0] * (weighted * error).sum((1, 2)) / x.shape[1]
    loss = loss + (1 - some[:, 0]) * (importance * silent.square()).sum(1)
    back = weighted * (2 * some / x.shape[1])[:, None]
    back = back * (before > 0) if rectify else back
    by_weights = hidden.mT @ back + (back @ weights.mT).mT @ x
    return Gradient(loss, by_weights, back.sum(1) + 2 * (1 - some) * importance * silent)


def _test_loss(asked: Settings, weights: Tensor, bias: Tensor, *, seeds: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(TEST_SEED + seed)
    total = torch.zeros(len(weights))
    rounds = 8
    for _ in range(rounds):  # in parts, so that large grids fit into memory
        x = draw(asked, seeds=1, rows=TEST_ROWS // rounds, generator=generator)
        x = x.expand(-1, seeds, -1, -1).flatten(0, 1)
        total += gradient(asked, weights, bias, x).loss / rounds
    if not bool(torch.isfinite(total).all()):
        raise BadInput("A toy network's loss is not finite; take a smaller learning rate.")
    return total.view(-1, seeds)
