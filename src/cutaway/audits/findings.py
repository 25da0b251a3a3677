"""Findings: what an auditor should read, with everything needed to believe it or to disprove it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cutaway.evidence.measurement import Measurement
from cutaway.evidence.verdicts import Verdict


class Severity(StrEnum):
    """How much it matters if true: impact times reach. Independent of how sure we are (:class:`Verdict`)."""

    NOTE = "note"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 (note) to 4 (critical)."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class Control:
    """One attempt to explain a finding away: the same measurement where the claim must fail."""

    name: str
    measurement: Measurement
    passed: bool
    meaning: str = ""  # one sentence: what it would mean if this control had failed


@dataclass(frozen=True)
class Table:
    """Numbers for a reader: rows of plain values or :class:`Measurement` objects under named columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One claim about a network, graded twice: by evidence (``verdict``) and by weight (``severity``)."""

    rule: str
    claim: str  # one sentence
    verdict: Verdict
    severity: Severity
    location: tuple[str, ...] = ()  # sites or addresses
    effect: Measurement | None = None
    effect_name: str = ""  # what the effect's number is, with its unit
    controls: tuple[Control, ...] = ()
    limits: tuple[str, ...] = ()  # what the claim does not say
    tables: tuple[Table, ...] = ()
    reproduce: str = ""  # the command that gives this number again
    rule_version: str = "1"

    @property
    def fingerprint(self) -> str:
        """Identity across runs: rule and location, not the numbers (16 hex digits)."""
        return hashlib.sha256("\n".join([self.rule, *self.location]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class NotTestable:
    """A question that this network cannot answer, and why."""

    rule: str
    question: str
    reason: str


@dataclass(frozen=True)
class NotFound:
    """A question that was tested and gave nothing above its nulls, with the numbers that say so."""

    rule: str
    question: str
    claim: str  # one sentence: what was looked for and not found
    measurements: tuple[tuple[str, Measurement], ...] = ()
    tables: tuple[Table, ...] = ()
    reproduce: str = ""


@dataclass(frozen=True)
class RuleResult:
    """What one rule returns: findings, things looked for and not found, addresses worth a card, and plain tables."""

    rule: str
    question: str
    findings: tuple[Finding, ...] = ()
    not_found: tuple[NotFound, ...] = ()
    not_testable: tuple[NotTestable, ...] = ()
    cards: tuple[str, ...] = ()  # addresses
    tables: tuple[Table, ...] = ()
    figures: tuple["Figure", ...] = ()
    examined: tuple[str, ...] = ()  # sites whose units this rule measured, for coverage
    units: tuple[tuple[str, Verdict], ...] = ()  # addresses that earned a verdict of their own, for coverage
    seconds: float = 0.0


@dataclass(frozen=True)
class Figure:
    """A picture for the report: SVG text or PNG bytes, with a caption that says what to see in it."""

    caption: str
    svg: str = ""
    png: bytes = b""


@dataclass(frozen=True)
class AuditResult:
    """A whole audit: what was asked of which network, and everything that came back."""

    network: str
    fingerprint: str
    description: str  # what the network is, one sentence
    profile: str
    seed: int
    command: str
    version: str
    started: str  # ISO 8601, UTC
    seconds: float
    stimuli: tuple[tuple[str, str, int, int], ...]  # name, fingerprint, used, skipped
    results: tuple[RuleResult, ...]
    coverage: Table | None = None
    cards: tuple[object, ...] = field(default=())  # features.FeatureCard

    @property
    def findings(self) -> list[Finding]:
        """All findings, the gravest first, the best evidenced first among equals."""
        found = [finding for result in self.results for finding in result.findings]
        return sorted(found, key=lambda f: (-f.severity.rank, -f.verdict.rank, f.rule))

    def worst(self) -> Severity | None:
        """The highest severity among findings, None without any."""
        return max((f.severity for f in self.findings), key=lambda s: s.rank, default=None)


def exceeds(findings: Sequence[Finding], threshold: Severity) -> bool:
    """True if a finding is at or above ``threshold`` (the command line's ``--fail-on``)."""
    return any(finding.severity.rank >= threshold.rank for finding in findings)
