"""The door through which methods of circuit discovery enter, and those that score every edge by itself.

    exact      every edge patched: the measure of the others
    verified   the default: EAP-IG, checked by patching where it counts and where gradients may fail
    eap        Syed et al. 2023: one backward pass
    eap-ig     Hanna et al. 2024: gradients averaged along the inputs' path
    acdc       Conmy et al. 2023: edges removed one after the other (:mod:`.acdc`)
    mask       learned hard-concrete gates (:mod:`.masks`)

A method takes a :class:`Setup` and :class:`Options` and gives a :class:`Ranking`::

    @METHODS.register("mine")
    def mine(setup, options): ...

Another package's methods enter through the entry-point group ``cutaway.circuit_methods``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from cutaway.circuits.discovery.ranking import Ranking, importance_of
from cutaway.circuits.discovery.setup import Progress, Setup
from cutaway.circuits.edges.attribution import EdgeScores, attribute
from cutaway.circuits.edges.exact import cut_effects
from cutaway.circuits.edges.verified import verified
from cutaway.errors import BadInput
from cutaway.registry import Registry

DEFAULT = "verified"
MOST_EXACT = 20_000  # passes of exact patching that nobody asks for on purpose


def _silent(_text: str) -> None:
    return None


@dataclass(frozen=True)
class Options:
    """What methods may be told; each reads what concerns it.

    ``steps`` of EAP-IG; ``times``: passes of the default method as a multiple of EAP-IG's; ``tau``: the rise of the
    divergence at which ACDC keeps an edge; ``penalty`` and ``epochs`` of learned masks; ``grain`` of masks (edges,
    nodes).
    """

    steps: int = 5
    times: float | int = 6
    tau: float = 0.01
    penalty: float = 0.3
    epochs: int = 80
    grain: str = "edges"
    seed: int = 0
    say: Callable[[str], None] = _silent
    progress: Progress | None = None


class Method(Protocol):
    """A way to find the edges that matter."""

    def __call__(self, setup: Setup, options: Options) -> Ranking:
        """Scores every edge."""
        ...


METHODS: Registry[Method] = Registry("circuit method", "cutaway.circuit_methods")


def rank(setup: Setup, method: str = DEFAULT, options: Options | None = None) -> Ranking:
    """Every edge scored by the named method; raises ``UnknownName`` for another."""
    return METHODS[method](setup, options or Options())


@METHODS.register("exact")
def exact(setup: Setup, options: Options) -> Ranking:
    """Every edge patched by itself; as many passes as there are edges."""
    graph = setup.wired.graph
    if graph.count > MOST_EXACT:
        raise BadInput(
            f"Exact patching of {graph.count} edges was asked for, a pass each; choose the method {DEFAULT!r}, which "
            "patches those that count."
        )
    places = graph.possible.nonzero()
    cuts = []
    for row, column in places.tolist():
        cut = torch.zeros_like(graph.possible)
        cut[row, column] = True
        cuts.append(cut)
    effects = cut_effects(
        setup.wired, setup.pairs, cuts, setup.metric, reference=setup.reference, progress=options.progress
    )
    per_pair = torch.zeros(len(setup.pairs), *graph.possible.shape)
    moved = torch.zeros(graph.possible.shape)
    per_pair[:, places[:, 0], places[:, 1]] = effects.change.T.cpu()
    moved[places[:, 0], places[:, 1]] = effects.moved.mean(1).cpu()
    importance = importance_of(setup, per_pair, moved)
    return Ranking(graph, "exact", per_pair.mean(0), importance, graph.possible.clone(), effects.cost, per_pair)


@METHODS.register("verified")
def verified_method(setup: Setup, options: Options) -> Ranking:
    """Estimates, checked by patching."""
    found = verified(
        setup.wired, setup.pairs, setup.metric, steps=options.steps, times=options.times, reference=setup.reference,
        seed=options.seed, say=options.say,
    )  # fmt: skip
    per_pair = found.per_pair.cpu()
    importance = importance_of(setup, per_pair, found.moved.cpu())
    return Ranking(
        found.graph, "verified", per_pair.mean(0), importance, found.exact, found.cost, per_pair, notes=found.notes
    )


@METHODS.register("eap")
def eap(setup: Setup, options: Options) -> Ranking:
    """Attribution at the clean prompts."""
    return _estimate(setup, "eap", 1)


@METHODS.register("eap-ig")
def eap_ig(setup: Setup, options: Options) -> Ranking:
    """Attribution along the path from clean to corrupted embeddings."""
    return _estimate(setup, "eap-ig", options.steps)


def _estimate(setup: Setup, name: str, steps: int) -> Ranking:
    scores: EdgeScores = attribute(setup.wired, setup.pairs, setup.metric, steps=steps, reference=setup.reference)
    per_pair = scores.per_pair.cpu()
    nothing = torch.zeros_like(scores.graph.possible)
    return Ranking(
        scores.graph, name, per_pair.mean(0), importance_of(setup, per_pair), nothing, scores.cost, per_pair,
        notes=("estimates only: none was checked by patching",),
    )  # fmt: skip
