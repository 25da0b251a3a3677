"""Cards as HTML: a fragment for reports, a page on its own. Text is escaped; nothing is loaded; no scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cutaway.evidence.measurement import Measurement
from cutaway.features.card import Distribution, Example, FeatureCard

_WIDTH, _HEIGHT, _BASE = 360.0, 90.0, 14.0


def fragment(card: FeatureCard) -> str:
    """One card, with the styles that it needs: every class begins with ``card-``."""
    return _template("card.html").render(card=card, styles=True)


def page(cards: Sequence[FeatureCard]) -> str:
    """A whole document that shows the cards one below the other."""
    return _template("page.html").render(cards=cards)


def styles() -> Markup:
    """The cards' style sheet, for a document that shows many cards and wants it once."""
    source = _environment().loader.get_source(_environment(), "card.css")[0]  # type: ignore[union-attr]
    return Markup(source)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cutaway.features"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": number, "measured": measured, "percent": percent}
    environment.globals |= {"histogram": histogram, "token_spans": token_spans, "bar": bar}
    return environment


def _template(name: str) -> Any:
    environment = _environment()
    environment.globals["card_styles"] = styles
    return environment.get_template(name)


def number(value: float | None) -> str:
    """Three significant digits, a real minus sign, a dash for what was not measured."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.3g}"
    if "e" in text:
        digits, _, power = text.partition("e")
        text = f"{digits}·10^{int(power)}"
    return text.replace("-", "−")


def percent(value: float) -> str:
    """A share in per cent, three significant digits."""
    return "–" if not math.isfinite(value) else f"{100 * value:.3g} %".replace("-", "−")


def measured(value: Measurement, *, share: bool = False) -> str:
    """A measurement in words: value, interval, null, p, n."""
    show = percent if share else number
    text = show(value.value)
    if math.isfinite(value.low):
        text += f" [{show(value.low)}, {show(value.high)}]"
    if math.isfinite(value.null_mean):
        text += f"; null {show(value.null_mean)} ± {show(value.null_std)}"
    if math.isfinite(value.p):
        text += f"; p = {number(value.p)}"
    return f"{text}; n = {value.n}"


def bar(value: float, largest: float) -> float:
    """The length of a bar, 0 to 100, for a value among values of that largest magnitude."""
    return 0.0 if largest == 0 else round(100 * abs(value) / largest, 1)


def token_spans(example: Example) -> list[tuple[str, float, bool, str]]:
    """For each token its text, shade in 0..1 (of this example's strongest), whether it is the one, and its value."""
    finite = [abs(value) for value in example.activations if math.isfinite(value)]
    top = max([*finite, abs(example.value)], default=0.0) or 1.0
    sign = 1 if example.value >= 0 else -1
    shades = [max(0.0, sign * value / top) if math.isfinite(value) else 0.0 for value in example.activations]
    rows = enumerate(zip(example.tokens, shades, example.activations))
    return [(_visible(token), shade, i == example.highlight, number(value)) for i, (token, shade, value) in rows]


def _visible(token: str) -> str:
    return token.replace("\n", "⏎").replace("\t", "⇥")


def histogram(distribution: Distribution) -> dict[str, Any]:
    """The geometry of the histogram: bars with log heights, and ticks at least, zero and greatest."""
    low, high = distribution.edges[0], distribution.edges[-1]
    span = (high - low) or 1.0
    tallest = math.log1p(max(distribution.counts))
    floor = _HEIGHT - _BASE
    width = _WIDTH / len(distribution.counts)
    names = [number(edge) for edge in distribution.edges]
    bars = [
        {
            "x": round(i * width, 2),
            "w": round(max(width - 1, 0.5), 2),
            "h": round(floor * math.log1p(count) / tallest, 2),
            "tip": f"{names[i]} to {names[i + 1]}: {count}",
        }
        for i, count in enumerate(distribution.counts)
        if count
    ]
    zero = round(_WIDTH * -low / span, 2) if low < 0 < high else None
    sizes = {"width": _WIDTH, "height": _HEIGHT, "floor": floor}
    return {"bars": bars, "zero": zero, "low": names[0], "high": names[-1], **sizes}
