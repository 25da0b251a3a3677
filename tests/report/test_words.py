"""What the audit says in words, and how cells read."""

import numpy as np
import pytest

from cutaway.audits.findings import Figure, NotFound, NotTestable, RuleResult, Severity, Table
from cutaway.evidence.measurement import Measurement
from cutaway.evidence.verdicts import Verdict
from cutaway.report import cells, headline, outcome, words
from tests.report.samples import bare, finding

MISSED = RuleResult("a", "A?", not_found=(NotFound("a", "A?", "No A."),))
UNTESTABLE = RuleResult("b", "B?", not_testable=(NotTestable("b", "B?", "No B."),))
FOUND = RuleResult("c", "C?", (finding(),))
REFUTED = RuleResult("d", "D?", (finding(verdict=Verdict.REFUTED),))


def graded(*grades):
    found = tuple(finding(severity=severity, verdict=verdict) for severity, verdict in grades)
    return headline(bare(results=(RuleResult("c", "C?", found),)))


def test_the_headline_counts_by_severity_and_evidence():
    high, note = Severity.HIGH, Severity.NOTE
    assert graded((high, Verdict.CAUSAL)) == "1 finding: 1 high (causal)."
    assert graded(
        (note, Verdict.OBSERVED), (high, Verdict.CAUSAL), (note, Verdict.OBSERVED), (high, Verdict.ASSERTED)
    ) == ("4 findings: 2 high (1 causal, 1 asserted), 2 notes (observed).")


def test_a_refuted_claim_is_no_finding_but_is_told():
    assert graded((Severity.HIGH, Verdict.REFUTED), (Severity.LOW, Verdict.CAUSAL)) == (
        "1 finding: 1 low (causal); 1 claim refuted."
    )
    assert headline(bare(results=(REFUTED,))) == "Nothing found above the nulls in 1 question; 1 claim refuted."


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ((), "No question was asked, so nothing can be said about this network."),
        ((MISSED,), "Nothing found above the nulls in 1 question."),
        (
            (MISSED, MISSED, UNTESTABLE),
            "Nothing found above the nulls in 2 questions; 1 question not testable on this network.",
        ),
        ((UNTESTABLE,), "Nothing could be tested: the only question has no answer on this network."),
        ((UNTESTABLE, UNTESTABLE), "Nothing could be tested: none of the 2 questions has an answer on this network."),
    ],
)
def test_the_headline_of_an_audit_without_findings(results, said):
    assert headline(bare(results=results)) == said


def test_the_outcome_of_a_question():
    assert [outcome(answer) for answer in (FOUND, REFUTED, MISSED, UNTESTABLE)] == [
        "found",
        "refuted",
        "not found",
        "not testable",
    ]
    assert outcome(RuleResult("e", "E?", figures=(Figure("f"),))) == "described"
    assert outcome(RuleResult("e", "E?")) == "no result"


def test_a_detail_repeats_no_outcome():
    assert words.outcome_detail(MISSED) == "" and words.outcome_detail(FOUND) == "1 finding"


def test_every_grade_is_explained():
    assert set(words.SEVERITY_MEANING) == set(Severity) and set(words.VERDICT_MEANING) == set(Verdict)
    assert len(words.READING) == 4


def test_dates():
    assert words.date("2026-03-01T14:30:00+02:00") == "2026-03-01 12:30 UTC"
    assert words.date("2026-03-01T14:30:00") == "2026-03-01 14:30 UTC" and words.date("yesterday") == "yesterday"


@pytest.mark.parametrize(
    ("value", "column", "kind", "text"),
    [
        (np.float32(0.25), "x", "number", "0.250"),
        (np.int64(1500), "n", "number", "1,500"),
        (True, "fires", "text", "yes"),
        (None, "x", "nothing", "–"),
        (float("nan"), "x", "nothing", "–"),
        (0.125, "share of units", "share", "12.5 %"),
        (1, "share", "share", "100 %"),
        (0.0025, "p", "number", "0.0025"),
        (1.5, "share", "number", "1.50"),
        (("a", 2), "x", "text", "a, 2"),
        (Severity.HIGH, "x", "text", "high"),
        (Measurement(1.0, 0.5, 1.5), "x", "measurement", "1.00 [0.50, 1.50]"),
    ],
)
def test_cells(value, column, kind, text):
    found = cells.cell(value, column)
    assert (found.kind, found.text) == (kind, text)


def test_a_short_row_is_filled_and_numbers_are_right_aligned():
    table = Table("t", ("name", "n", "x"), (("a", 1, 0.5), ("b", None)))
    assert [[cell.text for cell in row] for row in cells.rows(table)] == [["a", "1", "0.500"], ["b", "–", "–"]]
    assert cells.right_aligned(table) == [False, True, True]
    assert cells.right_aligned(Table("t", ("x",), ())) == [False]
