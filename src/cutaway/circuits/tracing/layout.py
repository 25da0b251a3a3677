"""Where nodes stand in the picture: tokens from left to right, layers from the bottom up, neighbours side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cutaway.circuits.tracing.graph import Edge, Trace
from cutaway.circuits.tracing.nodes import (
    ABSENT,
    ATTENTION,
    BIAS,
    EMBED,
    ERROR,
    FEATURE,
    FEATURES,
    GATE,
    HEAD,
    HEADS,
    NEURON,
    NEURONS,
    OUTPUT,
    RESIDUE,
    SKIP,
    STAGES,
    UNEXPLAINED,
    Node,
)

BOX, GAP, ROW, MARGIN, LEFT, PAD = 66.0, 8.0, 58.0, 16.0, 76.0, 14.0  # pixels
TOP, BOTTOM = 74.0, 96.0
HIGH = 26.0
ROWS = ("heads", "attn out", "MLP", "MLP out", "stream")
ASIDE = (-0.55, 0.3, -0.15, 0.6, -0.35, 0.15, -0.75, 0.45)  # where in its column a row stands, so that edges pass by


@dataclass(frozen=True)
class Place:
    """A node's middle, and what is written into it."""

    node: Node
    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Layout:
    """Places by node name, one line for each layer shown (``rows``: y and name) and one column for each token.

    ``columns``: middle, width and text of each token that has a node.
    """

    width: float
    height: float
    places: dict[str, Place]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, float, str], ...]


def lay_out(trace: Trace) -> Layout:
    """The picture's plan; layers and tokens without a node take no room."""
    nodes = list(trace.nodes)
    stages = sorted({node.stage for node in nodes if node.kind != BIAS})
    positions = sorted({_column(node, trace) for node in nodes})
    cells: dict[tuple[int, int], list[Node]] = {}
    for node in nodes:
        stage = stages[-2] if node.kind == BIAS and len(stages) > 1 else node.stage
        cells.setdefault((_column(node, trace), stage), []).append(node)
    cells = {cell: _ordered(own, trace.edges) for cell, own in cells.items()}
    wide = {
        position: max(len(own) for (column, _), own in cells.items() if column == position) * (BOX + GAP) + 2 * PAD
        for position in positions
    }
    lefts, at = {}, LEFT
    for position in positions:
        lefts[position] = at
        at += wide[position] + GAP
    height = TOP + ROW * (len(stages) - 1) + BOTTOM
    heights = {stage: height - BOTTOM - ROW * row for row, stage in enumerate(stages)}
    places = {
        node.name: Place(node, x, heights[stage], label(node, trace))
        for (position, stage), own in cells.items()
        for node, x in zip(
            own, _spread(len(own), lefts[position], wide[position], stages.index(stage) % (len(stages) - 1))
        )
    }
    rows = tuple((heights[stage], _row_name(stage)) for stage in stages)
    columns = tuple(
        (lefts[position] + wide[position] / 2, wide[position], shown(trace.tokens[position])) for position in positions
    )
    return Layout(max(at + MARGIN, 560.0), height, places, rows, columns)


def _column(node: Node, trace: Trace) -> int:
    return trace.position if node.position is None else node.position


def _ordered(own: Sequence[Node], edges: Sequence[Edge]) -> list[Node]:
    """Nodes of one cell with what excites on the left, biases and errors last."""
    value = {node.name: node.value for node in own}
    return sorted(own, key=lambda node: (node.kind in (*UNEXPLAINED, BIAS), -value[node.name]))


def _spread(count: int, left: float, width: float, row: int) -> list[float]:
    """Middles of the boxes of one cell; rows with room to spare stand to one side or the other."""
    free = (width - 2 * PAD - count * (BOX + GAP)) / 2
    middle = left + width / 2 + (free * ASIDE[row % len(ASIDE)] if row else 0.0)
    return [middle + (index - (count - 1) / 2) * (BOX + GAP) for index in range(count)]


def _row_name(stage: int) -> str:
    if stage == 0:
        return "tokens"
    if stage == Node("", OUTPUT).stage:
        return "output"
    layer, part = divmod(stage - 1, STAGES)
    return f"{layer} {ROWS[part]}"


def shown(token: str, most: int = 14) -> str:
    """A token as it can be read: spaces visible, long ones cut."""
    text = token.replace("\n", "↵").replace(" ", "·")
    return text if len(text) <= most else text[: most - 1] + "…"


def label(node: Node, trace: Trace) -> str:
    """What is written into a node."""
    if node.kind == EMBED:
        return shown(trace.tokens[node.position or 0], 9)
    if node.kind == OUTPUT:
        return f"{trace.metric:+.2f}".replace("-", "−")
    if node.kind in (HEAD, NEURON, FEATURE):
        return {HEAD: f"{node.layer}.{node.index}", NEURON: f"n {node.index}"}.get(node.kind, f"f {node.index}")
    return _SHORT[node.kind]


_SHORT = {
    HEADS: "heads", NEURONS: "MLP", ERROR: "error", ATTENTION: "attention", BIAS: "bias", FEATURES: "features",
    SKIP: "by-pass", RESIDUE: "error", ABSENT: "absent", GATE: "threshold",
}  # fmt: skip


def described(node: Node, trace: Trace) -> str:
    """A node in words."""
    at = "" if node.position is None else f" at {shown(trace.tokens[node.position])!r} (position {node.position})"
    words = {
        EMBED: "token", HEAD: f"head {node.layer}.{node.index}", NEURON: f"neuron {node.index} of layer {node.layer}",
        HEADS: f"the other heads of layer {node.layer}", NEURONS: f"the other neurons of layer {node.layer}",
        ERROR: f"what the slopes of layer {node.layer}'s neurons leave out",
        ATTENTION: f"layer {node.layer} looking elsewhere than on the baseline",
        BIAS: "constants and the baseline", OUTPUT: trace.question,
        FEATURE: f"feature {node.index} of {node.site}", FEATURES: f"the other features of {node.site}",
        SKIP: f"what by-passes the features of {node.site}", RESIDUE: f"what {node.site} leaves out",
        ABSENT: f"features of {node.site} that are active in the baseline and not here",
        GATE: f"what slopes of the features of {node.site} leave out",
    }  # fmt: skip
    return words[node.kind] + at
