"""ACDC: go through the edges from the output backwards and remove each one whose removal does little (Conmy 2023).

1. Targets in reverse topological order; of each target, its sources in reverse order.
2. Remove the edge. If the divergence from the network's output rises by less than tau, it stays removed.

Departures: several candidates are tried in one pass, copy i with the first i of them removed, which is what the plain
loop would run if it removed them all; from the first that must stay on, the rest is tried again, so that the decisions
are those of the plain loop. On graphs with more than ``CANDIDATES`` edges, those with the smallest EAP-IG estimates are
removed at the start, and the result says so.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.circuits.discovery.methods import METHODS, Options
from cutaway.circuits.discovery.metrics import divergence
from cutaway.circuits.discovery.ranking import Ranking, importance_of, ordered
from cutaway.circuits.discovery.setup import Setup
from cutaway.circuits.edges.attribution import Cost, attribute

CANDIDATES = 2000
WIDEST = 32  # candidates tried at once


@METHODS.register("acdc")
def acdc(setup: Setup, options: Options) -> Ranking:
    """The circuit that is left, and for every edge the rise of the divergence at which it was decided upon."""
    graph = setup.wired.graph
    start, cost, notes = _start(setup, options)
    loss = _Loss(setup)
    search = _Removal(setup, loss, start, options.tau)
    search.run(_reverse_order(setup, start), options)
    unit = f"rise of the {loss.name} when the edge was removed"
    return Ranking(
        graph, "acdc", search.rises, search.rises.clamp(min=0) * graph.possible, start.clone(),
        cost + Cost(search.passes + 1), chosen=search.kept, unit=unit, notes=notes,
    )  # fmt: skip


def _start(setup: Setup, options: Options) -> tuple[Tensor, Cost, tuple[str, ...]]:
    """The edges that are candidates, and what it cost to know."""
    graph = setup.wired.graph
    if graph.count <= CANDIDATES:
        return graph.possible.clone(), Cost(), ()
    scores = attribute(setup.wired, setup.pairs, setup.metric, steps=options.steps, reference=setup.reference)
    kept = torch.zeros_like(graph.possible)
    order = ordered(importance_of(setup, scores.per_pair.cpu()), graph)[:CANDIDATES]
    kept.view(-1)[torch.from_numpy(order.copy())] = True
    note = f"{graph.count - CANDIDATES} edges with the smallest EAP-IG estimates were removed at the start, untested"
    return kept, scores.cost, (note,)


def _reverse_order(setup: Setup, start: Tensor) -> list[tuple[int, int]]:
    rows, columns = start.shape
    return [(s, t) for t in range(columns - 1, -1, -1) for s in range(rows - 1, -1, -1) if start[s, t]]


class _Loss:
    """How far outputs are from the network's: KL where there are several outputs, else the metric's distance."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.clean = setup.outputs(setup.wired.graph.possible[None])[0]
        self.name = "KL divergence" if self.clean.shape[-1] > 1 else "distance of the metric"

    def of(self, keeps: Tensor) -> Tensor:
        """One number for each circuit."""
        outputs = self.setup.outputs(keeps)
        if self.clean.shape[-1] > 1:
            return divergence(outputs, self.clean, self.setup.pairs)
        apart = (self.setup.read(outputs) - self.setup.network).abs().mean(1)
        return apart / abs(self.setup.gap)


class _Removal:
    """The circuit as it shrinks."""

    def __init__(self, setup: Setup, loss: _Loss, start: Tensor, tau: float) -> None:
        self.loss, self.kept, self.tau = loss, start.clone(), tau
        self.rises = torch.zeros(start.shape)
        self.value = float(loss.of(self.kept[None])[0])
        self.passes = 0
        self.widest = min(WIDEST, setup.copies())

    def run(self, places: list[tuple[int, int]], options: Options) -> None:
        """Decides about every edge."""
        at, width = 0, 1
        while at < len(places):
            decided, refused = self._try(places[at : at + width])
            at += decided
            width = max(1, width // 2) if refused else min(2 * width, self.widest)
            if options.progress is not None:
                options.progress(at, len(places))

    def _try(self, places: list[tuple[int, int]]) -> tuple[int, bool]:
        """Removes the longest beginning of ``places`` that the plain loop would; how many are decided."""
        trial, keeps = self.kept.clone(), []
        for place in places:
            trial[place] = False
            keeps.append(trial.clone())
        self.passes += len(keeps)
        for number, (place, value) in enumerate(zip(places, self.loss.of(torch.stack(keeps)).tolist())):
            rise = value - self.value
            self.rises[place] = rise
            if rise >= self.tau:
                return number + 1, True
            self.kept[place] = False
            self.value = value
        return len(places), False
