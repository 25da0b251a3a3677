"""An attribution graph as text: the answer, how far to trust it, its edges from the output down, reasons for
attention.
"""

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.circuits.tracing import Edge, FeaturesTested, Move, Tested, Trace
from cutaway.circuits.tracing.layout import shown
from cutaway.evidence import Measurement


def view(trace: Trace) -> RenderableType:
    """Everything that fits a terminal."""
    parts: list[RenderableType] = [Text(f"{trace.question}: {trace.metric:+.2f} logits", style="bold"), _prompt(trace)]
    parts += [Text(line) for line in _trust(trace)]
    parts += [Text(), _edges(trace)]
    if trace.moves:
        parts += [Text(), _moves(trace)]
    parts += [Text(f"Note: {note}") for note in trace.notes]
    return Group(*parts)


def _prompt(trace: Trace) -> Text:
    line = Text()
    for place, token in enumerate(trace.tokens):
        line.append(f"{shown(token)}")
        line.append(f"@{place} ", style="dim")
    return line


def _trust(trace: Trace) -> list[str]:
    lines = [
        f"Each part is held against {trace.baseline}. Edges and constants into the output sum to the difference, but "
        f"for {trace.gap:.1e} logits.",
        f"Shown: {len(trace.nodes)} of {trace.full} nodes, {trace.direct_share:.0%} of what enters the output "
        f"directly. Replacement {trace.scores.replacement:.2f}, completeness {trace.scores.completeness:.2f}, errors "
        f"{trace.scores.error:.1%} of influence.",
    ]
    if trace.bases:
        lines.append(f"In features: {', '.join(trace.bases)}; what they leave out is in nodes that end in .error.")
    lines += [] if trace.tested is None else _tested(trace.tested)
    return lines + ([] if trace.features is None else _features(trace.features))


def _tested(tested: Tested) -> list[str]:
    return [
        f"Edges cut one by one: {tested.checked} ({tested.unchecked} could not be); right sign {told(tested.signs)}; "
        f"rank correlation {told(tested.rank)}.",
        f"Without these parts {told(tested.lost)} of the difference is lost; with them alone {told(tested.alone)} is "
        "left.",
    ]


def _features(found: FeaturesTested) -> list[str]:
    lines = [
        f"Features set to their baseline one by one: {len(found.singles)}; right sign {told(found.signs)}; rank "
        f"correlation {told(found.rank)}.",
        f"Edges between features: the target's activation moves as they say {told(found.moved)}.",
    ] if found.singles else []  # fmt: skip
    for kind, effects in (("Edges from features cut together into", found.joined), ("Group set:", found.groups)):
        lines += [
            f"{kind} {effect.name} ({len(effect.nodes)} features): predicted {effect.predicted:+.3g}, measured "
            f"{effect.measured:+.3g}."
            for effect in effects
        ]
    return lines


def told(value: Measurement | None) -> str:
    """A number with its interval and null, as a reader takes it in."""
    if value is None:
        return "not measured"
    interval = "" if math.isnan(value.low) else f" [{value.low:.2f}, {value.high:.2f}]"
    return f"{value.value:.2f}{interval} (null {value.null_mean:.2f}, p = {value.p:.2g})"


def _edges(trace: Trace) -> Table:
    """Targets from the output down, each with what flows into it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("into")
    table.add_column("from")
    for title in ("logits", "cut alone", "sign"):
        table.add_column(title, justify="right")
    stage = {node.name: node.stage for node in trace.nodes}
    targets = sorted(dict.fromkeys(edge.target for edge in trace.edges), key=lambda name: -stage[name])
    for target in targets:
        for row, edge in enumerate(trace.into(target)):
            table.add_row("" if row else target, edge.source, f"{edge.value:+.3g}", *checked(edge))
    return table


def checked(edge: Edge) -> tuple[str, str]:
    """What cutting an edge did, and whether that is as it says."""
    if edge.check is None:
        return "–", ""
    sign = {None: "", True: "right", False: "WRONG"}[edge.check.agrees]
    return f"{edge.check.measured:+.3g}", sign


def _moves(trace: Trace) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("head", "from", "to"):
        table.add_column(title)
    for title in ("logits", "attention", "score above others"):
        table.add_column(title, justify="right")
    table.add_column("because of (query part · key part)")
    for move in trace.moves:
        table.add_row(
            f"{move.layer}.{move.index}", _token(trace, move.key), _token(trace, move.query), f"{move.value:+.3g}",
            f"{move.attention:.2f}", f"{move.advantage:+.3g}", _pairs(move),
        )  # fmt: skip
    return table


def _token(trace: Trace, place: int) -> str:
    return f"{shown(trace.tokens[place], 10)}@{place}"


def _pairs(move: Move) -> str:
    return ", ".join(f"{pair.query}·{pair.key} {pair.value:+.2f}" for pair in move.pairs[:3])
