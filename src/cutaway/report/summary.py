"""The audit on a terminal: one sentence, the findings, where the report lies."""

from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.audits.findings import AuditResult, Finding, Severity
from cutaway.report import numbers, words
from cutaway.report.text import visible

_STYLES = {
    Severity.CRITICAL: "bold red",
    Severity.HIGH: "red",
    Severity.MEDIUM: "yellow",
    Severity.LOW: "cyan",
    Severity.NOTE: "dim",
}


def summary(result: AuditResult, *, paths: Mapping[str, Path] | None = None) -> RenderableType:
    """What the command line prints after an audit; strings from outside are never read as rich markup."""
    parts: list[RenderableType] = [
        Text.assemble((visible(result.network), "bold"), f"  {visible(result.description)}"),
        Text(words.headline(result), style="bold"),
    ]
    if result.findings:
        parts.append(_table(result.findings))
    parts += [
        Text(f"{outcome}: {visible(question)}", style="dim")
        for outcome, question in ((words.outcome(answer), answer.question) for answer in result.results)
        if outcome in ("not found", "not testable", "no result")
    ]
    parts += [Text(f"{name:>4}  {path}") for name, path in (paths or {}).items()]
    return Group(*parts)


def _table(findings: list[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("severity")
    table.add_column("evidence")
    table.add_column("finding", ratio=1)
    table.add_column("effect", justify="right")
    for finding in findings:
        effect = "" if finding.effect is None else numbers.estimate(finding.effect)
        table.add_row(
            Text(str(finding.severity), style=_STYLES[finding.severity]),
            Text(str(finding.verdict)),
            Text(visible(finding.claim)),
            Text(effect),
        )
    return table
