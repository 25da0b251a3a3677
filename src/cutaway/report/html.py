"""The report as one HTML file that needs no network and runs no script.

Every string from outside passes through two doors, whatever a template does: hidden characters are made visible
(:func:`cutaway.report.text.visible`) and markup is escaped (autoescape). Beside that the file forbids itself any
script and any load from elsewhere by a content security policy, so that even a faulty card could do nothing.
"""

import base64
import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cutaway.audits.findings import AuditResult, Figure, Severity
from cutaway.evidence.measurement import Measurement
from cutaway.evidence.verdicts import Verdict
from cutaway.report import cells, interval_plot, numbers, words
from cutaway.report.cards import Card, card_anchor, cards_of
from cutaway.report.text import visible

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_SCALE = [verdict for verdict in Verdict if verdict.rank >= 0]


def render_html(result: AuditResult) -> str:
    """The whole report as one document; the same result gives the same text."""
    cards = cards_of(result)
    fragments = [_fragment(card) for card in cards]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            headline=words.headline(result),
            worst=result.worst(),
            findings=list(zip(words.anchors(result.findings), result.findings, strict=True)),
            untestable=[item for answer in result.results for item in answer.not_testable],
            missed=[item for answer in result.results for item in answer.not_found],
            cards=[(card, card_anchor(card.address), shown) for card, (shown, _) in zip(cards, fragments, strict=True)],
            card_style=Markup("\n".join(dict.fromkeys(sheet for _, sheets in fragments for sheet in sheets))),
            card_places={str(card.address): card_anchor(card.address) for card in cards},
        )
    )


def picture(figure: Figure) -> str:
    """A figure as a data address; inside ``img`` an SVG runs no script and its ids meet no other's."""
    if figure.svg:
        content, kind = figure.svg.encode("utf-8", "replace"), "svg+xml"
    else:
        content, kind = figure.png, "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _fragment(card: Card) -> tuple[Markup, list[str]]:
    """A card's markup and the style sheets taken out of it: the one place where another room's markup is trusted."""
    source = card.to_html()
    return Markup(_STYLE.sub("", source)), _STYLE.findall(source)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cutaway.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": numbers.number,
        "count": numbers.count,
        "duration": numbers.duration,
        "estimate": numbers.estimate,
        "context": numbers.context,
        "measured": numbers.measured,
        "date": words.date,
        "outcome": words.outcome,
        "outcome_detail": words.outcome_detail,
        "picture": picture,
        "plot": interval_plot.interval_plot,
        "cells": cells.rows,
        "right_aligned": cells.right_aligned,
    }
    environment.globals |= {
        "severities": list(reversed(Severity)),
        "scale": _SCALE,
        "severity_meaning": words.SEVERITY_MEANING,
        "verdict_meaning": words.VERDICT_MEANING,
        "reading": words.READING,
        "plot_width": interval_plot.WIDTH,
        "plot_left": interval_plot.LEFT,
        "plot_right": interval_plot.RIGHT,
        "spoken": _spoken,
    }
    return environment


def _finalize(value: Any) -> Any:
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible(str(value))


def _spoken(measurement: Measurement, name: str) -> str:
    """A plot in one sentence, for readers who do not see it."""
    return f"{name or 'Effect'}: {numbers.measured(measurement)}."
