"""The trace as one page: the picture, its edges with their checks, why heads looked where they did. No scripts."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cutaway.circuits.tracing.dot import to_dot
from cutaway.circuits.tracing.graph import Trace
from cutaway.circuits.tracing.layout import described, shown
from cutaway.circuits.tracing.svg import to_svg
from cutaway.evidence import Measurement


def to_html(trace: Trace) -> str:
    """A self-contained document: text is escaped, nothing is loaded."""
    template: Any = _environment().get_template("trace.html")
    return template.render(trace=trace, picture=Markup(to_svg(trace)))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cutaway.circuits.tracing"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": number, "percent": percent, "measured": measured, "token": shown}
    environment.globals |= {"described": described, "share": share}
    return environment


def number(value: float | None) -> str:
    """A signed number with three digits and a real minus; a dash for what was not measured."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+.3g}".replace("-", "−")


def share(value: float, largest: float) -> int:
    """The width of a bar in percent."""
    return round(100 * abs(value) / largest) if largest else 0


def percent(value: float) -> str:
    """A share as a reader writes it."""
    return f"{value:.1%}".replace("-", "−")


def measured(value: Measurement | None) -> str:
    """A number with its interval and null."""
    if value is None:
        return "not measured"
    interval = "" if math.isnan(value.low) else f" [{value.low:.2f}, {value.high:.2f}]"
    null = "" if math.isnan(value.null_mean) else f"; null {value.null_mean:.2f} ± {value.null_std:.2f}"
    return f"{value.value:.2f}{interval}{null}, p = {value.p:.2g}".replace("-", "−")


FORMS = {".svg": to_svg, ".dot": to_dot, ".html": to_html}
