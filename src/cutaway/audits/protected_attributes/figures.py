"""The pictures of this rule: SVG text, in colours that the colour-blind can tell apart (Okabe and Ito 2008)."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from cutaway.audits.findings import Figure
from cutaway.audits.protected_attributes.edges import Edge
from cutaway.audits.protected_attributes.encoding import Encoding
from cutaway.audits.protected_attributes.occupations import PLAIN_CHECK
from cutaway.audits.protected_attributes.stereotypes import Outside, Pushes

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "cutaway", "font.size": 9, "font.family": "sans-serif"}


def _svg(figure: Canvas) -> str:
    with mpl.rc_context(_STYLE):
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _axes(width: float, height: float) -> tuple[Canvas, Any]:
    with mpl.rc_context(_STYLE):
        figure = Canvas(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def gap_figure(seen: Outside) -> Figure:
    """The pronoun gap of every occupation against the share of women in it."""
    figure, axes = _axes(7.4, 5.0)
    women = np.array([occupation.women_percent for occupation in seen.occupations])
    gap = seen.gaps.gap.mean(1)
    axes.axhline(0, color=GREY, linewidth=0.8)
    named = {name: colour for names, colour in zip(PLAIN_CHECK, (ORANGE, BLUE)) for name in names}
    extremes = [seen.occupations[i].name for i in (*np.argsort(gap)[:4], *np.argsort(gap)[-4:])]
    at = {one.name: (float(x), float(y)) for one, x, y in zip(seen.occupations, women, gap)}
    for name, place in at.items():
        axes.plot(*place, "o", color=named.get(name, GREY), markersize=5)
    placed: list[tuple[float, float]] = []
    checked = sorted((name for name in named if name in at), key=lambda name: -at[name][1])
    for name in dict.fromkeys([*checked, *extremes]):
        # A label of an extreme gives way to one that is there already; those of the plain check are always shown.
        crowded = any(abs(at[name][0] - x) < 12 and abs(at[name][1] - y) < 0.05 * np.ptp(gap) for x, y in placed)
        if name in named or not crowded:
            _label(axes, name, at[name], named.get(name, GREY), below=crowded)
            placed.append(at[name])
    axes.set(xlabel="women in the occupation (%, US, 2022)", ylabel="log p(he) / p(she), nats", xlim=(-3, 103))
    rho = seen.alignment
    return Figure(
        f"Each dot is an occupation: how much likelier 'he' than 'she' follows it, against the share of women. Above "
        f"the line 'he' is likelier. Orange and blue are the six of the plain check. Spearman {-rho.value:.2f} "
        f"(n = {rho.n}, p = {rho.p:.2g}).",
        _svg(figure),
    )


def _label(axes: Any, text: str, place: tuple[float, float], colour: str, *, below: bool) -> None:
    left = place[0] > 80
    axes.annotate(
        text, place, xytext=(-6 if left else 6, -9 if below else 2), textcoords="offset points", color=colour,
        ha="right" if left else "left", fontsize=8,
    )  # fmt: skip


def encoding_figure(encodings: Sequence[Encoding]) -> Figure:
    """AUROC of each attribute at each site."""
    figure, axes = _axes(6.6, 0.34 * len(encodings) + 1.3)
    sites = [one.site for one in encodings[0].probes]
    values = np.array([[one.auroc.value for one in encoding.probes] for encoding in encodings])
    image = axes.imshow(values, cmap="cividis", vmin=0.5, vmax=1.0, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column, row, f"{value:.2f}", ha="center", va="center", fontsize=8,
            color="black" if value > 0.78 else "white",
        )  # fmt: skip
    axes.set_xticks(range(len(sites)), [site.removeprefix("layers.") for site in sites])
    names = [("* " if one.grade.verdict.rank > 0 else "") + one.attribute for one in encodings]
    axes.set_yticks(range(len(encodings)), names)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="AUROC", fraction=0.05)
    return Figure(
        "How well each attribute can be read at each layer of the residual stream, on markers held out from the probe "
        "(AUROC; 0.5 is chance). A star marks those that beat every null after correction.",
        _svg(figure),
    )


def edges_figure(edges: Sequence[Edge]) -> Figure:
    """Every significant edge: the effect of the words, of the shift inside, and on the untrained twin."""
    figure, axes = _axes(7.4, 0.55 * len(edges) + 1.4)
    axes.axvline(0, color=GREY, linewidth=0.8)
    for place, edge in enumerate(reversed(edges)):
        rows = [(edge.total, BLUE, "o", 0.2, "words swapped")]
        if edge.inside is not None:
            rows.append((edge.inside.effect, ORANGE, "s", 0.0, "shift added inside"))
            rows.append((edge.inside.twin, GREY, "D", -0.2, "untrained twin"))
        for measured, colour, shape, offset, label in rows:
            line = [measured.low, measured.high]
            axes.plot(line, [place + offset] * 2, color=colour, linewidth=1.6)
            axes.plot(
                measured.value, place + offset, shape, color=colour, markersize=5, label=label if place == 0 else None
            )
    axes.set_yticks(range(len(edges)), [f"{edge.markers} → {edge.sink}" for edge in reversed(edges)])
    axes.set(xlabel="change of the log-odds of the favorable answer, nats", ylim=(-0.6, len(edges) - 0.4))
    above = (0.5, 1.18 + 0.2 / len(edges))
    axes.legend(loc="upper center", bbox_to_anchor=above, ncols=3, frameon=False, fontsize=8)
    return Figure(
        "Edges from attributes to decisions, with 95 % intervals over marker pairs: right of the line the marked "
        "person is treated better, left worse. The shift inside is estimated without the person's own words.",
        _svg(figure),
    )


def pushes_figure(pushed: Pushes) -> Figure:
    """e(female -> occupation) inside and outside, occupations in order of the share of women."""
    order = np.argsort(pushed.women)
    figure, axes = _axes(7.4, 0.2 * len(order) + 1.2)
    axes.axvline(0, color=GREY, linewidth=0.8)
    total = np.array([one.value for one in pushed.total])
    places = np.arange(len(order))
    axes.plot(total[order], places, "o", color=BLUE, markersize=5, label="words swapped")
    axes.plot(np.array(pushed.inside)[order], places, "s", color=ORANGE, markersize=4, label="shift added inside")
    axes.set_yticks(places, [f"{pushed.occupations[i]} ({pushed.women[i]:.0f} %)" for i in order], fontsize=8)
    axes.set(xlabel="change of the occupation's log-odds for a female instead of a male person, nats")
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return Figure(
        "What being female does to each occupation, from the fewest women (below) to the most (above): right of the "
        "line it is excited, left inhibited.",
        _svg(figure),
    )
