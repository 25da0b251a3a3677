"""What is true of a network whose circuit is known: components, variables, true and false edges.

An edge u -> v is true if u writes, with nonzero weights, a residual dimension that v reads through nonzero weights and
a used unit. Names are those of ``truth.json`` in a compiled folder: sources ``embed``, ``pos_embed``, ``L0H3``,
``L0MLP``; targets ``L0H3.q``, ``L0H3.k``, ``L0H3.v``, ``L0MLP``, ``unembed``.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cutaway.errors import BadFile, BadInput

Pair = tuple[str, str]

ABLATIONS = ("resample", "other_length", "zero", "permute")
"""What an edge's content is replaced by: another input's of equal length, an input's of another length, zero, its own
at permuted positions."""

CARRIES = ("data", "length", "position", "constant")
"""Between what an edge's content varies: inputs of one length; lengths only; positions only; nothing."""

SHOWN = 0.01
"""An ablation shows an edge if it moves some logit by more than this."""

TRUTH = "truth.json"


@dataclass(frozen=True)
class Effect:
    """What replacing one edge does, all after it recomputed: the largest change of a logit after BOS, and the share of
    inputs whose decoded answer changes (0..1)."""

    max_logit_change: float
    inputs_changed: float


@dataclass(frozen=True)
class TrueEdge:
    """A true edge: the residual dimensions and variables shared, what they carry, and which ablations show it."""

    source: str
    target: str
    carries: str
    shows_under: tuple[str, ...]
    on_path: bool = True  # on a path of true edges from an embedding to the output
    dims: tuple[int, ...] = ()
    variables: tuple[str, ...] = ()
    effects: tuple[tuple[str, Effect], ...] = ()

    @property
    def pair(self) -> Pair:
        """Source and target."""
        return self.source, self.target


@dataclass(frozen=True)
class Component:
    """An embedding, head, MLP or the unembedding: which residual dimensions it reads (by port) and writes.

    ``used``: some weight of it is nonzero through a used unit. ``in_circuit``: it is on a path of true edges from an
    embedding to the output.
    """

    name: str
    kind: str  # embed, pos_embed, head, mlp, unembed
    used: bool
    in_circuit: bool
    writes: tuple[int, ...] = ()
    reads: tuple[tuple[str, tuple[int, ...]], ...] = ()  # port ("q", "k", "v", or "") and dimensions


@dataclass(frozen=True)
class Truth:
    """The known circuit of one network; ``edges`` and ``false_edges`` together are all that could be."""

    name: str
    edges: tuple[TrueEdge, ...]
    false_edges: tuple[Pair, ...]
    components: tuple[Component, ...] = ()
    computes: str = ""
    algorithm: tuple[str, ...] = ()

    def true_pairs(self, ablation: str | None = None) -> frozenset[Pair]:
        """All true edges, or those that ``ablation`` (one of :data:`ABLATIONS`) can show at all."""
        if ablation is not None and ablation not in ABLATIONS:
            raise BadInput(f"Ablation {ablation!r} was asked for; choose {', '.join(ABLATIONS)}.")
        return frozenset(edge.pair for edge in self.edges if ablation is None or ablation in edge.shows_under)

    @property
    def candidates(self) -> frozenset[Pair]:
        """Every pair of an earlier component and a later component's input."""
        return self.true_pairs() | frozenset(self.false_edges)

    @property
    def component_edges(self) -> frozenset[Pair]:
        """True edges with q, k and v merged."""
        return frozenset((edge.source, edge.target.split(".")[0]) for edge in self.edges)

    @property
    def circuit(self) -> frozenset[str]:
        """The components on a path of true edges from an embedding to the output."""
        return frozenset(each.name for each in self.components if each.in_circuit)

    def edge(self, source: str, target: str) -> TrueEdge:
        """The true edge of these names; a false one raises."""
        found = next((edge for edge in self.edges if edge.pair == (source, target)), None)
        if found is None:
            raise BadInput(f"{source} -> {target} is no true edge of {self.name}.")
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values in the layout of ``truth.json``, which :func:`read_truth` reads."""
        return {
            "name": self.name,
            "computes": self.computes,
            "algorithm": list(self.algorithm),
            "components": {each.name: _component_json(each) for each in self.components},
            "edges": [_edge_json(edge) for edge in self.edges],
            "false_edges": [list(pair) for pair in self.false_edges],
        }


def _component_json(component: Component) -> dict[str, Any]:
    reads = {port: {"dims": list(dims)} for port, dims in component.reads}
    return {
        "type": component.kind,
        "used": component.used,
        "in_circuit": component.in_circuit,
        "writes": {"dims": list(component.writes)},
        "reads": reads.get("", reads),
    }


def _edge_json(edge: TrueEdge) -> dict[str, Any]:
    return {
        "from": edge.source,
        "to": edge.target,
        "dims": list(edge.dims),
        "variables": list(edge.variables),
        "carries": edge.carries,
        "on_path_to_output": edge.on_path,
        "shows_under": list(edge.shows_under),
        "effect": {name: asdict(effect) for name, effect in edge.effects},
    }


def read_truth(folder: str | Path) -> Truth:
    """The truth beside a compiled network, from its ``truth.json``; raises :class:`BadFile` for anything else."""
    path = Path(folder) / TRUTH
    if not path.is_file():
        raise BadFile(f"{folder} holds no {TRUTH}; give the folder of a network whose circuit is known.")
    try:
        return _truth(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadFile(f"{path} does not describe a circuit ({type(error).__name__}: {error}).") from error


def _truth(raw: Mapping[str, Any]) -> Truth:
    return Truth(
        name=str(raw["name"]),
        edges=tuple(_edge(each) for each in raw["edges"]),
        false_edges=tuple((str(source), str(target)) for source, target in raw["false_edges"]),
        components=tuple(_component(name, each) for name, each in raw.get("components", {}).items()),
        computes=str(raw.get("computes", "")),
        algorithm=tuple(map(str, raw.get("algorithm", ()))),
    )


def _edge(raw: Mapping[str, Any]) -> TrueEdge:
    effects = {name: Effect(**effect) for name, effect in raw.get("effect", {}).items()}
    if raw["carries"] not in CARRIES:
        raise ValueError(f"an edge carries {raw['carries']!r}")
    return TrueEdge(
        source=str(raw["from"]),
        target=str(raw["to"]),
        carries=raw["carries"],
        shows_under=tuple(raw["shows_under"]),
        on_path=bool(raw["on_path_to_output"]),
        dims=tuple(raw.get("dims", ())),
        variables=tuple(raw.get("variables", ())),
        effects=tuple(effects.items()),
    )


def _component(name: str, raw: Mapping[str, Any]) -> Component:
    reads = raw.get("reads", {})
    ports = {"": reads} if "dims" in reads else reads
    return Component(
        name=name,
        kind=str(raw["type"]),
        used=bool(raw["used"]),
        in_circuit=bool(raw["in_circuit"]),
        writes=tuple(raw.get("writes", {}).get("dims", ())),
        reads=tuple((port, tuple(read["dims"])) for port, read in ports.items()),
    )
