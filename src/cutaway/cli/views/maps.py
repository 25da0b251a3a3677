"""An attribution graph of feature maps as text: the target, how far to trust the graph, its edges from the top down."""

import json
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.circuits.maps import MapTrace
from cutaway.circuits.maps.result import MapTested
from cutaway.cli.views.trace import checked, told
from cutaway.errors import BadInput


def check_file(path: Path) -> None:
    """Raises ``BadInput`` for a name that does not end in .json."""
    if path.suffix.lower() != ".json":
        raise BadInput(f"A graph of maps was to be written to {path.name}; end the name in .json.")


def save(trace: MapTrace, path: Path) -> Path:
    """Writes the graph as JSON, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(trace.to_json(), indent=2, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return path


def view(trace: MapTrace) -> RenderableType:
    """Everything that fits a terminal."""
    lines = [
        f"On {trace.stimulus}, opened at {', '.join(trace.sites)}; a unit in a square of {trace.cell} pixels is a node "
        f"(its top left pixel is named). Flows miss values by at most {trace.gap:.1e}.",
        f"Shown: {len(trace.nodes)} of {trace.full} nodes, {trace.direct_share:.0%} of what enters the target "
        f"directly. Replacement {trace.scores.replacement:.2f}, completeness {trace.scores.completeness:.2f}, errors "
        f"{trace.scores.error:.1%} of influence.",
        *([] if trace.tested is None else _tested(trace.tested)),
    ]
    head = Text(f"{trace.question}: {trace.metric:+.3g}", style="bold")
    notes = [Text(f"Note: {note}") for note in trace.notes]
    return Group(head, *map(Text, lines), Text(), _edges(trace), *notes)


def _tested(tested: MapTested) -> list[str]:
    return [
        f"Edges cut one by one: {tested.checked} ({tested.unchecked} could not be); right sign {told(tested.signs)}; "
        f"rank correlation {told(tested.rank)}.",
        f"Parts set to zero one by one: {len(tested.singles)}; right sign {told(tested.single_signs)}; rank "
        f"correlation {told(tested.single_rank)}.",
    ]


def _edges(trace: MapTrace) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("into")
    table.add_column("from")
    for title in ("value", "cut alone", "sign"):
        table.add_column(title, justify="right")
    order = {node.name: number for number, node in enumerate(trace.nodes)}
    for target in sorted(dict.fromkeys(edge.target for edge in trace.edges), key=lambda name: -order[name]):
        for row, edge in enumerate(trace.into(target)):
            table.add_row("" if row else target, edge.source, f"{edge.value:+.3g}", *checked(edge))
    return table
