"""Small multiples: many kernels on one shared signed scale, and the factors of a kernel with their channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.drawing.style import FAINT, bare, largest, legend, new_figure, settings, signed_image
from cutaway.circuits.factors import Factors
from cutaway.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TILE, _GAP, _LABEL = 0.95, 0.14, 0.34  # inches
_LONGEST = 14  # characters under a tile
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.25, 1.15, 0.62, 0.15


def kernel_tiles(
    kernels: Float[Tensor, "tile y x"],
    labels: Sequence[str],
    *,
    title: str = "",
    notes: Sequence[str] = (),
    columns: int = 6,
    pictures: Sequence[Float[np.ndarray, "height width 3"]] = (),
) -> Figure:
    """Kernels side by side with their labels, all on one scale (its end is the largest magnitude).

    ``notes`` are second lines under the labels (a share, say); ``pictures`` (RGB, 0..1), where given, are drawn above
    each kernel, such as feature visualizations of its channel.
    """
    if len(kernels) == 0 or len(labels) != len(kernels):
        raise BadInput(f"{len(labels)} labels were given for {len(kernels)} kernels; give one for each, at least one.")
    labels, common = _shortened(labels)
    values = kernels.detach().double().cpu().numpy()
    end = largest(values)
    grid = _Grid(len(values), min(columns, len(values)), label=_LABEL + (0.15 if notes else 0), stacked=bool(pictures))
    with settings():
        figure = new_figure(*grid.size)
        figure.text(_LEFT / grid.size[0], 1 - 0.2 / grid.size[1], title, fontsize=11, weight="bold", va="top")
        figure.text(_LEFT / grid.size[0], 1 - 0.42 / grid.size[1], common, fontsize=8, color=FAINT, va="top")
        for index, kernel in enumerate(values):
            if pictures:
                picture = figure.add_axes(grid.box(index, upper=True))
                picture.imshow(np.clip(pictures[index], 0, 1))
                bare(picture)
            _tile(figure, grid.box(index), kernel, end, labels[index], notes[index] if notes else "")
        legend(figure, grid.legend(), end, "weight")
    return figure


def _shortened(labels: Sequence[str]) -> tuple[list[str], str]:
    """Labels that fit a tile, and what was taken out of them: addresses of one site with a long name keep the unit."""
    sites = {label.rpartition(":")[0] for label in labels}
    if max(len(label) for label in labels) <= _LONGEST or len(sites) > 1 or "" in sites:
        return list(labels), ""
    return [f":{label.rpartition(':')[2]}" for label in labels], f"units of {sites.pop()}"


def _tile(figure: Figure, box: Any, kernel: Float[np.ndarray, "y x"], end: float, label: str, note: str) -> None:
    axes = figure.add_axes(box)
    signed_image(axes, kernel, end)
    bare(axes)
    inches = axes.get_position().height * figure.get_size_inches()[1]
    axes.text(0.5, -0.05 / inches, label, ha="center", va="top", fontsize=8, transform=axes.transAxes)
    if note:
        axes.text(0.5, -0.2 / inches, note, ha="center", va="top", fontsize=7, color=FAINT, transform=axes.transAxes)


class _Grid:
    """Where tiles stand in a figure, in shares of its size."""

    def __init__(self, count: int, columns: int, *, label: float, stacked: bool) -> None:
        self._columns, self._label, self._stacked = columns, label, stacked
        rows = -(-count // columns)
        self._cell = _TILE * (2 if stacked else 1) + label
        width = max(_LEFT + columns * (_TILE + _GAP) + _RIGHT, 4.2)
        self.size = (width, max(_TOP + rows * self._cell + _BOTTOM, 2.1))

    def box(self, index: int, *, upper: bool = False) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a tile, or of the picture above it."""
        row, column = divmod(index, self._columns)
        left = _LEFT + column * (_TILE + _GAP)
        top = self.size[1] - _TOP - row * self._cell - (_TILE if self._stacked and not upper else 0)
        return left / self.size[0], (top - _TILE) / self.size[1], _TILE / self.size[0], _TILE / self.size[1]

    def legend(self) -> tuple[float, float, float, float]:
        """Where the colour scale stands."""
        width, height = self.size
        long = min(height - 1.15, 2.2)
        return (width - 0.72) / width, (height - _TOP - 0.12 - long) / height, 0.14 / width, long / height


def factor_panels(factors: Factors, *, title: str = "", target: int = 0, channels: int = 8) -> Figure:
    """One row for each factor: where the target wants it (signed), and which channels it collects (loadings, >= 0)."""
    count = factors.channels.shape[1]
    space = factors.space[target].detach().double().cpu().numpy()
    end = largest(space)
    height = 0.95 + 1.75 * count + 0.1
    with settings():
        figure = new_figure(7.2, height)
        figure.text(0.03, 1 - 0.18 / height, title, fontsize=11, weight="bold", va="top")
        figure.text(0.03, 1 - 0.45 / height, _explained(factors), fontsize=8, color=FAINT, va="top")
        for factor in range(count):
            bottom = (height - 0.95 - 1.75 * factor - 1.4) / height
            axes = figure.add_axes((0.05, bottom, 1.4 / 7.2, 1.4 / height))
            signed_image(axes, space[factor], end)
            bare(axes)
            axes.set_title(f"factor {factor + 1}: explains {factors.shares[factor]:.0%}", fontsize=8, loc="left", pad=3)
            _bars(figure.add_axes((0.42, bottom, 0.36, 1.4 / height)), factors, factor, channels)
        long = min(1.4, height - 1.9)
        legend(figure, (0.9, (height - 1.05 - long) / height, 0.02, long / height), end, "weight")
    return figure


def _explained(factors: Factors) -> str:
    measured = factors.explained
    null = (
        ""
        if measured.null_mean != measured.null_mean
        else f", permuted weights {measured.null_mean:.0%} (p = {measured.p:.2g})"
    )
    return f"explained {measured.value:.0%} of the weights' sum of squares{null}"


def _bars(axes: Any, factors: Factors, factor: int, count: int) -> None:
    loads = factors.top_channels(factor, count)
    names, common = _shortened([f"{factors.source}:{unit}" if factors.source else str(unit) for unit, _ in loads])
    axes.set_title(common, fontsize=8, loc="left", pad=3, color=FAINT)
    axes.barh(range(len(loads)), [load for _, load in loads], color="#666666", height=0.7)
    axes.set_yticks(range(len(loads)), names, fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(length=0, labelsize=8)
    axes.set_xlim(0, max(load for _, load in loads) * 1.05 or 1.0)
    axes.set_xticks([0, round(loads[0][1], 2)] if loads[0][1] > 0.005 else [0])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
