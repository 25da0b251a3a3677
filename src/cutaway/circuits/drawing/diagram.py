"""Circuit diagrams: units in columns, one for each layer, joined by signed edges as thick as their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from cutaway.circuits.drawing.style import FAINT, INK, NEGATIVE, POSITIVE, new_figure, settings
from cutaway.circuits.graph import Circuit, Edge
from cutaway.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STEP, _ROW, _LOW_ROW, _PICTURE = 3.0, 1.0, 0.52, 0.7  # inches; rows are lower where there are no pictures
_BOX = (1.25, 0.34)
_LONGEST = 15  # characters that fit a box
_THICKEST, _THINNEST = 6.0, 0.4  # points
_TOP, _BOTTOM, _SIDE = 0.75, 0.6, 1.1

Thumbnails = Mapping[str, Float[np.ndarray, "y x 3"]]


def circuit_diagram(circuit: Circuit, *, thumbnails: Thumbnails | None = None, title: str = "") -> Figure:
    """The circuit from left to right; ``thumbnails`` (RGB, 0..1, by address) stand for units where given.

    Colour is the sign of an edge's summed weight, thickness the summed weight's magnitude relative to the largest.
    """
    if not circuit.nodes:
        raise BadInput("A circuit without units was to be drawn; give at least one.")
    columns: dict[int, list[str]] = {}
    for node in circuit.nodes:
        columns.setdefault(node.column, []).append(node.address)
    rows = max(len(addresses) for addresses in columns.values())
    width = 2 * _SIDE + _STEP * (len(columns) - 1)
    pictures = dict(thumbnails or {})
    row = _ROW if pictures else _LOW_ROW
    height = _TOP + _BOTTOM + rows * row
    places = _places(_untangled(columns, circuit), rows, row)
    halves = {address: (_PICTURE if address in pictures else _BOX[0]) / 2 + 0.03 for address in places}
    with settings():
        figure = new_figure(max(width, 4.2), height)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, max(width, 4.2))
        axes.set_ylim(0, height)
        axes.axis("off")
        axes.text(0.2, height - 0.2, title, fontsize=11, weight="bold", va="top")
        for number, addresses in enumerate(columns[key] for key in sorted(columns)):
            site = addresses[0].partition(":")[0]
            axes.text(_SIDE + number * _STEP, height - 0.58, site, ha="center", va="center", color=FAINT)
        _edges(axes, circuit, places, halves)
        for address, place in places.items():
            _node(axes, address, place, pictures.get(address))
        _key(axes, circuit)
    return figure


def _untangled(columns: dict[int, list[str]], circuit: Circuit) -> dict[int, list[str]]:
    """Columns from right to left, each sorted by the mean place of what its units lead to, so that few edges cross."""
    keys = sorted(columns)
    sorted_columns = {keys[-1]: columns[keys[-1]]}
    for key, after in zip(keys[-2::-1], keys[:0:-1]):
        rank = {address: row for row, address in enumerate(sorted_columns[after])}
        sorted_columns[key] = sorted(columns[key], key=lambda address: _mean_rank(address, circuit, rank))
    return sorted_columns


def _mean_rank(address: str, circuit: Circuit, rank: dict[str, int]) -> float:
    own = [
        (abs(edge.total), rank[edge.target]) for edge in circuit.edges if edge.source == address and edge.target in rank
    ]
    weight = sum(size for size, _ in own)
    return sum(size * row for size, row in own) / weight if weight else float(len(rank))


def _places(columns: dict[int, list[str]], rows: int, row_height: float) -> dict[str, tuple[float, float]]:
    """Each unit's middle in inches: columns centred on one line."""
    places = {}
    for number, key in enumerate(sorted(columns)):
        gap = (rows - len(columns[key])) / 2
        for row, address in enumerate(columns[key]):
            places[address] = (_SIDE + number * _STEP, _BOTTOM + (rows - gap - row - 0.5) * row_height)
    return places


def _edges(axes: Any, circuit: Circuit, places: dict[str, tuple[float, float]], halves: dict[str, float]) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    largest = max((abs(edge.total) for edge in circuit.edges), default=0.0) or 1.0
    for edge in sorted(circuit.edges, key=lambda each: abs(each.total)):
        (x, y), (u, v) = places[edge.source], places[edge.target]
        x, u = x + halves[edge.source], u - halves[edge.target]
        middle = (x + u) / 2
        curve = Path([(x, y), (middle, y), (middle, v), (u, v)], [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
        share = abs(edge.total) / largest
        patch = PathPatch(
            curve, fill=False, edgecolor=POSITIVE if edge.total >= 0 else NEGATIVE, alpha=0.35 + 0.6 * share,
            linewidth=_THINNEST + (_THICKEST - _THINNEST) * share, linestyle="-" if edge.exact else (0, (2.5, 1.2)),
            capstyle="butt",
        )  # fmt: skip
        patch.set_gid(f"{edge.source}->{edge.target}")
        axes.add_patch(patch)
    for edge in _labelled(circuit):
        (x, y), (_, v) = places[edge.source], places[edge.target]
        side = -0.11 if v > y else 0.11  # away from where the edge bends to
        number, colour = f"{edge.total:+.2g}".replace("-", "−"), POSITIVE if edge.total >= 0 else NEGATIVE
        axes.text(x + halves[edge.source] + 0.08, y + side, number, fontsize=8, va="center", color=colour)


def _labelled(circuit: Circuit) -> list[Edge]:
    """Edges whose numbers have a place of their own: those that alone leave their unit."""
    counts: dict[str, int] = {}
    for edge in circuit.edges:
        counts[edge.source] = counts.get(edge.source, 0) + 1
    return [edge for edge in circuit.edges if counts[edge.source] == 1]


def _node(axes: Any, address: str, place: tuple[float, float], picture: Float[np.ndarray, "y x 3"] | None) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = place
    if picture is None:
        box = FancyBboxPatch(
            (x - _BOX[0] / 2 + 0.06, y - _BOX[1] / 2 + 0.06), _BOX[0] - 0.12, _BOX[1] - 0.12,
            boxstyle="round,pad=0.06", facecolor="white", edgecolor=INK, linewidth=0.8,
        )  # fmt: skip
        axes.add_patch(box)
        axes.text(x, y - 0.01, _fitting(address), ha="center", va="center")
        return
    half = _PICTURE / 2
    axes.imshow(np.clip(picture, 0, 1), extent=(x - half, x + half, y - half + 0.06, y + half + 0.06), zorder=3)
    axes.text(x, y - half + 0.03, _fitting(address), ha="center", va="top", fontsize=8)


def _fitting(address: str) -> str:
    """The address, or only its unit where it is too long for a box (the column's head names the site)."""
    return address if len(address) <= _LONGEST else f":{address.rpartition(':')[2]}"


def _key(axes: Any, circuit: Circuit) -> None:
    """What colour, thickness and dashes mean."""
    largest = max((abs(edge.total) for edge in circuit.edges), default=0.0)
    y, x = 0.22, 0.25
    for colour, word in ((POSITIVE, "excites"), (NEGATIVE, "inhibits")):
        axes.plot([x, x + 0.35], [y, y], color=colour, linewidth=3, solid_capstyle="butt")
        axes.text(x + 0.42, y, word, va="center", fontsize=8)
        x += 1.05
    axes.text(x, y, f"thickest: |sum of weights| = {largest:.2g}", va="center", fontsize=8, color=INK)
    if any(not edge.exact for edge in circuit.edges):
        axes.text(x, y - 0.15, "dashed: a nonlinearity lies between", va="center", fontsize=7, color=FAINT)
