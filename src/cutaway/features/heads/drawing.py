"""The heads of a network as heat maps, one for each detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cutaway.errors import BadInput
from cutaway.features.heads.report import DETECTORS, HeadReport

TITLES = {
    "induction": "induction", "previous_token": "previous token", "next_token": "next token",
    "duplicate_token": "duplicate token", "copying": "copying (OV)", "successor": "successor (OV)",
    "bos_sink": "rests at the start", "positional": "explained by offset", "subword_merge": "pieces of a word",
}  # fmt: skip
COLUMNS = 4
_FEW_HEADS = 16  # up to which every head gets a tick


def draw_heads(report: HeadReport, path: Path | str) -> Path:
    """Writes a PNG: layers downwards, heads to the right; what does not apply to the network is left out.

    Scores from 0 to 1 run from white to dark blue (one hue, so that it reads in gray and without colour vision);
    copying, which may be negative, runs from orange over white to purple.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [name for name in DETECTORS if report.heads and report.heads[0].score(name) is not None]
    if not shown:
        raise BadInput(f"No detector applied to {report.network}, so there is nothing to draw.")
    layers, heads = 1 + max(h.layer for h in report.heads), 1 + max(h.head for h in report.heads)
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    size = (1 + columns * max(2.2, 0.22 * heads + 0.9), 0.6 + rows * max(2.2, 0.16 * layers + 0.8))
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, name in zip(axes, shown):
        _panel(figure, axis, report, name, layers, heads)
    for axis in axes[len(shown) :]:
        axis.axis("off")
    figure.suptitle(f"{report.network}: attention heads")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    return target


def score_map(report: HeadReport, detector: str, layers: int, heads: int) -> np.ndarray:
    """Values [layer head]; NaN where there is no such head."""
    values = np.full((layers, heads), np.nan)
    for each in report.heads:
        found = each.score(detector)
        if found is not None:
            values[each.layer, each.head] = found.value
    return values


def _panel(figure: Any, axis: Any, report: HeadReport, name: str, layers: int, heads: int) -> None:
    values = score_map(report, name, layers, heads)
    signed = name == "copying"
    top = max(1e-9, float(np.nanmax(values))) if name in ("successor", "subword_merge") else 1.0
    low, high = (-1.0, 1.0) if signed else (0.0, top)
    image = axis.imshow(values, cmap="PuOr" if signed else "Blues", vmin=low, vmax=high, aspect="auto")
    axis.set_title(TITLES[name], fontsize=10)
    step = 1 if layers <= _FEW_HEADS else 5
    axis.set_yticks(range(0, layers, step))
    axis.set_xticks(range(0, heads, 1 if heads <= _FEW_HEADS else 4))
    axis.tick_params(labelsize=7)
    axis.set_xlabel("head", fontsize=8)
    axis.set_ylabel("layer", fontsize=8)
    bar = figure.colorbar(image, ax=axis, shrink=0.8)
    bar.ax.tick_params(labelsize=7)
