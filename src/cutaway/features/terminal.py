"""A card in the terminal, with rich: pictures are told by name and position, texts are shaded."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cutaway.features.card import Effect, Example, FeatureCard, WeightTable
from cutaway.features.html import measured, number, token_spans

_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHOWN = 4  # examples of each level; the HTML card has them all


def render(card: FeatureCard) -> RenderableType:
    """The whole card as one panel; texts from stimuli are shown as they are, never as markup."""
    parts: list[RenderableType] = [_facts(card)]
    for level, examples in card.groups:
        parts += [Text(f"\n{level}", style="bold"), *(_example(example) for example in examples[:_SHOWN])]
    for title, effects in (("raises", card.outputs.raised), ("lowers", card.outputs.lowered)):
        if effects:
            parts += [Text(f"\n{title} ({card.outputs.unit})", style="bold"), _effects(effects)]
    parts += [_weights(table) for table in (*card.weights.inputs, *card.weights.outputs)]
    parts.append(Text(f"\n{card.reproduce}", style="dim"))
    return Panel(Group(*parts), title=Text(f"{card.address}  ·  {card.network}"), title_align="left")


def _facts(card: FeatureCard) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    name, _, count = card.stimuli
    rows = [
        ("site", f"{card.site_kind} ({card.site_layout})"),
        ("stimuli", f"{count} of {name}, seed {card.seed}"),
        *(("note", note) for note in card.notes),
        ("fires", measured(card.firing_rate, share=True)),
        ("activations", _activations(card)),
        ("kinds", _kinds(card)),
        *_looks(card),
        ("downstream", " ".join(filter(None, (card.outputs.summary, card.outputs.reason)))),
        *((f"  {what}", measured(value, share=what.startswith("share"))) for what, value in card.outputs.measures),
    ]  # fmt: skip
    for key, value in rows:
        table.add_row(Text(key), Text(value))
    return table


def _activations(card: FeatureCard) -> str:
    edges = card.distribution.edges
    return f"{_sparkline(card.distribution.counts)}  {number(edges[0])} to {number(edges[-1])}"


def _kinds(card: FeatureCard) -> str:
    found = card.polysemanticity
    if found is None:
        return "not measured: it is active on fewer than 8 stimuli"
    text = f"{found.modes} mode{'s' if found.modes > 1 else ''}; separation {measured(found.separation)}"
    return text if found.among_units is None else f"{text}; among units p = {number(found.among_units.p)}"


def _looks(card: FeatureCard) -> list[tuple[str, str]]:
    """One line each for what was asked for in addition."""
    rows, made, tuned = [], card.portrait, card.tuning
    if made is not None:
        rank = measured(made.rank, share=True)
        text = f"made in {made.steps} steps: activation {number(made.activation)} ({number(made.sigma)} σ); "
        rows.append(("picture", f"{text}rank among {made.natural} natural pictures {rank}"))
    if tuned is not None:
        facts = ", ".join(f"{name} {number(value)}{unit}" for name, value, unit in tuned.facts)
        rows.append(("tuning", f"{tuned.unit.kind}: {facts}; strength {measured(tuned.strength)} drawings"))
    return rows


def _sparkline(counts: tuple[int, ...]) -> str:
    tallest = math.log1p(max(counts)) or 1.0
    return "".join(_BLOCKS[math.ceil(8 * math.log1p(count) / tallest)] for count in counts)


def _example(example: Example) -> Text:
    line = Text(f"{number(example.value):>8}  ")
    if not example.tokens:
        place = f" at {', '.join(map(str, example.position))}" if example.position else ""
        return line.append(f"{example.source}{place}")
    for text, shade, chosen, _ in token_spans(example):
        style = "bold reverse" if chosen else "bold yellow" if shade > 0.6 else "yellow" if shade > 0.25 else ""
        line.append(text, style)
    return line


def _effects(effects: tuple[Effect, ...]) -> Text:
    return Text("  ").join(
        Text(f"{effect.name.strip() or repr(effect.name)} {effect.value:+.2g}") for effect in effects
    )


def _weights(table: WeightTable) -> RenderableType:
    text = Text(f"\n{table.title}\n", style="bold")
    body = _effects(table.rows) if table.rows else Text(f"not available: {table.reason}", style="dim")
    return text.append_text(body)
