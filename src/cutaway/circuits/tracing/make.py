"""The way from a prompt to a tested graph, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.circuits.tracing.baselines import Baseline, of_nothing, of_prompt, of_text
from cutaway.circuits.tracing.causal import Whole, can_cut, cut_edges, run_kept
from cutaway.circuits.tracing.flow import sweep
from cutaway.circuits.tracing.frozen import Body, Pass, record
from cutaway.circuits.tracing.graph import Check, Edge, Tested, Trace
from cutaway.circuits.tracing.influence import Kept, Scores, expand, graph_scores, prune
from cutaway.circuits.tracing.links import Links, link
from cutaway.circuits.tracing.nodes import (
    ATTENTION,
    BIAS,
    EMBED,
    ERROR,
    HEAD,
    HEADS,
    LEAVES,
    NEURONS,
    OUTPUT,
    Node,
    pooled,
)
from cutaway.circuits.tracing.question import Question, ask, check_causal_lm
from cutaway.circuits.tracing.reasons import Asked, Move, explain
from cutaway.errors import BadInput, UnknownName
from cutaway.evidence import Measurement, measure_against_null, measure_spearman, proportion_interval
from cutaway.networks.network import Network

RULES = ("flow", "influence")
NODE_SHARE, EDGE_SHARE = 0.8, 0.98  # the published thresholds
FLOOR = 0.005
POOL = 500  # heads, and as many neurons, that are nodes of their own before pruning
SHUFFLES = 2000
BASELINES = ("text", "zero")
Progress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True)
class Budget:
    """What is kept: by which ``rule`` (``flow`` or ``influence``), and at most so many nodes, edges and explained
    moves.

    ``floor`` (flow): the least share of all that enters the output which an edge must carry. ``node_share`` and
    ``edge_share`` (influence): the published thresholds. ``pool``: heads, and as many neurons, that are nodes alone.
    """

    rule: str = "flow"
    nodes: int = 40
    edges: int = 80
    moves: int = 10
    floor: float | int = FLOOR
    node_share: float | int = NODE_SHARE
    edge_share: float | int = EDGE_SHARE
    pool: int = POOL

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UnknownName("pruning rule", self.rule, RULES, f"There are {' and '.join(RULES)}.")
        if min(self.nodes, self.edges) < 1 or self.moves < 0 or self.pool < 0:
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
    test: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Trace:
    """Why ``target`` and not ``against`` follows the prompt, as a graph of parts at positions, every kept edge checked.

    Without ``against`` the target's logit is held against the mean of all. Every part is held against a ``baseline``:
    ``text``, its mean over built-in text; ``zero``, nothing (edges are then whole contributions, slopes the gradient
    here, as in published attribution graphs); or its value on ``corrupt``, a prompt of the same length. ``test=False``
    cuts no edge. Raises ``BadInput`` for answers that are not one token, ``NotTestable`` for networks that cannot be
    taken apart.
    """
    check_causal_lm(network)
    body = Body.of(network)
    question = ask(network, prompt, target, against, position=position)
    seen = record(body, question.batch, question.position)
    held = _baseline(body, question, seen, baseline, corrupt, seed)
    metric = float(question.read(seen.logits[None])[0])
    flow = sweep(body, seen, question, held)
    pool = pooled(body, seen, flow, heads=budget.pool, neurons=budget.pool)
    links = link(body, seen, flow, pool, held, position=question.position, metric=metric)
    kept, scores = pruned(links, budget)
    places = _edges_of(links, kept)
    effects, tested = None, None
    if test:
        cut = [place for place in places if can_cut(pool.nodes[place[1]])]
        effects = dict(zip(cut, cut_edges(body, seen, question, pool, held.written, cut, progress=_named(progress))))
        numbers = [int(number) for number in np.flatnonzero(kept.nodes)]
        whole = run_kept(body, seen, question, pool, held.written, numbers, seed=seed)
        tested = _tested(links, places, effects, whole, seed)
    asked = _asked(links, kept, budget.moves, causal=body.wired.parts.causal)
    moves, notes = explain(body, seen, question.batch, asked)
    found = _Found(links, kept, scores, places, effects, tested, moves, notes)
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
    kinds = {"tokens": marked(EMBED), "error": marked(ERROR), "attention": marked(ATTENTION)}
    scores = graph_scores(values, start, {**kinds, "rest": marked(HEADS, NEURONS)})
    always = marked(EMBED, BIAS, OUTPUT)
    if budget.rule == "flow":
        most = {"most_nodes": budget.nodes, "most_edges": budget.edges}
        return expand(values, start, always=always, floor=float(budget.floor), **most), scores
    kept = prune(
        values, start, leaves=marked(*LEAVES), always=always, node_share=float(budget.node_share),
        edge_share=float(budget.edge_share), most_nodes=budget.nodes, most_edges=budget.edges,
    )  # fmt: skip
    return kept, scores


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


# -- tests ---------------------------------------------------------------------------------------------------------


def _tested(
    links: Links, places: Sequence[tuple[int, int]], effects: dict[tuple[int, int], float], whole: Whole, seed: int
) -> Tested:
    pairs = [(float(links.values[place]), effect) for place, effect in effects.items()]
    moved = np.array([pair for pair in pairs if pair[0] != 0]).reshape(-1, 2)
    signs = sign_agreement(moved[:, 0], moved[:, 1], seed=seed) if len(moved) else None
    varied = len(moved) > 2 and all(len(set(column)) > 1 for column in moved.T)
    rank = measure_spearman(moved[:, 0], moved[:, 1], seed=seed) if varied else None
    alone = _against_random(whole.kept, whole, whole.random_kept, seed, lost=False)
    lost = _against_random(whole.without, whole, whole.random_without, seed, lost=True)
    left = len(places) - len(moved)
    return Tested(len(moved), left, signs, rank, alone, lost, whole.kept, whole.without, whole.empty)


def sign_agreement(
    predicted: Float[np.ndarray, " edge"], measured: Float[np.ndarray, " edge"], *, seed: int = 0
) -> Measurement:
    """Share of edges whose two numbers have the same sign, against predictions shuffled between edges; p is one-sided.

    The interval is that of a share of independent edges (Wilson). A graph whose effects are mostly positive agrees
    often by chance: the null says how often.
    """
    right = np.sign(predicted) == np.sign(measured)
    draws = np.random.default_rng(seed).permuted(np.tile(predicted, (SHUFFLES, 1)), axis=1)
    null = (np.sign(draws) == np.sign(measured)).mean(1)
    found = measure_against_null(float(right.mean()), null, n=len(right), alternative="greater", seed=seed)
    low, high = proportion_interval(int(right.sum()), len(right))
    return dataclasses.replace(found, low=float(low), high=float(high))


def _against_random(value: float, whole: Whole, draws: Sequence[float], seed: int, *, lost: bool) -> Measurement | None:
    """A run's place between the empty one (0) and the network (1), or what it lost of that way."""
    span = whole.network - whole.empty
    if abs(span) < 1e-6:
        return None
    shares = [(each - whole.empty) / span for each in (value, *draws)]
    shares = [1 - share for share in shares] if lost else shares
    return measure_against_null(shares[0], shares[1:], n=1, alternative="greater", seed=seed)


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
    )  # fmt: skip


def _valued(links: Links, number: int) -> Node:
    """A node with its share; of tokens, errors and biases it is what flows out of them."""
    node = links.pool.nodes[number]
    value = float(links.shares[number]) if node.kind not in LEAVES else float(links.values[:, number].sum())
    return dataclasses.replace(node, value=value)


__all__ = ["Budget", "pruned", "sign_agreement", "trace"]
