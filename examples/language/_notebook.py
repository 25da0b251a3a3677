"""What every notebook of this folder shares: drawings of heads and circuits, and what all folders share.

``CUTAWAY_EXAMPLES=small`` makes every notebook small (a test runs them so); ``CUTAWAY_NETWORK`` names another network.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from cutaway.circuits.drawing.style import FAINT, INK, NEGATIVE, POSITIVE

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a kernel starts in the notebook's own folder
from _shared import SIGNED, SMALL, Claims, effect, null, show, signed, sized, start

Edge = tuple[str, str]


def head_grid(values: Mapping[tuple[int, int], float], layers: int, heads: int) -> np.ndarray:
    """Values by (layer, head) as [layer head]; NaN where there is none."""
    grid = np.full((layers, heads), np.nan)
    for (layer, head), value in values.items():
        grid[layer, head] = value
    return grid


def heads_panel(
    axis: Any,
    grid: np.ndarray,
    title: str,
    *,
    is_signed: bool = False,
    end: float | None = None,
    marked: Sequence[tuple[int, int]] = (),
    label: str = "",
) -> None:
    """Layers downwards, heads to the right; ``marked`` heads get a frame and their name."""
    top = float(np.nanmax(np.abs(grid))) if end is None else end
    colours = plt.get_cmap(SIGNED if is_signed else "Blues").with_extremes(bad="#eeeeee")
    shown = axis.imshow(grid, cmap=colours, vmin=-top if is_signed else 0, vmax=top, aspect="auto")
    for layer, head in marked:
        axis.add_patch(plt.Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=1))
        beside = (layer, head + 1) not in marked
        x, y = (head + 0.62, layer) if beside else (head - 0.45, layer - 0.85)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4}
        axis.text(x, y, f"{layer}.{head}", fontsize=6.5, va="center", color=INK, bbox=box)
    axis.set(xlabel="head", ylabel="layer", xticks=range(0, grid.shape[1], 1 if grid.shape[1] <= 12 else 4))
    axis.tick_params(labelsize=7)
    axis.set_title(title, fontsize=9)
    axis.figure.colorbar(shown, ax=axis, shrink=0.8, label=label)


def head_of(name: str) -> tuple[int, int] | None:
    """``L3H1`` (or one of its inputs, ``L3H1.q``) as (3, 1); None for what is no head."""
    match = re.fullmatch(r"L(\d+)H(\d+)(\.[qkv])?", name)
    return None if match is None else (int(match[1]), int(match[2]))


def part_of(target: str, group: int = 1, among: Sequence[str] = ()) -> list[str]:
    """The boxes that a target belongs to: ``L0H1.q`` to L0H1, a group's keys to those of its heads that are ``among``."""
    match = re.fullmatch(r"L(\d+)([HG])(\d+)\.[qkv]", target)
    if match is None:
        return [target]
    first = int(match[3])
    heads = [first] if match[2] == "H" else range(first * group, (first + 1) * group)
    return [name for name in (f"L{match[1]}H{head}" for head in heads) if not among or name in among]


def rank_of(name: str) -> float:
    """Where a part stands in the forward pass: embeddings, then each layer's heads and MLP, then the output."""
    match = re.match(r"L(\d+)(MLP)?", name)
    return (1e6 if name == "unembed" else -1.0) if match is None else int(match[1]) + (0.5 if match[2] else 0.0)


def circuit(
    axis: Any,
    edges: Mapping[Edge, float],
    *,
    group: int = 1,
    colours: Mapping[Edge, str] | None = None,
    title: str = "",
    every: Sequence[str] = (),
) -> None:
    """A circuit from left (embeddings) to right (output): width is |score|, colour its sign or what ``colours`` say.

    Boxes in ``every`` are drawn even where no edge meets them, so that two circuits can be laid out alike.
    """
    sources = sorted({source for source, _ in edges} | set(every))
    ends = {edge: part_of(edge[1], group, sources) or [edge[1]] for edge in edges}
    boxes = {*sources, *(name for found in ends.values() for name in found)}
    columns: dict[float, list[str]] = {}
    for name in sorted(boxes, key=lambda name: (rank_of(name), head_of(name) or (0, 0), name)):
        columns.setdefault(rank_of(name), []).append(name)
    tall = max(map(len, columns.values()))
    # Odd and even columns are shifted a little, so that long lines pass beside boxes.
    places = {
        name: (x, (len(column) - 1) / 2 - row + (0.22 if x % 2 else -0.22) * (len(columns) > 3))
        for x, column in enumerate(columns.values())
        for row, name in enumerate(column)
    }
    most = max(map(abs, edges.values())) or 1.0
    for edge, score in sorted(edges.items(), key=lambda each: abs(each[1])):
        colour = (colours or {}).get(edge, POSITIVE if score >= 0 else NEGATIVE)
        for end in ends[edge]:
            port = PORTS.get(edge[1].rsplit(".", 1)[-1], 0.0) * (tall + 1)
            _line(axis, places[edge[0]], places[end], colour, abs(score) / most, port)
    for name, (x, y) in places.items():
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": INK, "linewidth": 0.7}
        axis.text(x, y, name, ha="center", va="center", fontsize=7, zorder=3, color=INK, bbox=box)
    axis.set(xlim=(-0.6, len(columns) - 0.4), ylim=(-tall / 2 - 0.4, tall / 2 + 0.4))
    axis.axis("off")
    axis.set_title(title, fontsize=9)


PORTS = {"q": 0.016, "v": -0.016}  # queries arrive in the upper, values in the lower part of a box


def _line(
    axis: Any, start_at: tuple[float, float], end_at: tuple[float, float], colour: str, share: float, port: float
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Line

    (x, y), (u, v) = start_at, end_at
    bend = 0.45 * max(0.0, abs(u - x) - 1) * (1 if y + v >= 0 else -1)
    line = Line([(x, y), ((x + u) / 2, y + bend), ((x + u) / 2, v + port + bend), (u, v + port)],
                [Line.MOVETO, Line.CURVE4, Line.CURVE4, Line.CURVE4])  # fmt: skip
    shade = {"edgecolor": colour, "alpha": 0.35 + 0.6 * share, "linewidth": 0.6 + 3 * share}
    axis.add_patch(PathPatch(line, fill=False, zorder=2, clip_on=False, **shade))


__all__ = [
    "FAINT", "INK", "NEGATIVE", "POSITIVE", "SIGNED", "SMALL", "Claims", "circuit", "effect", "head_grid", "head_of", "heads_panel",
    "null", "part_of", "rank_of", "show", "signed", "sized", "start",
]  # fmt: skip
