"""Tuning as a table: the units that prefer something more than null networks do."""

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.features.tuning import RadialTuning, Tuning, UnitTuning

P = 0.05
MOST = 40


def view(tuning: Tuning, fine: Sequence[RadialTuning] = (), *, every: bool = False) -> RenderableType:
    """A head line, the units (strongest evidence first) and what the null networks gave."""
    shown = list(tuning.rows) if every else [row for row in tuning.rows if _counts(row)]
    shown.sort(key=lambda row: (-row.strength, row.unit))
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    columns = ["unit", "angle", "width", "echo", "line/curve", "peak", "coherence", "p", "best drawing"]
    for name in columns:
        table.add_column(name, justify="left" if name == "best drawing" else "right")
    limit = len(shown) if every else MOST
    for row in shown[:limit]:
        table.add_row(*_cells(row))
    head = Text(
        f"{tuning.network} {tuning.site}: {len(tuning.rows)} units, {tuning.drawings} {tuning.kind} of "
        f"{tuning.canvas_px} pixels; {len(shown)} shown"
        + (
            ""
            if every or not (tuning.nulls or _judged(tuning))
            else f" ({'passing the criterion' if _judged(tuning) else f'p <= {P:g}'})"
        )
    )
    rest = Text(f"... and {len(shown) - limit} more; see them with --all") if len(shown) > limit else Text("")
    return Group(head, Text(""), table, rest, *_feet(tuning), *map(_radial, fine))


def _radial(one: RadialTuning) -> Text:
    return Text(
        f"unit {one.unit} in steps of {one.degrees[1] - one.degrees[0]:g}°: prefers {one.preferred_deg:.1f}°, width "
        f"{one.fwhm_deg:.1f}°, echo {one.echo:.2f}, keeps {one.position:.0%} of its answer out of place"
    )


def _judged(tuning: Tuning) -> bool:
    return any(row.passes is not None for row in tuning.rows)


def _counts(row: UnitTuning) -> bool:
    return bool(row.passes) if row.passes is not None else math.isnan(row.p) or row.p <= P


def _cells(row: UnitTuning) -> list[str]:
    best = " ".join(f"{name.removesuffix('_px').removesuffix('_deg')}={value:g}" for name, value in row.best.items())
    numbers = [
        (row.orientation_deg, "{:.0f}°"), (row.fwhm_deg, "{:.0f}°"), (row.echo, "{:.2f}"), (row.line_ratio, "{:.2f}"),
        (row.peak_sigma, "{:.1f}σ"), (row.coherence, "{:.2f}σ"), (row.p, "{:.2g}"),
    ]  # fmt: skip
    return [str(row.unit), *("" if math.isnan(value) else form.format(value) for value, form in numbers), best]


def _feet(tuning: Tuning) -> list[Text]:
    feet = []
    if tuning.family is not None:
        count = len(tuning.family.units)
        feet.append(
            Text(f"{count} curve detectors; the widest gap between directions is {tuning.family.gap_deg:.0f}°.")
        )
        passing = ", ".join(f"{null.passing} in the {null.kind} (seed {null.seed})" for null in tuning.nulls)
        feet.append(
            Text(f"The same criterion passes {passing}." if passing else "No null network was asked (--nulls).")
        )
    return feet
