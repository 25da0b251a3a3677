"""One picture of an unfolding: how much survives at which L0, and how many things features mean before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cutaway.bases.evaluation.evaluate import Evaluation
from cutaway.errors import BadInput

COLOURS = {"random": "#999999", "pca": "#E69F00", "neurons": "#009E73", "linear": "#CC79A7"}  # Okabe and Ito 2008
OWN = "#0072B2"
_MARKS = {"random": "x", "pca": "s", "neurons": "^", "linear": "D"}


def draw_unfolding(
    evaluations: Sequence[Evaluation],
    path: Path | str,
    *,
    purity: Mapping[str, Float[np.ndarray, " unit"]] | None = None,
    measure: str = "polysemanticity",
    subtitle: str = "",
) -> Path:
    """Writes a PNG: explained variance over L0 (each dictionary with its rivals at the same L0), and, if given, the
    distribution of ``purity`` for each named set of units, its median as a line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not evaluations:
        raise BadInput("No evaluation was given, so there is nothing to draw.")
    panels = 1 if not purity else 2
    figure = Figure(figsize=(4.6 * panels + 0.6, 4.2), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _survival(axes[0], evaluations)
    if purity:
        _distributions(axes[1], purity, measure)
    first = evaluations[0]
    figure.suptitle(f"{first.network}, {first.origin.writes}{f': {subtitle}' if subtitle else ''}", fontsize=10)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    return target


def _survival(axis: Any, evaluations: Sequence[Evaluation]) -> None:
    for index, each in enumerate(evaluations):
        own = each.own.reconstruction
        value = own.explained_variance
        reach = [[max(value.value - value.low, 0)], [max(value.high - value.value, 0)]]
        reach = None if np.isnan(value.low) else reach
        axis.errorbar([own.l0.value], [value.value], yerr=reach, color=OWN, marker="o", capsize=3,
                      label="dictionary" if index == 0 else None)  # fmt: skip
        axis.annotate(each.basis, (own.l0.value, value.value), fontsize=7, xytext=(4, 4), textcoords="offset points")
        for score in each.scores[1:]:
            if score.name in COLOURS:
                axis.plot([own.l0.value], [score.reconstruction.explained_variance.value], _MARKS[score.name],
                          color=COLOURS[score.name], label=score.name if index == 0 else None)  # fmt: skip
    axis.axhline(0, color="#cccccc", linewidth=1)
    axis.set(xlabel="L0 (active latents a row)", ylabel="explained variance, held out", ylim=(-0.1, 1.05))
    axis.legend(fontsize=7, loc="lower right")


def _distributions(axis: Any, purity: Mapping[str, Any], measure: str) -> None:
    rng = np.random.default_rng(0)
    for place, (_name, values) in enumerate(purity.items()):
        spread = place + 0.25 * (rng.random(len(values)) - 0.5)
        axis.plot(spread, values, ".", color=OWN if place else "#999999", markersize=4, alpha=0.7)
        if len(values):
            axis.plot([place - 0.25, place + 0.25], [float(np.median(values))] * 2, color="black", linewidth=2)
    axis.set_xticks(range(len(purity)), [f"{name}\n(n = {len(values)})" for name, values in purity.items()], fontsize=8)
    axis.set(ylabel=measure, xlim=(-0.5, len(purity) - 0.5))
