"""A study as a picture: the curve above the band of random circuits, and the circuit, layer by layer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from cutaway.circuits.drawing.style import FAINT, INK, NEGATIVE, POSITIVE, new_figure, settings
from cutaway.circuits.edges.graph import owners
from cutaway.circuits.faithfulness.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_EDGES = 80  # that are drawn; of a larger circuit the strongest
_BULGE = 0.22
_CURVE, _COLUMN, _ROW, _MARGIN = 4.2, 0.95, 0.42, 0.6  # inches


def study_picture(study: Study, *, title: str = "") -> Figure:
    """Curve on the left, circuit on the right; colour is the sign of an edge's score, dashes say it is an estimate."""
    edges = _drawn(study)
    columns = _columns(study, edges)
    rows = max((len(names) for names in columns.values()), default=1)
    wide = _COLUMN * len(columns) + 2 * _MARGIN
    high = max(3.4, rows * _ROW + 1.4)
    with settings():
        figure = new_figure(_CURVE + wide, high)
        width = _CURVE + wide
        _curve(figure.add_axes((0.75 / width, 0.7 / high, (_CURVE - 1.0) / width, 1 - 1.3 / high)), study)
        axes = figure.add_axes((_CURVE / width, 0, wide / width, 1))
        axes.set_xlim(0, wide)
        axes.set_ylim(0, high)
        axes.axis("off")
        _circuit(axes, study, edges, columns, high)
        figure.text(0.12 / width, 1 - 0.18 / high, title, fontsize=11, weight="bold", va="top")
    return figure


def _curve(axes: Any, study: Study) -> None:
    x = np.array(study.curve.sizes)
    axes.set_xscale("log")
    if len(study.band):
        low, middle, high = np.quantile(study.band, (0.025, 0.5, 0.975), axis=0)
        axes.fill_between(
            x, low, high, color=FAINT, alpha=0.25, linewidth=0, label=f"{len(study.band)} random circuits"
        )
        axes.plot(x, middle, color=FAINT, linewidth=1)
    for curve, colour, name in ((study.curve, INK, "by strength"), (study.signed_curve, POSITIVE, "signed order")):
        if curve is None:
            continue
        found = curve.intervals()
        bars = np.array([[each.value - each.low, each.high - each.value] for each in found]).T.clip(min=0)
        axes.errorbar(x, [each.value for each in found], yerr=bars, color=colour, linewidth=1.4, capsize=2, label=name)
    if study.neurons is not None:
        axes.plot(
            study.neurons.sizes, study.neurons.faithfulness, color=NEGATIVE, linestyle=":", label="neurons and heads"
        )
    axes.axhline(1, color=FAINT, linewidth=0.6)
    axes.plot([study.shares.edges], [study.faithfulness.value], marker="o", color=NEGATIVE, linestyle="none")
    axes.set_xlabel("share of edges (of nodes, dotted)")
    axes.set_ylabel("faithfulness on held-out pairs")
    axes.set_ylim(min(-0.15, float(study.curve.faithfulness.min())), max(1.25, float(study.curve.faithfulness.max())))
    axes.legend(fontsize=7, frameon=False, loc="best")


def _drawn(study: Study) -> list[tuple[int, int]]:
    """The circuit's strongest edges."""
    importance = study.ranking.importance.numpy()
    places = sorted(map(tuple, np.argwhere(study.mask)), key=lambda place: -importance[place])
    return [(int(row), int(column)) for row, column in places[:MOST_EDGES]]


def _ends(study: Study, edge: tuple[int, int]) -> tuple[str, list[str]]:
    """Where an edge starts and the boxes that it ends at (all heads of a group that the circuit uses)."""
    graph = study.topology.graph
    name = graph.targets[edge[1]].name
    group = next((layer.group for layer in study.found.wired.parts.layers
                  if layer.index == graph.targets[edge[1]].layer), 1)  # fmt: skip
    ends = [owner for owner in owners(name, group) if study.mask[graph.source_index[owner]].any()]
    return graph.sources[edge[0]], ends or [name]


def _columns(study: Study, edges: list[tuple[int, int]]) -> dict[float, list[str]]:
    """Boxes by column: embeddings, attention and MLP of each layer, output."""
    found: dict[float, list[str]] = {}
    for edge in edges:
        source, ends = _ends(study, edge)
        for name in (source, *ends):
            names = found.setdefault(_rank(name), [])
            if name not in names:
                names.append(name)
    return {key: sorted(found[key]) for key in sorted(found)}


def _rank(name: str) -> float:
    match = re.match(r"L(\d+)(MLP)?", name)
    if match is None:
        return 1e6 if name == "unembed" else -1.0
    return int(match[1]) + (0.5 if match[2] else 0.0)


def _circuit(
    axes: Any, study: Study, edges: list[tuple[int, int]], columns: dict[float, list[str]], high: float
) -> None:
    places = {
        name: (_MARGIN + number * _COLUMN, high / 2 + (len(names) - 1) * _ROW / 2 - row * _ROW)
        for number, names in enumerate(columns.values())
        for row, name in enumerate(names)
    }
    importance = study.ranking.importance.numpy()
    largest = max((importance[edge] for edge in edges), default=1.0) or 1.0
    for edge in reversed(edges):
        source, ends = _ends(study, edge)
        for end in ends:
            _arrow(axes, study, edge, (places[source], places[end]), float(importance[edge] / largest))
    for name, (x, y) in places.items():
        axes.text(
            x, y, name, ha="center", va="center", fontsize=7,
            bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": INK, "linewidth": 0.7},
        )  # fmt: skip
    shown = "" if len(edges) == study.mask.sum() else f", the {len(edges)} strongest drawn"
    axes.text(
        _MARGIN / 2, 0.3, f"{int(study.mask.sum())} edges{shown}; orange helps, purple hurts; dashed: estimate",
        fontsize=7, color=FAINT, va="center",
    )  # fmt: skip


def _arrow(axes: Any, study: Study, edge: tuple[int, int], ends: tuple, share: float) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    (x, y), (u, v) = ends
    middle, bulge = (
        (x + u) / 2,
        _BULGE * max(0.0, abs(u - x) / _COLUMN - 1),
    )  # so that it passes beside what lies between
    helps = float(study.ranking.scores[edge]) * study.found.gap <= 0
    line = Path(
        [(x, y), (middle, y + bulge), (middle, v + bulge), (u, v)], [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    )
    patch = PathPatch(
        line, fill=False, edgecolor=POSITIVE if helps else NEGATIVE, alpha=0.3 + 0.6 * share,
        linewidth=0.5 + 3.5 * share, linestyle="-" if bool(study.ranking.exact[edge]) else (0, (2.5, 1.2)),
    )  # fmt: skip
    axes.add_patch(patch)
