"""Weight matrices as heat maps, sorted, with the angles of both sides on the axes; weights by relative angle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.contributions import AngleProfile
from cutaway.circuits.drawing.style import (
    FAINT,
    NEGATIVE,
    POSITIVE,
    largest,
    legend,
    new_figure,
    settings,
    signed_image,
)
from cutaway.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NAMED = 48  # rows or columns that each get a label of their own


def weight_matrix(
    matrix: Float[Tensor, "target source"],
    *,
    source: str,
    target: str,
    source_labels: Sequence[str] = (),
    target_labels: Sequence[str] = (),
    source_angles: Sequence[float] = (),
    target_angles: Sequence[float] = (),
    title: str = "",
    note: str = "",
    saturate: float = 1.0,
) -> Figure:
    """A sorted matrix (rows are targets) as a heat map; with angles in degrees, these are what the axes show.

    The scale ends at the ``saturate`` quantile of magnitudes (1: the largest), beyond which colours stay the same; the
    legend says so. ``note`` stands in small letters below the title.
    """
    for size, words, angles, side in (
        (matrix.shape[0], target_labels, target_angles, "row"),
        (matrix.shape[1], source_labels, source_angles, "column"),
    ):
        if (words and len(words) != size) or (angles and len(angles) != size):
            raise BadInput(f"The matrix has {size} {side}s; give as many labels or angles, or none.")
    values = matrix.detach().double().cpu().numpy()
    end = largest(values, saturate)
    width, height = _inches(values.shape)
    total = (width + 2.4, height + 1.4)
    with settings():
        figure = new_figure(*total)
        axes = figure.add_axes((0.95 / total[0], 0.75 / total[1], width / total[0], height / total[1]))
        signed_image(axes, values, end).axes.set_aspect("auto")
        _ticks(axes.set_xticks, values.shape[1], source_labels, source_angles, rotation=90)
        _ticks(axes.set_yticks, values.shape[0], target_labels, target_angles, rotation=0)
        axes.tick_params(length=2, labelsize=7, color=FAINT)
        axes.set_xlabel(f"{source}{' (preferred angle)' if source_angles else ''}", fontsize=9)
        axes.set_ylabel(f"{target}{' (preferred angle)' if target_angles else ''}", fontsize=9)
        figure.text(0.95 / total[0], 1 - 0.2 / total[1], title, fontsize=11, weight="bold", va="top")
        figure.text(0.95 / total[0], 1 - 0.42 / total[1], note, fontsize=7.5, color=FAINT, va="top")
        long = min(height - 0.3, 2.4)
        box = (1 - 0.85 / total[0], 0.9 / total[1], 0.15 / total[0], long / total[1])
        legend(figure, box, end, "weight", beyond=bool(np.abs(values).max() > end))
    return figure


def _inches(shape: tuple[int, ...]) -> tuple[float, float]:
    """Cells of one size, within what a page holds."""
    cell = min(0.3, 6.0 / max(shape))
    return max(shape[1] * cell, 2.0), max(shape[0] * cell, 1.6)


def _ticks(set_ticks: Any, count: int, labels: Sequence[str], angles: Sequence[float], *, rotation: int) -> None:
    words = [f"{angle:.0f}°" for angle in angles] if angles else list(labels)
    if not words:
        words = [str(index) for index in range(count)]
    step = -(-count // _MOST_NAMED)
    places = list(range(0, count, step))
    set_ticks(places, [words[place] for place in places], rotation=rotation)


def angle_profile(profile: AngleProfile, *, title: str = "") -> Figure:
    """Bars of the mean weight by relative angle, orange above and purple below zero, with the number of pairs."""
    with settings():
        figure = new_figure(5.2, 3.0)
        axes = figure.add_axes((0.15, 0.2, 0.8, 0.64))
        means = np.nan_to_num(profile.means)
        colours = [POSITIVE if mean >= 0 else NEGATIVE for mean in means]
        axes.bar(profile.centres, means, width=0.85 * profile.period / len(means), color=colours)
        axes.axhline(0, color=FAINT, linewidth=0.8)
        ticks = np.linspace(-profile.period / 2, profile.period / 2, 5)
        axes.set_xticks(ticks, [f"{tick:.0f}°" for tick in ticks])
        axes.set_xlabel("target angle minus source angle")
        axes.set_ylabel("mean weight")
        axes.set_title(title, fontsize=11, weight="bold", loc="left")
        axes.text(0.99, 0.97, f"{sum(profile.counts)} pairs", ha="right", va="top", fontsize=8, color=FAINT,
                  transform=axes.transAxes)  # fmt: skip
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure
