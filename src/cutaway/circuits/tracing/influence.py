"""How much each node and edge matters, and what to keep, by one of two rules.

influence   as published (Ameisen et al. 2025, "Circuit Tracing"): A^ = |A| with each target's incoming edges summing to
            1, I = p sum over n >= 1 of A^^n (p is 1 at the output), edge score A^_ij (I_i + p_i). Kept are the nodes
            that carry .8 of all influence, then, computed anew among them, the edges that carry .98 of all edge scores.
flow        edges by size in logits, best first from the output on: always the largest edge into a node that is in the
            graph already. An edge that carries less than a share of all that enters the output is left out.

Influence makes paths look important that cancel in sum: a node whose large inputs cancel passes all of its weight on to
them. Flow does not, and its edges stand up better when they are cut (:mod:`cutaway.circuits.tracing.causal`).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

LEAST_INPUT = 0.01  # of the largest: what is smaller is no input worth showing

Matrix = Float[np.ndarray, "target source"]
Vector = Float[np.ndarray, " node"]


@dataclass(frozen=True)
class Scores:
    """How much of the network the graph explains, each 0 to 1.

    ``replacement``: influence of tokens over that of tokens and errors. ``completeness``: mean over nodes, by
    influence, of the share of their input that is not error. Errors are what neurons' slopes and held attention leave
    out. ``error``, ``attention`` and ``rest``: shares that these two and parts that are not nodes alone have of the
    influence of all nodes.
    """

    replacement: float
    completeness: float
    error: float
    attention: float
    rest: float


@dataclass(frozen=True, eq=False)
class Kept:
    """Marks of kept nodes and edges and the scores that edges were kept by.

    ``node_share``: of the influence of all nodes but tokens, biases and the output; ``direct_share``: of the sizes of
    all edges into the output.
    """

    nodes: Bool[np.ndarray, " node"]
    edges: Bool[np.ndarray, "target source"]
    scores: Matrix
    node_share: float
    direct_share: float


def normalised(values: Matrix) -> Matrix:
    """|A| with rows summing to 1; rows without an edge stay 0."""
    sizes = np.abs(values)
    totals = sizes.sum(1, keepdims=True)
    return np.divide(sizes, totals, out=np.zeros_like(sizes), where=totals > 0)


def influence(shares: Matrix, start: Vector) -> Vector:
    """p sum over n >= 1 of A^^n for nodes in topological order (sources before targets)."""
    found = np.zeros(len(shares))
    for target in range(len(shares) - 1, -1, -1):
        weight = found[target] + start[target]
        if weight:
            found += weight * shares[target]
    return found


def graph_scores(values: Matrix, start: Vector, kinds: Mapping[str, Bool[np.ndarray, " node"]]) -> Scores:
    """Replacement and completeness as published: I_tok / (I_tok + I_err), sum (1 - A^_err)(I + p) / sum (I + p).

    ``kinds`` marks ``tokens``, ``error``, ``attention`` and ``rest``. 0 where nothing flows.
    """
    shares = normalised(values)
    found = influence(shares, start)
    total, everything = found + start, max(float(found.sum()), 1e-30)
    errors = kinds["error"] | kinds["attention"]
    told, wrong = float(found[kinds["tokens"]].sum()), float(found[errors].sum())
    clear = 1 - shares[:, errors].sum(1)
    of_all = {name: float(found[kinds[name]].sum()) / everything for name in ("error", "attention", "rest")}
    replacement = told / (told + wrong) if told + wrong else 0.0
    return Scores(replacement, float((clear * total).sum() / total.sum()), **of_all)


def expand(
    values: Matrix, start: Vector, *, always: Bool[np.ndarray, " node"], floor: float, most_nodes: int, most_edges: int
) -> Kept:
    """The rule ``flow``. ``always`` marks nodes that do not count against the budget (tokens, biases, the output).

    Nodes whose inputs are all below the floor stay, as ends: their inputs are spread thin.
    """
    sizes = np.abs(values)
    direct = sizes[start > 0].sum()
    scores = sizes / max(float(direct), 1e-30)
    nodes, edges = start > 0, np.zeros(values.shape, dtype=bool)
    waiting: list[tuple[float, int, int]] = []
    count, fresh = 0, np.flatnonzero(nodes).tolist()
    while True:
        for target in fresh:
            for source in np.flatnonzero(scores[target] >= max(floor, 1e-12)).tolist():
                heapq.heappush(waiting, (-float(scores[target, source]), target, source))
        if not waiting or edges.sum() >= most_edges:
            break
        _, target, source = heapq.heappop(waiting)
        new = not nodes[source]
        if new and not always[source] and count >= most_nodes:
            fresh = []
            continue
        count += new and not always[source]
        nodes[source], edges[target, source] = True, True
        fresh = [source] if new else []
    return Kept(nodes, edges, scores, *_shares(values, start, nodes, edges, always))


def _shares(
    values: Matrix, start: Vector, nodes: Bool[np.ndarray, " node"], edges: Bool[np.ndarray, "target source"],
    always: Bool[np.ndarray, " node"],
) -> tuple[float, float]:  # fmt: skip
    whole, direct = influence(normalised(values), start), np.abs(values[start > 0])
    of_nodes = float(whole[nodes & ~always].sum()) / max(float(whole[~always].sum()), 1e-30)
    return of_nodes, float(direct[edges[start > 0]].sum()) / max(float(direct.sum()), 1e-30)


def prune(
    values: Matrix, start: Vector, *, leaves: Bool[np.ndarray, " node"], always: Bool[np.ndarray, " node"],
    node_share: float, edge_share: float, most_nodes: int, most_edges: int,
) -> Kept:  # fmt: skip
    """The rule ``influence``: the strongest nodes and edges, up to the shares and never more than the budgets.

    ``always`` marks nodes that are not pruned for lack of influence (tokens, biases, the output). Nodes that are left
    without a way in (but leaves) or a way to the output go, too.
    """
    whole = influence(normalised(values), start)
    nodes = always | _strongest(np.where(always, 0.0, whole), node_share, most_nodes)
    inside = values * (nodes[:, None] & nodes[None])
    shares = normalised(inside)
    scores = shares * (influence(shares, start) + start)[:, None]
    edges = _strongest(scores.ravel(), edge_share, most_edges).reshape(scores.shape)
    nodes, edges = _connected(nodes, edges, leaves, start > 0)
    return Kept(nodes, edges, scores, *_shares(values, start, nodes, edges, always))


def attach(
    kept: Kept, values: Matrix, start: Vector, wanted: Sequence[int], *, always: Bool[np.ndarray, " node"],
    inputs: int = 2,
) -> Kept:  # fmt: skip
    """The same with some more nodes, each by its largest way to what is kept and with its largest ``inputs``.

    A graph of many parts hands each feature's weight on in small pieces; the strongest features are shown all the same.
    """
    nodes, edges, sizes = kept.nodes.copy(), kept.edges.copy(), np.abs(values)
    for node in (each for each in wanted if not kept.nodes[each]):
        least = LEAST_INPUT * sizes[node].max()
        largest = np.argsort(-sizes[node], kind="stable")[:inputs]
        sources = [source for source in largest if sizes[node, source] > least]
        edges[node, sources], nodes[sources] = True, True
        at, joined = node, False
        while not joined and sizes[:, at].any():
            target = int(np.argmax(sizes[:, at]))
            joined = bool(nodes[target])
            nodes[at], nodes[target], edges[target, at] = True, True, True
            at = target
    return Kept(nodes, edges, kept.scores, *_shares(values, start, nodes, edges, always))


def _strongest(sizes: Vector, share: float, most: int) -> Bool[np.ndarray, " node"]:
    """The fewest largest entries that together reach the share, at most ``most``."""
    order = np.argsort(-sizes, kind="stable")
    reached = np.cumsum(sizes[order])
    count = int(np.searchsorted(reached, share * reached[-1] - 1e-12 * abs(reached[-1]))) + 1 if len(sizes) else 0
    marks = np.zeros(len(sizes), dtype=bool)
    marks[order[: min(count, most)]] = True
    return marks & (sizes > 0)


def _connected(
    nodes: Bool[np.ndarray, " node"], edges: Bool[np.ndarray, "target source"], leaves: Bool[np.ndarray, " leaf"],
    ends: Bool[np.ndarray, " end"],
) -> tuple[Bool[np.ndarray, " node"], Bool[np.ndarray, "target source"]]:  # fmt: skip
    while True:
        alive = nodes & (edges.any(0) | ends) & (edges.any(1) | leaves | ends)
        if (alive == nodes).all():
            return nodes, edges
        nodes, edges = alive, edges & alive[:, None] & alive[None]
