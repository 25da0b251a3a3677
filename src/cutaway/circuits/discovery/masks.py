"""Learned masks: a gate on every edge (or source), trained to keep the metric with as few open gates as possible.

Gates are hard-concrete (Louizos et al. 2018, "Learning Sparse Neural Networks through L0 Regularization"):

    s = sigmoid((log u - log(1 - u) + a) / beta),  z = clip(s (zeta - gamma) + gamma, 0, 1),  u uniform
    P(z > 0) = sigmoid(a - beta log(-gamma / zeta))

loss = mean over pairs of |m(z) - m(N)| / |gap| + penalty * mean over edges of P(z > 0). A pass runs the network once
with fractional edges, forward and backward. A gate on a source closes all edges that leave it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cutaway.circuits.discovery.methods import METHODS, Options
from cutaway.circuits.discovery.ranking import Ranking
from cutaway.circuits.discovery.setup import Setup
from cutaway.circuits.edges.attribution import Cost
from cutaway.circuits.edges.runtime import run_edges
from cutaway.circuits.edges.wiring import frozen
from cutaway.errors import UnknownName

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
START, RATE = 2.0, 0.2  # gates begin nearly open; Adam's step


@METHODS.register("mask")
def mask(setup: Setup, options: Options) -> Ranking:
    """Scores are the chance that a gate is open; the method's own circuit are those that are open at the mean."""
    if options.grain not in ("edges", "nodes"):
        raise UnknownName("grain of masks", options.grain, ("edges", "nodes"))
    graph = setup.wired.graph
    rows, columns = graph.possible.shape
    gates = torch.full((rows, columns if options.grain == "edges" else 1), START, requires_grad=True)
    generator = torch.Generator().manual_seed(options.seed)
    optimizer = torch.optim.Adam([gates], lr=RATE)
    with frozen(setup.wired.network.module):
        for epoch in range(options.epochs):
            loss = _loss(setup, gates, generator, options.penalty)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if options.progress is not None:
                options.progress(epoch + 1, options.epochs)
    final = gates.detach().expand(rows, columns)
    chance = open_chance(final) * graph.possible
    chosen = (hard(final) > 0) & graph.possible
    # Saturated chances tie; the gates themselves break ties without changing the order.
    importance = (chance + 1e-3 * torch.sigmoid(final / 10)) * graph.possible
    return Ranking(
        graph, "mask", chance, importance, torch.zeros_like(graph.possible), Cost(options.epochs, options.epochs),
        chosen=chosen, unit="chance that the gate is open",
        notes=(f"{options.epochs} steps, penalty {options.penalty:g}, gates on {options.grain}",),
    )  # fmt: skip


def _loss(setup: Setup, gates: Tensor, generator: torch.Generator, penalty: float) -> Tensor:
    possible = setup.wired.graph.possible
    keep = _sample(gates, generator).expand(possible.shape) * possible
    outputs = run_edges(
        setup.wired, setup.pairs, keep, setup.reference, logits=setup.metric.logits, grad=True
    ).float()  # fmt: skip
    apart = (setup.metric.read(outputs, setup.pairs) - setup.network).abs().mean() / abs(setup.gap)
    return apart + penalty * open_chance(gates).expand(possible.shape)[possible].mean()


def _sample(gates: Tensor, generator: torch.Generator) -> Tensor:
    u = torch.rand(gates.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
    return _stretched(torch.sigmoid((u.log() - (1 - u).log() + gates) / BETA))


def hard(gates: Tensor) -> Tensor:
    """The gates without noise, 0 to 1."""
    return _stretched(torch.sigmoid(gates / BETA))


def open_chance(gates: Tensor) -> Tensor:
    """P(z > 0) of each gate."""
    return torch.sigmoid(gates - BETA * math.log(-GAMMA / ZETA))


def _stretched(share: Tensor) -> Tensor:
    return (share * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
