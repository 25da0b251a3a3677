"""The graph as an SVG with selectable text: no library, the same bytes for the same trace.

Orange adds to the metric, purple takes away (a pair that every common kind of colour vision tells apart); thickness is
size. A dashed edge has been cut and did the opposite of what it should, a dotted one could not be cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from cutaway.circuits.drawing.style import FAINT, INK, NEGATIVE, POSITIVE
from cutaway.circuits.tracing.graph import Edge, Trace
from cutaway.circuits.tracing.layout import BOX, HIGH, LEFT, TOP, Layout, Place, described, lay_out
from cutaway.circuits.tracing.nodes import BIAS, EMBED, FEATURES, HEADS, NEURON, NEURONS, OUTPUT, UNEXPLAINED

THICKEST, THINNEST = 7.0, 0.8
LIGHT = {True: "#fdf0e1", False: "#eeeaf5"}  # fills of nodes that add and that take away


def to_svg(trace: Trace) -> str:
    """The picture: tokens left to right, layers bottom up, every node and edge with a tooltip."""
    plan = lay_out(trace)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {plan.width:.0f} {plan.height:.0f}" '
        f'width="{plan.width:.0f}" height="{plan.height:.0f}" font-family="system-ui, sans-serif" font-size="12" '
        f'fill="{INK}" role="img">',
        f"<title>{escape(_title(trace))}</title>",
        f'<rect width="{plan.width:.0f}" height="{plan.height:.0f}" fill="white"/>',
        *_head(trace),
        *_bands(plan),
        *_edges(trace, plan),
        *(_node(place, trace) for place in plan.places.values()),
        *_key(trace, plan),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _title(trace: Trace) -> str:
    return f"{trace.network}: {trace.question}, after {trace.prompt or ' '.join(trace.tokens)!r}"


def _head(trace: Trace) -> Iterator[str]:
    yield f'<text x="16" y="22" font-size="14" font-weight="600">{escape(trace.question)}</text>'
    prompt = trace.prompt or " ".join(trace.tokens)
    yield f'<text x="16" y="40" fill="{FAINT}">{escape(prompt if len(prompt) < 90 else prompt[:89] + "…")}</text>'


def _bands(plan: Layout) -> Iterator[str]:
    for middle, width, token in plan.columns:
        yield (
            f'<rect x="{middle - width / 2:.1f}" y="{TOP - 24:.1f}" width="{width:.1f}" '
            f'height="{plan.height - 120:.1f}" fill="#f6f6f6" rx="6"/>'
        )
        yield (
            f'<text x="{middle:.1f}" y="{plan.height - 58:.1f}" text-anchor="middle" font-weight="600">'
            f"{escape(token)}</text>"
        )
    for y, name in plan.rows:
        yield f'<text x="{LEFT - 8:.1f}" y="{y + 4:.1f}" text-anchor="end" fill="{FAINT}">{escape(name)}</text>'


def _edges(trace: Trace, plan: Layout) -> Iterator[str]:
    largest = max((abs(edge.value) for edge in trace.edges), default=0.0) or 1.0
    for edge in sorted(trace.edges, key=lambda each: abs(each.value)):
        yield _edge(edge, plan, abs(edge.value) / largest)


def _edge(edge: Edge, plan: Layout, share: float) -> str:
    one, two = plan.places[edge.source], plan.places[edge.target]
    x, y, u, v = one.x, one.y - HIGH / 2, two.x, two.y + HIGH / 2
    bend = max((y - v) / 2, 14.0)
    dash = {None: ' stroke-dasharray="1.5 3"', False: ' stroke-dasharray="7 4"'}.get(_state(edge), "")
    return (
        f'<path d="M{x:.1f} {y:.1f} C{x:.1f} {y - bend:.1f} {u:.1f} {v + bend:.1f} {u:.1f} {v:.1f}" fill="none" '
        f'stroke="{POSITIVE if edge.value >= 0 else NEGATIVE}" stroke-opacity="{0.3 + 0.6 * share:.2f}" '
        f'stroke-width="{THINNEST + (THICKEST - THINNEST) * share:.2f}"{dash} class="edge">'
        f"<title>{escape(_edge_words(edge))}</title></path>"
    )


def _state(edge: Edge) -> bool | None:
    return None if edge.check is None else edge.check.agrees is not False


def _edge_words(edge: Edge) -> str:
    cut = "" if edge.check is None else f"; cut alone: {edge.check.measured:+.3g}"
    return f"{edge.source} → {edge.target}: {edge.value:+.3g} logits{cut}"


def _node(place: Place, trace: Trace) -> str:
    node = place.node
    colour = INK if node.kind in (EMBED, OUTPUT) else POSITIVE if node.value >= 0 else NEGATIVE
    fill = "white" if node.kind in (EMBED, BIAS, *UNEXPLAINED) else LIGHT[node.value >= 0]
    radius = 3.0 if node.kind in (NEURON, NEURONS, EMBED) else HIGH / 2
    dash = ' stroke-dasharray="3 3"' if node.kind in (BIAS, *UNEXPLAINED) else ""
    heavy = 2.2 if node.kind == OUTPUT else 1.2
    back = ""
    if node.kind in (HEADS, NEURONS, FEATURES):  # a stack: several parts
        back = _box(place, radius, "white", colour, "", 1.0, shift=3.0)
    words = f"{described(node, trace)}: {node.value:+.3g} logits"
    size = 11 if len(place.label) < 10 else 9.5
    return (
        f'<g class="node">{back}{_box(place, radius, fill, colour, dash, heavy)}'
        f'<text x="{place.x:.1f}" y="{place.y + 4:.1f}" text-anchor="middle" font-size="{size}">'
        f"{escape(place.label)}</text>"
        f"<title>{escape(words)}</title></g>"
    )


def _box(place: Place, radius: float, fill: str, colour: str, dash: str, heavy: float, *, shift: float = 0.0) -> str:
    x, y = place.x - BOX / 2 + shift, place.y - HIGH / 2 - shift
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{BOX:.1f}" height="{HIGH:.1f}" rx="{radius:.1f}" fill="{fill}" '
        f'stroke="{colour}" stroke-width="{heavy}"{dash}/>'
    )


def _key(trace: Trace, plan: Layout) -> Iterator[str]:
    y, x = plan.height - 30, 16.0
    largest = max((abs(edge.value) for edge in trace.edges), default=0.0)
    samples = ((POSITIVE, "", "adds"), (NEGATIVE, "", "takes away"))
    marks = ((FAINT, "7 4", "cut: wrong sign"), (FAINT, "1.5 3", "cannot be cut"))
    for colour, dash, words in (*samples, *marks):
        line = f' stroke-dasharray="{dash}"' if dash else ""
        yield f'<path d="M{x:.0f} {y:.0f} h26" stroke="{colour}" stroke-width="3"{line}/>'
        yield f'<text x="{x + 32:.0f}" y="{y + 4:.0f}">{words}</text>'
        x += 48 + 6.6 * len(words)
    yield (
        f'<text x="16" y="{plan.height - 10:.0f}" fill="{FAINT}">thickest: {largest:.2g} logits · round: heads · '
        "square: neurons · stacked: all others of the layer</text>"
    )
