"""The way from a picture to a tested graph, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from cutaway.bases import Basis
from cutaway.circuits.maps.causal import can_cut, cut_edges, set_to_zero
from cutaway.circuits.maps.codes import openings
from cutaway.circuits.maps.links import Links, link, sweep
from cutaway.circuits.maps.nodes import BIAS, ERROR, ERRORS, INPUT, LEAVES, OUTPUT, PARTS, UNIT, UNITS, MapNode
from cutaway.circuits.maps.opened import Opened, open_up
from cutaway.circuits.maps.result import MapTested, MapTrace
from cutaway.circuits.maps.target import MapTarget, map_target
from cutaway.circuits.tracing.checks import agreement
from cutaway.circuits.tracing.graph import Check, Edge, Effect
from cutaway.circuits.tracing.influence import Kept, Scores, graph_scores
from cutaway.circuits.tracing.make import Budget, kept_of
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.network import Batch, Network

CELL = 16  # input pixels
POOL = 60  # units and errors in cells that are nodes alone; each costs a backward pass
SITES = 4  # opened where none are named
SMOOTH = (nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.SELU, nn.Softplus, nn.Mish, nn.Hardswish, nn.Softmax)
Progress = Callable[[int, int, str], None]
MAPS_BUDGET = Budget(pool=POOL)


def trace_maps(
    network: Network,
    stimulus: Any,
    target: str | int,
    against: str | int | None = None,
    *,
    sites: Sequence[str] = (),
    bases: Sequence[Basis] = (),
    cell: int = CELL,
    budget: Budget = MAPS_BUDGET,
    test: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> MapTrace:
    """Why ``target`` is what it is on one picture: units in cells at opened sites, every kept edge checked.

    ``stimulus`` is a picture as :meth:`Network.prepare` takes it; ``target`` an output (number or label, less
    ``against`` or the mean of all), or a pixel: ``edges@40,52``, ``conv4_2:7@5,9``. ``sites`` are opened in channels,
    sites of ``bases`` in their features with errors as leaves; without either, four spread over the way to the target.
    ``cell``: the side, in input pixels, of the squares in which a unit counts as one node (1: pixels). Parts are held
    against zero. Raises ``BadInput`` and ``NotTestable`` with a sentence.
    """
    if cell < 1:
        raise BadInput(f"Squares of {cell} pixels were asked for; give 1 or more.")
    question = map_target(network, target, against, bases=bases)
    batch = stimulus if isinstance(stimulus, Batch) else network.prepare(stimulus)
    chosen = openings(network, sites if sites or bases else _spread(network, question), bases)
    chosen.pop(question.site or "", None)  # the target's own site is where the graph ends
    opened = open_up(network, batch, question, list(chosen))
    coded = sweep(opened, chosen)
    links = link(opened, coded, cell=cell, pool=budget.pool, progress=_named(progress, "parts traced"))
    kept, scores = _pruned(links, budget)
    places = _ordered(kept)
    effects, tested = {}, None
    if test:
        cut = [place for place in places if can_cut(links.pool.nodes[place[1]])]
        effects = dict(zip(cut, cut_edges(opened, links, cut, progress=_named(progress, "edges cut"))))
        tested = _tested(opened, links, kept, places, effects, seed)
    return _result(network, batch, opened, links, kept, scores, places, effects, tested, cell, seed)


def _named(progress: Progress | None, words: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(done, total, words)


def _spread(network: Network, question: MapTarget) -> list[str]:
    """Sites behind nonlinearities, spread evenly over the way to the target."""
    last = len(network.site_list) if question.site is None else network.site(question.site).depth
    known = [site.name for site in network.site_list if site.spatial and site.kind == "conv" and site.depth < last]
    if not known:
        raise NotTestable(f"{network.name} has no feature map behind a nonlinearity before the target; name sites.")
    count = min(SITES, len(known))
    return list(dict.fromkeys(known[round((k + 1) * (len(known) - 1) / count)] for k in range(count)))


def _pruned(links: Links, budget: Budget) -> tuple[Kept, Scores]:
    nodes = links.pool.nodes

    def marked(*kinds: str) -> np.ndarray:
        return np.array([node.kind in kinds for node in nodes])

    start = marked(OUTPUT).astype(np.float64)
    kinds = {"tokens": marked(INPUT), "error": marked(ERROR, ERRORS), "attention": marked(), "rest": marked(UNITS)}
    kept = kept_of(links.values, start, budget, leaves=marked(*LEAVES), always=marked(INPUT, BIAS, OUTPUT))
    return kept, graph_scores(links.values, start, kinds)


def _ordered(kept: Kept) -> list[tuple[int, int]]:
    places = np.argwhere(kept.edges)
    order = np.argsort(-kept.scores[kept.edges], kind="stable")
    return [(int(target), int(source)) for target, source in places[order]]


def _tested(
    opened: Opened, links: Links, kept: Kept, places: Sequence[tuple[int, int]],
    effects: dict[tuple[int, int], float], seed: int,
) -> MapTested:  # fmt: skip
    both = np.array([(links.values[place], effect) for place, effect in effects.items()]).reshape(-1, 2)
    both = both[both[:, 0] != 0]
    nodes = links.pool.nodes
    own = [int(number) for number in np.flatnonzero(kept.nodes) if nodes[int(number)].kind in (UNIT, UNITS)]
    lost = set_to_zero(opened, links, own)
    singles = tuple(
        Effect(nodes[number].name, (nodes[number].name,), float(links.shares[number]), float(value))
        for number, value in zip(own, lost)
    )
    signs, rank = agreement(both[:, 0], both[:, 1], seed=seed)
    single = agreement(links.shares[own], lost, seed=seed)
    return MapTested(len(both), len(places) - len(both), signs, rank, singles, *single)


def _result(
    network: Network, batch: Batch, opened: Opened, links: Links, kept: Kept, scores: Scores,
    places: Sequence[tuple[int, int]], effects: dict[tuple[int, int], float], tested: MapTested | None, cell: int,
    seed: int,
) -> MapTrace:  # fmt: skip
    nodes = links.pool.nodes

    def edge(place: tuple[int, int]) -> Edge:
        value, score = float(links.values[place]), float(kept.scores[place])
        check = Check(value, float(effects[place])) if place in effects else None
        return Edge(nodes[place[1]].name, nodes[place[0]].name, value, score, check)

    shown = tuple(_valued(links, int(number)) for number in np.flatnonzero(kept.nodes))
    smooth = any(isinstance(part, SMOOTH) for part in network.module.modules())
    notes = ("smooth nonlinearities are held at their tangents; what these leave out is in bias",) if smooth else ()
    return MapTrace(
        network.name, network.fingerprint, batch.ids[0], opened.question.name, opened.metric,
        tuple(coded.opening.name for coded in links.sites.values()), cell, shown, tuple(map(edge, places)), scores,
        kept.node_share, kept.direct_share, links.gap, len(nodes), seed, tested, (*network.notes, *notes),
    )  # fmt: skip


def _valued(links: Links, number: int) -> MapNode:
    """A node with its share; of inputs, errors and constants what flows out of them."""
    node = links.pool.nodes[number]
    known = node.kind in PARTS or node.kind == OUTPUT
    value = links.shares[number] if known else links.values[:, number].sum()
    return dataclasses.replace(node, value=float(value))
