"""Signed colours, their legend, and files: what all drawings of weights share.

Purple is negative, orange positive, white zero: a pair that people with any of the common colour-vision deficiencies
tell apart, and whose lightness falls towards both ends (ColorBrewer's PuOr). The scale is symmetric, so that white is
always zero, and is drawn beside every picture.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from cutaway.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = "PuOr_r"
POSITIVE, NEGATIVE = "#b35806", "#542788"
INK, FAINT = "#222222", "#8a8a8a"
SUFFIXES = (".svg", ".png")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be selected and searched
    "svg.hashsalt": "cutaway",  # the same picture gives the same bytes
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.6,
    "text.color": INK,
    "axes.labelcolor": INK,
}


def settings() -> Any:
    """A ``with`` block in which Matplotlib uses the settings of these drawings; the user's own return after it."""
    import matplotlib

    return matplotlib.rc_context(_SETTINGS)


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of that many inches, outside of any global state; a notebook shows it as it is saved."""
    return _drawing()(figsize=(width, height), facecolor="white", dpi=100)


@cache
def _drawing() -> type[Figure]:
    """The class of these figures, made at first use because Matplotlib is loaded only to draw."""
    from matplotlib.figure import Figure

    class Drawing(Figure):
        """A figure that shows itself in notebooks; Matplotlib's own does so only after ``import matplotlib.pyplot``."""

        def _repr_png_(self) -> bytes:
            return to_bytes(self, "png", dpi=100)

    return Drawing


def largest(values: Float[np.ndarray, ...], quantile: float = 1.0) -> float:
    """The end of the symmetric scale: the largest magnitude (or a quantile of magnitudes), 1 where all are zero."""
    magnitudes = np.abs(values[np.isfinite(values)])
    top = float(np.quantile(magnitudes, quantile)) if magnitudes.size else 0.0
    return top if top > 0 else 1.0


def signed_image(axes: Axes, values: Float[np.ndarray, "y x"], end: float) -> Any:
    """Draws values as crisp squares between -end and end; values that are not numbers are grey."""
    import matplotlib

    colours = matplotlib.colormaps[COLOURS].with_extremes(bad="#dddddd")
    image = axes.imshow(values, cmap=colours, vmin=-end, vmax=end, interpolation="nearest", aspect="equal")
    image.set_rasterized(False)
    return image


def legend(figure: Figure, box: Sequence[float], end: float, name: str, *, beyond: bool = False) -> None:
    """A vertical colour scale at ``box`` (left, bottom, width, height in shares of the figure), its ends in words.

    ``beyond`` says that some values lie outside of the scale and have the colour of its end.
    """
    axes = figure.add_axes((box[0], box[1], box[2], box[3]))
    signed_image(axes, np.linspace(end, -end, 64)[:, None], end)
    axes.set_aspect("auto")
    axes.set_xticks([])
    axes.yaxis.tick_right()
    more, less = ("≥ ", "≤ ") if beyond else ("", "")
    axes.set_yticks([0, 31.5, 63], [f"{more}+{end:.2g}", "0", f"{less}−{end:.2g}"], fontsize=8)
    axes.tick_params(length=0, pad=3)
    axes.set_title("excites", fontsize=8, color=POSITIVE, pad=3)
    axes.set_xlabel("inhibits", fontsize=8, color=NEGATIVE, labelpad=3)
    axes.text(-0.45, 0.5, name, rotation=90, va="center", ha="right", transform=axes.transAxes, fontsize=8)


def bare(axes: Axes) -> None:
    """Axes without ticks."""
    axes.set_xticks([])
    axes.set_yticks([])


def to_bytes(figure: Figure, kind: str, *, dpi: int = 160) -> bytes:
    """The figure as ``svg`` or ``png``: the same bytes for the same picture."""
    if f".{kind}" not in SUFFIXES:
        raise BadInput(f"A picture as {kind!r} was asked for; choose svg or png.")
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with settings():
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def check_suffix(path: Path) -> str:
    """``svg`` or ``png`` by the name's end; ``BadInput`` for another."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"A picture was to be written to {path.name}; end the name in .svg or .png.")
    return path.suffix.lower()[1:]


def save(figure: Figure, path: str | Path) -> Path:
    """Writes the figure to a file ending in ``.svg`` or ``.png``, making its folder; returns the path."""
    target = Path(path)
    kind = check_suffix(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(to_bytes(figure, kind))
    return target
