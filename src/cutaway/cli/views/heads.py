"""Heads and neurons as tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.evidence.measurement import Measurement
from cutaway.features.heads import DETECTORS, HeadReport
from cutaway.features.heads.drawing import TITLES

P = 0.05
COMPOSED = 8  # rows of compositions


def facts(
    report: HeadReport, single: dict[str, Any] | None, cells: dict[str, Any] | None, picture: Path | None
) -> dict[str, Any]:
    """The report as JSON values, and what else was asked for."""
    return {
        **report.to_json(),
        "head": None if single is None else _single_facts(single),
        "neurons": None if cells is None else {name: _listed(found) for name, found in cells.items()},
        "picture": None if picture is None else str(picture),
    }


def view(
    report: HeadReport,
    single: dict[str, Any] | None,
    cells: dict[str, Any] | None,
    picture: Path | None,
    *,
    count: int = 5,
) -> RenderableType:
    """The strongest heads of each detector, then one head's circuits and the neurons if they were asked for."""
    head = Text(
        f"{report.network}: {len(report.heads)} heads; {report.sequences} sequences of {report.length} random tokens, "
        f"shown twice. A star: p <= {P:g} against the null (docs/heads.md)."
    )
    table = _table("detector", *[f"#{rank + 1}" for rank in range(count)], "null")
    for name in DETECTORS:
        best = report.strongest(name, count)
        if not best:
            table.add_row(TITLES[name], "not testable here")
            continue
        scored = [(each, each.score(name)) for each in best]
        cells_shown = [f"{each.name} {_value(score)}" for each, score in scored if score is not None]
        table.add_row(TITLES[name], *cells_shown, *[""] * (count - len(cells_shown)), _null(scored[0][1]))
    parts: list[RenderableType] = [head, Text(""), table]
    parts += [] if single is None else [Text(""), *_single_view(single)]
    parts += [] if cells is None else [Text(""), *_neuron_view(cells)]
    parts += [] if picture is None else [Text(f"\nHeat maps: {picture}")]
    return Group(*parts)


def _value(score: Measurement) -> str:
    return f"{score.value:.2f}{'*' if score.p <= P else ''}"


def _null(score: Measurement | None) -> str:
    return "" if score is None else f"{score.null_mean:.2f} ± {score.null_std:.2g}"


def _single_facts(single: dict[str, Any]) -> dict[str, Any]:
    composed = single["composition"]
    return {
        **single,
        "qk": _listed(single["qk"]),
        "ov": _listed(single["ov"]),
        "composition": None
        if composed is None
        else [
            {"writer": f"{each.writer[0]}.{each.writer[1]}", "kind": each.kind, "score": each.score.to_json()}
            for each in composed
        ],
    }


def _listed(found: Sequence[Any] | None) -> list[Any] | None:
    return None if found is None else [each.to_json() for each in found]


def _single_view(single: dict[str, Any]) -> list[RenderableType]:
    lines: list[RenderableType] = [
        Text(f"Head {single['name']}: {single['qk_symmetric_share']:.0%} of its QK form is symmetric (keys "
             f"{single['offset']} back).")
    ]  # fmt: skip
    for name, left, right in (("qk", "query", "key"), ("ov", "writes", "source")):
        if single[name]:
            table = _table(name.upper(), "share", f"{left} +", f"{right} +", f"{left} -", f"{right} -", wide=True)
            for index, each in enumerate(single[name]):
                ends = (each.left_high, each.right_high, each.left_low, each.right_low)
                table.add_row(str(index + 1), f"{each.share:.0%}", *[_tokens(end) for end in ends])
            lines += [Text(""), table]
    if single["composition"]:
        table = _table("reads", "by", "score", "null", "p")
        for each in single["composition"][:COMPOSED]:
            score = each.score
            table.add_row(
                f"{each.writer[0]}.{each.writer[1]}", each.kind, f"{score.value:.3f}", _null3(score), f"{score.p:.2g}"
            )
        lines += [Text(""), table]
    return lines


def _null3(score: Measurement) -> str:
    return f"{score.null_mean:.3f} ± {score.null_std:.1g}"


def _tokens(tokens: Sequence[str]) -> str:
    return " ".join(repr(token)[1:-1].replace(" ", "·") for token in tokens[:4])


def _neuron_view(cells: dict[str, Any]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if cells["rules"]:
        table = _table("neuron", "family", "rule", "r", "p", wide=True)
        for each in cells["rules"]:
            name = f"layers.{each.layer}.mlp:{each.neuron}"
            table.add_row(name, each.family, each.rule, f"{each.score.value:.2f}", f"{each.score.p:.2g}")
        lines += [table, Text("")]
    if cells["outputs"]:
        table = _table("neuron", "family", "score", "null", "p", wide=True)
        for each in cells["outputs"]:
            name = f"layers.{each.layer}.mlp:{each.neuron}"
            table.add_row(name, each.family, f"{each.score.value:.2f}", _null(each.score), f"{each.score.p:.2g}")
        lines += [table, Text("")]
    if cells["antipodal"]:
        table = _table("opposite pair", "reads", "writes", "p")
        for each in cells["antipodal"]:
            name = f"layers.{each.layer}.mlp:{each.first},{each.second}"
            table.add_row(name, f"{each.reads.value:.2f}", f"{each.writes:.2f}", f"{each.reads.p:.2g}")
        lines.append(table)
    return lines or [Text("No neuron can be asked here.")]


def _table(*columns: str, wide: bool = False) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if wide or index == 0 else "right")
    return table
