"""What a trace leaves: nodes, signed edges with their checks, reasons for attention, and how much of it all holds."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from cutaway.circuits.tracing.influence import Scores
from cutaway.circuits.tracing.nodes import Node
from cutaway.circuits.tracing.reasons import Move
from cutaway.evidence import Measurement


@dataclass(frozen=True)
class Check:
    """An edge cut alone: what it was predicted to add to the metric over the baseline, and what it does add
    (logits).
    """

    predicted: float
    measured: float

    @property
    def agrees(self) -> bool | None:
        """Whether both have the same sign; None where nothing was predicted (source and baseline are the same)."""
        if self.predicted == 0:
            return None
        return self.predicted * self.measured > 0


@dataclass(frozen=True)
class Edge:
    """What flows from one node through another: ``value`` in logits, signed; ``score`` is what it was kept by (rule
    flow: its share of all that enters the output; rule influence: its share of influence).

    ``check`` is None for edges from errors and biases, which cannot be exchanged, and where no check was asked for.
    """

    source: str
    target: str
    value: float
    score: float
    check: Check | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        check = None if self.check is None else {**vars(self.check), "agrees": self.check.agrees}
        return {**vars(self), "check": check}


@dataclass(frozen=True)
class Tested:
    """How the graph fared when it was tested by intervention.

    ``signs``: share of checked edges whose measured effect has the predicted sign (null: predictions shuffled between
    edges). ``rank``: Spearman correlation of predicted and measured. ``alone``: (kept - empty) / (network - empty),
    with everything outside of the kept nodes exchanged; ``lost``: 1 - (without - empty) / (network - empty), with the
    kept heads and neurons exchanged and nothing else (null of both: random nodes of the same kinds and positions).
    Edges of one prompt are not independent: intervals are those over edges. ``unchecked`` edges come from errors,
    attention and biases, which cannot be exchanged.
    """

    checked: int
    unchecked: int
    signs: Measurement | None
    rank: Measurement | None
    alone: Measurement | None
    lost: Measurement | None
    metric_kept: float
    metric_without: float
    metric_empty: float


@dataclass(frozen=True)
class Effect:
    """An intervention on features: what it was ``predicted`` to take from the metric and what it took (logits)."""

    name: str
    nodes: tuple[str, ...]
    predicted: float
    measured: float

    @property
    def agrees(self) -> bool | None:
        """Whether both have the same sign; None where nothing was predicted."""
        return None if self.predicted == 0 else self.predicted * self.measured > 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "nodes": list(self.nodes), "agrees": self.agrees}


@dataclass(frozen=True)
class FeaturesTested:
    """Features set to their baseline, everything else really run.

    ``singles``: each kept feature alone, against its value. ``joined``: all kept edges from features into one node
    (named) cut at once, against their sum. ``groups``: the sets that were asked for, against the sum of their values.
    ``signs`` and ``rank``: sign agreement and Spearman correlation over ``singles``. ``moved`` and ``moved_rank``: of
    every edge between two kept features, whether setting the source moves the target's own activation as the edge says
    (other paths between the two count, too).
    """

    singles: tuple[Effect, ...]
    joined: tuple[Effect, ...]
    groups: tuple[Effect, ...]
    signs: Measurement | None
    rank: Measurement | None
    moved: Measurement | None
    moved_rank: Measurement | None


@dataclass(frozen=True)
class Trace:
    """Why ``target`` and not ``against``: the pruned graph behind one difference of logits.

    ``baseline`` says what every part is held against: a source's value is what it writes beyond that. ``metric`` is the
    network's own difference; the full graph's edges into the output sum to it within ``gap``.
    ``node_share`` is the share of influence of the kept nodes, ``direct_share`` that of what enters the output along
    kept edges; ``full`` counts nodes before pruning. ``bases``: the places whose features are nodes, as addresses
    begin; ``features`` says how these fared when they were set to something else.
    """

    network: str
    fingerprint: str
    prompt: str
    tokens: tuple[str, ...]
    target: str
    against: str
    position: int
    metric: float
    baseline: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    moves: tuple[Move, ...]
    scores: Scores
    node_share: float
    direct_share: float
    gap: float
    full: int
    seed: int
    tested: Tested | None = None
    notes: tuple[str, ...] = field(default=())
    bases: tuple[str, ...] = ()
    features: FeaturesTested | None = None

    @property
    def question(self) -> str:
        """In words."""
        return f"why {self.target!r}, not {self.against!r}" if self.against != "the mean" else f"why {self.target!r}"

    def node(self, name: str) -> Node:
        """A node by its name."""
        return next(node for node in self.nodes if node.name == name)

    def into(self, name: str) -> list[Edge]:
        """Edges into a node, the largest in size first."""
        return sorted((edge for edge in self.edges if edge.target == name), key=lambda edge: -abs(edge.value))

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null, measurements are objects."""
        plain = plain_values(dataclasses.asdict(dataclasses.replace(self, edges=(), tested=None, features=None)))
        plain["edges"] = [edge.to_json() for edge in self.edges]
        plain["tested"] = None if self.tested is None else _tested_facts(self.tested)
        plain["features"] = None if self.features is None else _features_facts(self.features)
        return {"question": self.question, **plain}


def plain_values(value: Any) -> Any:
    """Tuples as lists, numbers that are not finite as None."""
    if isinstance(value, dict):
        return {key: plain_values(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tested_facts(tested: Tested) -> dict[str, Any]:
    return {name: value.to_json() if isinstance(value, Measurement) else value for name, value in vars(tested).items()}


def _features_facts(found: FeaturesTested) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [each.to_json() for each in value]
        return value.to_json() if isinstance(value, Measurement) else value

    return {name: plain(value) for name, value in vars(found).items()}
