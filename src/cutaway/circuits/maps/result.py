"""What a graph of maps says: nodes, signed edges with their checks, and how much of it holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from cutaway.circuits.maps.nodes import MapNode
from cutaway.circuits.tracing.graph import Edge, Effect, plain_values
from cutaway.circuits.tracing.influence import Scores
from cutaway.evidence import Measurement


@dataclass(frozen=True)
class MapTested:
    """How kept edges fared when cut, and kept parts when set to zero: sign agreement (null: predictions shuffled) and
    Spearman's correlation of predicted and measured. Edges of one picture are not independent.
    """

    checked: int
    unchecked: int
    signs: Measurement | None
    rank: Measurement | None
    singles: tuple[Effect, ...]
    single_signs: Measurement | None
    single_rank: Measurement | None


@dataclass(frozen=True)
class MapTrace:
    """Why ``target`` is what it is on one picture, as a graph of parts at places.

    ``metric`` is the target's value, ``sites`` what was opened (in a basis: ``SITE@NAME``), ``cell`` the side of a
    square in input pixels. ``scores``, ``node_share`` and ``direct_share`` are as in
    :class:`cutaway.circuits.tracing.Trace`; ``gap`` is the largest amount by which what flows out of a node misses its
    value.
    """

    network: str
    fingerprint: str
    stimulus: str
    target: str
    metric: float
    sites: tuple[str, ...]
    cell: int
    nodes: tuple[MapNode, ...]
    edges: tuple[Edge, ...]
    scores: Scores
    node_share: float
    direct_share: float
    gap: float
    full: int
    seed: int
    tested: MapTested | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def question(self) -> str:
        """In words."""
        return f"why {self.target}"

    def node(self, name: str) -> MapNode:
        """A node by its name."""
        return next(node for node in self.nodes if node.name == name)

    def into(self, name: str) -> list[Edge]:
        """Edges into a node, the largest in size first."""
        return sorted((edge for edge in self.edges if edge.target == name), key=lambda edge: -abs(edge.value))

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null, measurements are objects."""
        plain = plain_values(dataclasses.asdict(dataclasses.replace(self, edges=(), tested=None)))
        plain["edges"] = [edge.to_json() for edge in self.edges]
        plain["tested"] = None if self.tested is None else _tested_facts(self.tested)
        return {"question": self.question, **plain}


def _tested_facts(tested: MapTested) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [each.to_json() for each in value]
        return value.to_json() if isinstance(value, Measurement) else value

    return {name: plain(value) for name, value in vars(tested).items()}
