"""The report as GitHub-flavoured Markdown: the same content as the HTML, pictures named but not shown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from cutaway.audits.findings import AuditResult, Control, Finding, NotFound, RuleResult, Table
from cutaway.evidence.measurement import Measurement
from cutaway.report import cells, numbers, words
from cutaway.report.cards import Card, cards_of
from cutaway.report.text import markdown as safe
from cutaway.report.text import markdown_block, markdown_code

_MEASUREMENT_FIELDS = {field.name for field in fields(Measurement)}
_SHORT = 300  # characters; a longer text of a card is a picture or a list in disguise

Block = str  # one paragraph, table or heading; blocks are separated by an empty line


def render_markdown(result: AuditResult) -> str:
    """The whole report; every string from outside is escaped, so that it stays text."""
    blocks = [
        *_top(result),
        *_asked(result),
        *_reading(),
        *_findings(result),
        *_evidence(result),
        *_not_found(result),
        *_cards(result),
        *_appendix(result),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def grid(columns: Sequence[str], body: Iterable[Sequence[str]], right: Sequence[bool] = ()) -> Block:
    """A pipe table; ``columns`` and ``body`` are Markdown already, ``right`` marks columns of numbers."""
    sides = [*right, *[False] * (len(columns) - len(right))]
    rule = ["---:" if side else "---" for side in sides]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(columns), rule, *map(list, body)])


def table_blocks(table: Table) -> list[Block]:
    """A table under its title, with its note."""
    body = [
        [safe(cell.text if not cell.aside else f"{cell.text}; {cell.aside}") for cell in row]
        for row in cells.rows(table)
    ]
    columns = [safe(column) for column in table.columns]
    shown = grid(columns, body, cells.right_aligned(table)) if table.columns else ""
    return [f"**{safe(table.title)}**", shown, f"*{safe(table.note)}*" if table.note else ""]


def _top(result: AuditResult) -> list[Block]:
    return [
        f"# Audit of {safe(result.network)}",
        safe(result.description),
        f"**{safe(words.headline(result))}**",
        grid(
            ["fingerprint", "date", "profile", "seed", "run time", "cutaway"],
            [
                [
                    markdown_code(result.fingerprint[:16]),
                    safe(words.date(result.started)),
                    safe(result.profile),
                    str(result.seed),
                    safe(numbers.duration(result.seconds)),
                    safe(result.version),
                ]
            ],
        ),
        "## Findings at a glance",
        _glance(result),
    ]


def _glance(result: AuditResult) -> Block:
    if not result.findings:
        return "There are no findings."
    columns = ["severity", "evidence", "finding", "effect", "where"]
    body = [
        [
            f"**{finding.severity}**",
            str(finding.verdict),
            f"[{safe(finding.claim)}](#{anchor})",
            "" if finding.effect is None else safe(numbers.estimate(finding.effect)),
            _places(finding.location),
        ]
        for finding, anchor in zip(result.findings, words.anchors(result.findings), strict=True)
    ]
    return grid(columns, body)


def _asked(result: AuditResult) -> list[Block]:
    body = [
        [safe(a.question), f"**{words.outcome(a)}**", safe(words.outcome_detail(a)), markdown_code(a.rule)]
        for a in result.results
    ]
    untestable = [item for answer in result.results for item in answer.not_testable]
    return [
        "## What was asked",
        grid(["question", "outcome", "detail", "rule"], body) if body else "No question was asked.",
        "### Not testable on this network" if untestable else "",
        "\n".join(f"- **{safe(item.question)}** {safe(item.reason)}" for item in untestable),
        "## Coverage so far",
        *(table_blocks(result.coverage) if result.coverage else ["Coverage was not measured in this audit."]),
    ]


def _reading() -> list[Block]:
    return [
        "## How to read this",
        " ".join(words.READING),
        grid(["severity", "meaning"], [[str(s), m] for s, m in reversed(words.SEVERITY_MEANING.items())]),
        grid(["evidence", "meaning"], [[str(v), m] for v, m in words.VERDICT_MEANING.items()]),
    ]


def _findings(result: AuditResult) -> list[Block]:
    pairs = zip(result.findings, words.anchors(result.findings), strict=True)
    full = [block for finding, anchor in pairs for block in _finding(finding, anchor)]
    return ["## Findings in full", *full] if full else []


def _finding(finding: Finding, anchor: str) -> list[Block]:
    facts = [
        f"- severity **{finding.severity}**, evidence **{finding.verdict}**",
        f"- where: {_places(finding.location)}" if finding.location else "",
        f"- {safe(finding.effect_name or 'effect')}: {_measured(finding.effect)}" if finding.effect else "",
        f"- rule {markdown_code(finding.rule)}, version {safe(finding.rule_version)}; "
        f"finding {markdown_code(finding.fingerprint)}",
    ]
    limits = "\n".join(f"- {safe(limit)}" for limit in finding.limits)
    return [
        f'<a id="{anchor}"></a>',
        f"### {safe(finding.claim)}",
        "\n".join(fact for fact in facts if fact),
        *_controls(finding.controls),
        *(["#### Limits", limits] if limits else []),
        *[block for table in finding.tables for block in table_blocks(table)],
        *_reproduce(finding.reproduce),
    ]


def _controls(controls: Sequence[Control]) -> list[Block]:
    body = [
        [
            safe(control.name),
            safe(numbers.estimate(control.measurement)),
            safe(numbers.context(control.measurement)),
            "passed" if control.passed else "**failed**",
            safe(control.meaning),
        ]
        for control in controls
    ]
    columns = ["control", "value", "null", "outcome", "meaning"]
    return ["#### Controls", grid(columns, body, [False, True])] if body else []


def _evidence(result: AuditResult) -> list[Block]:
    blocks = [block for answer in result.results for block in _answer(answer)]
    return ["## Evidence by question", *blocks] if blocks else []


def _answer(answer: RuleResult) -> list[Block]:
    if not (answer.tables or answer.figures):
        return []
    pictures = [f"- Figure (shown in report.html): {safe(figure.caption)}" for figure in answer.figures]
    return [
        f"### {safe(answer.question)}",
        f"Rule {markdown_code(answer.rule)}: {words.outcome(answer)}.",
        "\n".join(pictures),
        *[block for table in answer.tables for block in table_blocks(table)],
    ]


def _not_found(result: AuditResult) -> list[Block]:
    items = [item for answer in result.results for item in answer.not_found]
    return ["## Looked for and not found", *[b for item in items for b in _missed(item)]] if items else []


def _missed(item: NotFound) -> list[Block]:
    body = [[safe(name), _measured(measurement)] for name, measurement in item.measurements]
    return [
        f"### {safe(item.claim)}",
        f"Asked: {safe(item.question)} (rule {markdown_code(item.rule)})",
        grid(["measurement", "value"], body) if body else "",
        *[block for table in item.tables for block in table_blocks(table)],
        *_reproduce(item.reproduce),
    ]


def _cards(result: AuditResult) -> list[Block]:
    cards = cards_of(result)
    if not cards:
        return []
    blocks = [b for card in cards for b in (f"### {markdown_code(card.address)}", _card(card))]
    return ["## Feature cards", "Pictures are in report.html, all fields in report.json.", *blocks]


def _card(card: Card) -> Block:
    """The card's plain facts and measurements; its lists and pictures are in the other formats."""
    shown = [(name, cells.cell(value)) for name, value in _facts(card.to_json())]
    return "\n".join(
        f"- {safe(name)}: {safe('; '.join(part for part in (cell.text, cell.aside) if part))}" for name, cell in shown
    )


