"""The graph in Graphviz's language."""

from __future__ import annotations

from collections.abc import Iterator

from cutaway.circuits.drawing.style import NEGATIVE, POSITIVE
from cutaway.circuits.tracing.graph import Edge, Trace
from cutaway.circuits.tracing.layout import described, label
from cutaway.circuits.tracing.nodes import EMBED, HEAD, HEADS, OUTPUT, Node


def to_dot(trace: Trace) -> str:
    """A digraph from the bottom up; nodes of a layer stand in one row, edges carry their logits."""
    rows: dict[int, list[Node]] = {}
    for node in trace.nodes:
        rows.setdefault(node.stage, []).append(node)
    lines = [
        "digraph trace {",
        '  rankdir=BT; node [fontname="sans-serif", fontsize=10]; edge [fontname="sans-serif", fontsize=8];',
        f"  label={_quoted(f'{trace.question}: {trace.metric:+.3f} logits')};",
        *(line for stage in sorted(rows) for line in _row(rows[stage], trace)),
        *_edges(trace),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _row(nodes: list[Node], trace: Trace) -> Iterator[str]:
    yield "  { rank=same;"
    for node in nodes:
        shape = "ellipse" if node.kind in (HEAD, HEADS) else "doubleoctagon" if node.kind == OUTPUT else "box"
        style = "" if node.kind in (EMBED, OUTPUT) or node.kind == HEAD else ", style=rounded"
        place = "" if node.position is None or node.kind == EMBED else f"@{node.position}"
        yield (
            f"    {_quoted(node.name)} [label={_quoted(label(node, trace) + place)}, shape={shape}{style}, "
            f"tooltip={_quoted(described(node, trace))}];"
        )
    yield "  }"


def _edges(trace: Trace) -> Iterator[str]:
    largest = max((abs(edge.value) for edge in trace.edges), default=0.0) or 1.0
    for edge in trace.edges:
        width = 0.5 + 4.5 * abs(edge.value) / largest
        yield (
            f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [label={_quoted(f'{edge.value:+.2f}')}, "
            f'color="{POSITIVE if edge.value >= 0 else NEGATIVE}", penwidth={width:.2f}, style={_style(edge)}];'
        )


def _style(edge: Edge) -> str:
    if edge.check is None:
        return "dotted"
    return "dashed" if edge.check.agrees is False else "solid"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
