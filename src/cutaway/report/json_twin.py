"""The report as one JSON document: the same content for programs, strict JSON, in a stable order.

The fields are described in docs/report.md; ``SCHEMA`` changes with them.
"""

import hashlib
import json
import math
import numbers
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from cutaway.audits.findings import (
    AuditResult,
    Control,
    Figure,
    Finding,
    NotFound,
    NotTestable,
    RuleResult,
    Table,
)
from cutaway.evidence.measurement import Measurement
from cutaway.report import words
from cutaway.report.cards import Card, cards_of

SCHEMA = "cutaway-audit-report/1"


def document(result: AuditResult) -> dict[str, Any]:
    """The audit as JSON values; a number that was not measured is None, a measurement an object of eight fields."""
    worst = result.worst()
    return {
        "schema": SCHEMA,
        "command": result.command,
        "version": result.version,
        "network": result.network,
        "fingerprint": result.fingerprint,
        "description": result.description,
        "profile": result.profile,
        "seed": result.seed,
        "started": result.started,
        "seconds": plain(result.seconds),
        "verdict": words.headline(result),
        "worst_severity": None if worst is None else str(worst),
        "questions": [_question(answer) for answer in result.results],
        "findings": [
            _finding(finding, anchor)
            for finding, anchor in zip(result.findings, words.anchors(result.findings), strict=True)
        ],
        "not_found": [_not_found(item) for answer in result.results for item in answer.not_found],
        "not_testable": [_not_testable(item) for answer in result.results for item in answer.not_testable],
        "coverage": None if result.coverage is None else _table(result.coverage),
        "stimuli": [
            {"name": name, "fingerprint": fingerprint, "used": used, "skipped": skipped}
            for name, fingerprint, used, skipped in result.stimuli
        ],
        "cards": [_card(card) for card in cards_of(result)],
    }


def render_json(result: AuditResult) -> str:
    """The document as strict JSON text (no NaN or infinity), indented, ASCII only."""
    return json.dumps(document(result), indent=1, allow_nan=False) + "\n"


def plain(value: object) -> Any:
    """``value`` as JSON values: measurements as objects, NaN and infinities as None, anything else as its text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Measurement):
        return value.to_json()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [plain(entry) for entry in value]
    return str(value)


def _question(answer: RuleResult) -> dict[str, Any]:
    return {
        "rule": answer.rule,
        "question": answer.question,
        "outcome": words.outcome(answer),
        "seconds": plain(answer.seconds),
        "examined": list(answer.examined),
        "cards": list(answer.cards),
        "tables": [_table(table) for table in answer.tables],
        "figures": [_figure(figure) for figure in answer.figures],
    }


def _finding(finding: Finding, anchor: str) -> dict[str, Any]:
    return {
        "id": anchor,
        "fingerprint": finding.fingerprint,
        "rule": finding.rule,
        "rule_version": finding.rule_version,
        "claim": finding.claim,
        "verdict": str(finding.verdict),
        "severity": str(finding.severity),
        "location": list(finding.location),
        "effect": plain(finding.effect),
        "effect_name": finding.effect_name,
        "controls": [_control(control) for control in finding.controls],
        "limits": list(finding.limits),
        "tables": [_table(table) for table in finding.tables],
        "reproduce": finding.reproduce,
    }


def _control(control: Control) -> dict[str, Any]:
    return {
        "name": control.name,
        "measurement": plain(control.measurement),
        "passed": control.passed,
        "meaning": control.meaning,
    }


def _not_found(item: NotFound) -> dict[str, Any]:
    return {
        "rule": item.rule,
        "question": item.question,
        "claim": item.claim,
        "measurements": [{"name": name, "measurement": plain(measurement)} for name, measurement in item.measurements],
        "tables": [_table(table) for table in item.tables],
        "reproduce": item.reproduce,
    }


def _not_testable(item: NotTestable) -> dict[str, Any]:
    return {"rule": item.rule, "question": item.question, "reason": item.reason}


def _table(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": list(table.columns),
        "rows": [plain(row) for row in table.rows],
        "note": table.note,
    }


def _figure(figure: Figure) -> dict[str, Any]:
    content = figure.svg.encode("utf-8", "surrogatepass") if figure.svg else figure.png
    return {
        "caption": figure.caption,
        "media_type": "image/svg+xml" if figure.svg else "image/png",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _card(card: Card) -> dict[str, Any]:
    return {"address": str(card.address), "card": plain(card.to_json())}