def _facts(fields: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    """Names and values of numbers, short texts and measurements, at any depth of objects."""
    for key, value in fields.items():
        name = f"{above}{key}".replace("_", " ")
        if isinstance(value, Mapping) and set(value) == _MEASUREMENT_FIELDS:
            yield name, Measurement.from_json(dict(value))
        elif isinstance(value, Mapping):
            yield from _facts(value, f"{name}, ")
        elif isinstance(value, int | float) or (isinstance(value, str) and 0 < len(value) <= _SHORT):
            yield name, value


def _appendix(result: AuditResult) -> list[Block]:
    sets = [
        [safe(name), markdown_code(fingerprint[:16]), numbers.count(used), numbers.count(skipped)]
        for name, fingerprint, used, skipped in result.stimuli
    ]
    times = [[markdown_code(a.rule), safe(numbers.duration(a.seconds)), _places(a.examined)] for a in result.results]
    columns = ["stimulus set", "fingerprint", "used", "skipped"]
    return [
        "## Appendix",
        grid(columns, sets, [False, False, True, True]) if sets else "No stimuli were shown.",
        grid(["rule", "run time", "sites examined"], times, [False, True]) if times else "",
        f"Network fingerprint (SHA-256 over the parameters): {markdown_code(result.fingerprint)}",
        f"Started {safe(words.date(result.started))}, seed {result.seed}, profile {safe(result.profile)}, "
        f"cutaway {safe(result.version)}.",
        *_reproduce(result.command),
    ]


def _reproduce(command: str) -> list[Block]:
    return ["Reproduce with", markdown_block(command, "sh")] if command else []


def _places(location: Iterable[str]) -> str:
    return ", ".join(markdown_code(place) for place in location)


def _measured(measurement: Measurement) -> str:
    return safe(numbers.measured(measurement))
