"""The way from a prompt to a tested graph, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from cutaway.bases import Basis
from cutaway.circuits.tracing.baselines import Baseline, of_nothing, of_prompt, of_text
from cutaway.circuits.tracing.causal import can_cut, cut_edges
from cutaway.circuits.tracing.checks import features_tested, sign_agreement, tested
from cutaway.circuits.tracing.flow import sweep
from cutaway.circuits.tracing.frozen import Body, Pass, record
from cutaway.circuits.tracing.graph import Check, Edge, FeaturesTested, Tested, Trace
from cutaway.circuits.tracing.influence import Kept, Matrix, Scores, Vector, attach, expand, graph_scores, prune
from cutaway.circuits.tracing.links import Links, link
from cutaway.circuits.tracing.nodes import (
    ATTENTION,
    BIAS,
    EMBED,
    FEATURE,
    FEATURES,
    HEAD,
    HEADS,
    LEAVES,
    NEURONS,
    OUTPUT,
    UNEXPLAINED,
    Node,
    pooled,
)
from cutaway.circuits.tracing.question import Question, ask, check_causal_lm
from cutaway.circuits.tracing.reasons import Asked, Move, explain
from cutaway.circuits.tracing.sets import run_kept
from cutaway.errors import BadInput, UnknownName
from cutaway.networks.network import Network

RULES = ("flow", "influence")
NODE_SHARE, EDGE_SHARE = 0.8, 0.98  # the published thresholds
FLOOR = 0.005
FEATURES_KEPT = 10
POOL = 500  # heads, and as many neurons and features, that are nodes of their own before pruning
BASELINES = ("text", "zero")
Progress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True)
class Budget:
    """What is kept: by which ``rule`` (``flow`` or ``influence``), and at most so many nodes, edges and explained
    moves.

    ``floor`` (flow): the least share of all that enters the output which an edge must carry. ``node_share`` and
    ``edge_share`` (influence): the published thresholds. ``pool``: heads, and as many neurons and features, that are
    nodes alone. ``features``: so many of the strongest features of bases are kept in any case, each by its largest way
    to the output and with its two largest inputs; room for them is taken from ``nodes`` and ``edges``.
    """

    rule: str = "flow"
    nodes: int = 40
    edges: int = 80
    moves: int = 10
    floor: float | int = FLOOR
    node_share: float | int = NODE_SHARE
    edge_share: float | int = EDGE_SHARE
    pool: int = POOL
    features: int = FEATURES_KEPT

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UnknownName("pruning rule", self.rule, RULES, f"There are {' and '.join(RULES)}.")
        if min(self.nodes, self.edges) < 1 or min(self.moves, self.pool, self.features) < 0:
            raise BadInput("A graph of no nodes or no edges was asked for; allow at least one of each.")
        if not (0 < self.node_share <= 1 and 0 < self.edge_share <= 1 and 0 <= self.floor < 1):
            raise BadInput("Shares of influence lie above 0 and at most at 1; give such shares.")


def trace(
    network: Network,
    prompt: str | Int[Tensor, "1 pos"],
    target: str | int | None = None,
    against: str | int | None = None,
    *,
    position: int = -1,
    budget: Budget = Budget(),
    baseline: str = "text",
    corrupt: str | Int[Tensor, "1 pos"] | None = None,
    bases: Sequence[Basis] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    factor: float | int | None = None,
    test: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Trace:
    """Why ``target`` and not ``against`` follows the prompt, as a graph of parts at positions, every kept edge checked.

    Without ``against`` the target's logit is held against the mean of all. Every part is held against a ``baseline``:
    ``text``, its mean over built-in text; ``zero``, nothing (edges are then whole contributions, slopes the gradient
    here, as in published attribution graphs); or its value on ``corrupt``, a prompt of the same length.

    ``bases`` (SAEs at ``attn_out``, ``mlp_out`` or ``resid`` of a layer, transcoders of an MLP) make active features
    nodes, and their errors leaves; layers without one keep heads and neurons. ``groups`` names sets of features (node
    names) that are set to ``factor`` times what they are (None: to their baseline). ``test=False`` cuts no edge. Raises
    ``BadInput`` for answers that are not one token and bases of another network, ``NotTestable`` for networks that
    cannot be taken apart.
    """
    check_causal_lm(network)
    body = Body.of(network, bases)
    question = ask(network, prompt, target, against, position=position)
    seen = record(body, question.batch, question.position)
    held = _baseline(body, question, seen, baseline, corrupt, seed)
    metric = float(question.read(seen.logits[None])[0])
    flow = sweep(body, seen, question, held)
    pool = pooled(body, seen, flow, heads=budget.pool, neurons=budget.pool, features=budget.pool)
    links = link(body, seen, flow, pool, held, position=question.position, metric=metric)
    kept, scores = pruned(links, budget)
    places = _edges_of(links, kept)
    numbers = [int(number) for number in np.flatnonzero(kept.nodes)]
    effects, of_graph, of_features = None, None, None
    if test:
        cut = [place for place in places if can_cut(pool.nodes[place[1]])]
        effects = dict(zip(cut, cut_edges(body, seen, question, links, cut, progress=_named(progress))))
        whole = run_kept(body, seen, question, pool, held.written, numbers, seed=seed)
        of_graph = tested(links, places, effects, whole, seed)
    if body.places and (test or groups):
        of_features = features_tested(
            body, seen, question, links, places if test else (), numbers if test else (), groups=groups or {},
            factor=factor, seed=seed,
        )  # fmt: skip
    asked = _asked(links, kept, budget.moves, causal=body.wired.parts.causal)
    moves, notes = explain(body, seen, question.batch, asked, links=links if bases else None)
    found = _Found(links, kept, scores, places, effects, of_graph, of_features, moves, notes)
    return _trace(network, prompt, question, metric, held, found, seed)


def _named(progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(done, total, "edges cut")


def _baseline(
    body: Body, question: Question, seen: Pass, how: str, corrupt: str | Tensor | None, seed: int
) -> Baseline:
    if how not in BASELINES:
        raise UnknownName("baseline", how, BASELINES, f"There are {' and '.join(BASELINES)}.")
    if corrupt is not None:
        return of_prompt(body, question, corrupt)
    return of_nothing(seen) if how == "zero" else of_text(body, question, seed=seed)


# -- pruning -------------------------------------------------------------------------------------------------------


def pruned(links: Links, budget: Budget) -> tuple[Kept, Scores]:
    """What is kept of all edges, and the scores of the whole graph."""
    nodes = links.pool.nodes

    def marked(*kinds: str) -> np.ndarray:
        return np.array([node.kind in kinds for node in nodes])

    start = marked(OUTPUT).astype(np.float64)
    values = links.values.astype(np.float64)
    errors = [kind for kind in UNEXPLAINED if kind != ATTENTION]
    kinds = {"tokens": marked(EMBED), "error": marked(*errors), "attention": marked(ATTENTION)}
    scores = graph_scores(values, start, {**kinds, "rest": marked(HEADS, NEURONS, FEATURES)})
    always = marked(EMBED, BIAS, OUTPUT)
    of_bases = [number for number, node in enumerate(nodes) if node.kind == FEATURE]
    wanted = sorted(of_bases, key=lambda number: -abs(links.shares[number]))[: budget.features]
    kept = kept_of(values, start, _less(budget, len(wanted)), leaves=marked(*LEAVES), always=always)
    return attach(kept, values, start, wanted, always=always), scores


def _less(budget: Budget, features: int) -> Budget:
    """What is left for other nodes and edges when features are kept in any case."""
    if not features:
        return budget
    return dataclasses.replace(
        budget, nodes=max(1, budget.nodes - features), edges=max(1, budget.edges - 3 * features)
    )  # fmt: skip


def kept_of(
    values: Matrix, start: Vector, budget: Budget, *, leaves: Bool[np.ndarray, " node"],
    always: Bool[np.ndarray, " node"],
) -> Kept:  # fmt: skip
    """What a budget keeps of a whole graph; ``start`` marks the output, ``always`` what does not count against it."""
    most = {"most_nodes": budget.nodes, "most_edges": budget.edges}
    if budget.rule == "flow":
        return expand(values, start, always=always, floor=float(budget.floor), **most)
    shares = {"node_share": float(budget.node_share), "edge_share": float(budget.edge_share)}
    return prune(values, start, leaves=leaves, always=always, **shares, **most)


def _edges_of(links: Links, kept: Kept) -> list[tuple[int, int]]:
    """(target, source) of kept edges, the largest score first."""
    places = np.argwhere(kept.edges)
    order = np.argsort(-kept.scores[kept.edges], kind="stable")
    return [(int(target), int(source)) for target, source in places[order]]


def _asked(links: Links, kept: Kept, most: int, *, causal: bool) -> list[Asked]:
    """Moves of kept heads along kept edges, from where most flows, that had a choice of keys."""
    nodes, sums = links.pool.nodes, {}
    for target, source in np.argwhere(kept.edges):
        node, other = nodes[target], nodes[source]
        if node.kind == HEAD and other.position is not None:
            sums[int(target), other.position] = True
    moves = [_move(nodes[target], links, target, place) for target, place in sums]
    moves = [move for move in moves if move.query > 0 or not causal]
    return sorted(moves, key=lambda move: -abs(move.value))[:most]


def _move(node: Node, links: Links, target: int, place: int) -> Asked:
    """Everything that the head moves from one position counts, not the kept edges alone."""
    here = [number for number, each in enumerate(links.pool.nodes) if each.position == place]
    assert node.layer is not None and node.index is not None and node.position is not None
    return Asked(node.layer, node.index, node.position, place, float(links.values[target, here].sum()))


# -- the result ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Found:
    """Everything that was found on the way."""

    links: Links
    kept: Kept
    scores: Scores
    places: Sequence[tuple[int, int]]
    effects: dict[tuple[int, int], float] | None
    tested: Tested | None
    features: FeaturesTested | None
    moves: tuple[Move, ...]
    notes: tuple[str, ...]

    def edge(self, place: tuple[int, int]) -> Edge:
        """One kept edge."""
        nodes, value = self.links.pool.nodes, float(self.links.values[place])
        known = self.effects is not None and place in self.effects
        check = Check(value, float(self.effects[place])) if known and self.effects is not None else None
        return Edge(nodes[place[1]].name, nodes[place[0]].name, value, float(self.kept.scores[place]), check)


def _trace(
    network: Network, prompt: str | Tensor, question: Question, metric: float, held: Baseline, found: _Found, seed: int
) -> Trace:
    shown = tuple(_valued(found.links, int(number)) for number in np.flatnonzero(found.kept.nodes))
    return Trace(
        network.name, network.fingerprint, prompt if isinstance(prompt, str) else "", question.tokens,
        *question.names, question.position, metric, held.words, shown, tuple(map(found.edge, found.places)),
        found.moves, found.scores, found.kept.node_share, found.kept.direct_share, found.links.gap,
        len(found.links.pool.nodes), seed, found.tested, (*network.notes, *found.notes),
        tuple(found.links.pool.through), found.features,
    )  # fmt: skip


def _valued(links: Links, number: int) -> Node:
    """A node with its share; of tokens, errors and biases it is what flows out of them."""
    node = links.pool.nodes[number]
    value = float(links.shares[number]) if node.kind not in LEAVES else float(links.values[:, number].sum())
    return dataclasses.replace(node, value=value)


__all__ = ["Budget", "pruned", "sign_agreement", "trace"]
