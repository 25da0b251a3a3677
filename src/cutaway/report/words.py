"""What the audit says in words: the one-sentence verdict, each question's outcome, and how to read the grades."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from cutaway.audits.findings import AuditResult, Finding, RuleResult, Severity
from cutaway.evidence.verdicts import Verdict

SEVERITY_MEANING = {
    Severity.NOTE: "worth knowing; no harm is implied",
    Severity.LOW: "small impact or small reach",
    Severity.MEDIUM: "would matter to some people or in some uses",
    Severity.HIGH: "would harm people or break the intended use; decide before deployment",
    Severity.CRITICAL: "do not deploy before it is dealt with",
}
VERDICT_MEANING = {
    Verdict.ASSERTED: "somebody or some detector says so; nothing was tested",
    Verdict.OBSERVED: "a held-out association, or an intervention of unknown specificity, that beats its nulls",
    Verdict.CAUSAL: "an intervention has the claimed effect beyond matched nulls, over most specifications",
    Verdict.MECHANISTIC: "a circuit explains the effect and predicts new inputs",
    Verdict.VERIFIED: "an independent replay and a prediction made in advance both hold",
    Verdict.REFUTED: "the claim was tested and failed",
    Verdict.NOT_TESTABLE: "the question has no answer on this network",
}
READING = (
    "Every finding is graded twice: its severity says how much it would matter if true, and its evidence level says "
    "how sure we are that it is true; neither is derived from the other.",
    "The brackets after a value hold its 95 % interval: over many repetitions with other examples of the same kind, "
    "95 % of such intervals would contain the true value.",
    "A null is the same number measured where the claim must be false (shuffled labels, random directions, an "
    "untrained twin); a value matters only as far as it leaves its null, and p is the share of such worlds that "
    "reach it, n the number of independent cases.",
    "Not found means looked for and not above the nulls with this much data, which is not proof of absence; a "
    "question that nobody asked has no answer here.",
)


def supported(findings: Sequence[Finding]) -> list[Finding]:
    """The findings whose claim stands at some level of evidence (neither refuted nor not testable)."""
    return [finding for finding in findings if finding.verdict.rank >= 0]


def headline(result: AuditResult) -> str:
    """The whole audit in one sentence, as ``3 findings: 1 high (causal), 2 notes (observed).``"""
    standing = supported(result.findings)
    outcomes = [outcome(answer) for answer in result.results]
    if standing:
        return f"{_plural(len(standing), 'finding')}: {_by_severity(standing)}{_fallen(result)}."
    if not outcomes:
        return "No question was asked, so nothing can be said about this network."
    if set(outcomes) == {"not testable"}:
        return f"Nothing could be tested: {_none_of(len(outcomes))} on this network."
    tested = sum(name != "not testable" for name in outcomes)
    untested = len(outcomes) - tested
    rest = f"; {_plural(untested, 'question')} not testable on this network" if untested else ""
    return f"Nothing found above the nulls in {_plural(tested, 'question')}{_fallen(result)}{rest}."


def outcome(answer: RuleResult) -> str:
    """What became of a question: ``found``, ``refuted``, ``not found``, ``not testable`` or ``described``."""
    if supported(answer.findings):
        return "found"
    if any(finding.verdict is Verdict.REFUTED for finding in answer.findings):
        return "refuted"
    if answer.not_found:
        return "not found"
    if answer.not_testable or answer.findings:
        return "not testable"
    return "described" if answer.tables or answer.figures or answer.cards else "no result"


def outcome_detail(answer: RuleResult) -> str:
    """The parts of an answer, counted: ``2 findings, 1 not found``."""
    parts = [
        _plural(len(answer.findings), "finding") if answer.findings else "",
        f"{len(answer.not_found)} not found" if answer.not_found else "",
        f"{len(answer.not_testable)} not testable" if answer.not_testable else "",
    ]
    said = [part for part in parts if part]
    return "" if said == [f"1 {outcome(answer)}"] else ", ".join(said)  # the outcome says it already


def anchors(findings: Sequence[Finding]) -> list[str]:
    """An address inside the report for each finding, from its stable fingerprint; a repeated one gets a number."""
    seen: Counter[str] = Counter()
    names = []
    for finding in findings:
        seen[finding.fingerprint] += 1
        repeat = seen[finding.fingerprint]
        names.append(f"f-{finding.fingerprint}" + (f"-{repeat}" if repeat > 1 else ""))
    return names


def date(started: str) -> str:
    """An ISO 8601 time as ``2026-03-01 12:30 UTC``; unchanged if it is none."""
    try:
        moment = datetime.fromisoformat(started)
    except ValueError:
        return started
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if moment.tzinfo else f"{moment:%Y-%m-%d %H:%M} UTC"


def _by_severity(findings: Sequence[Finding]) -> str:
    parts = []
    for severity in reversed(Severity):
        levels = Counter(finding.verdict for finding in findings if finding.severity is severity)
        if levels:
            parts.append(f"{_severities(levels.total(), severity)} ({_levels(levels)})")
    return ", ".join(parts)


def _severities(number: int, severity: Severity) -> str:
    return _plural(number, "note") if severity is Severity.NOTE else f"{number} {severity}"


def _levels(levels: Counter[Verdict]) -> str:
    ranked = sorted(levels, key=lambda verdict: -verdict.rank)
    if len(ranked) == 1:
        return str(ranked[0])
    return ", ".join(f"{levels[verdict]} {verdict}" for verdict in ranked)


def _fallen(result: AuditResult) -> str:
    refuted = sum(finding.verdict is Verdict.REFUTED for finding in result.findings)
    return f"; {_plural(refuted, 'claim')} refuted" if refuted else ""


def _none_of(number: int) -> str:
    return "the only question has no answer" if number == 1 else f"none of the {number} questions has an answer"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
