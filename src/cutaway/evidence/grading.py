"""From what was tested to the verdict it earned, with the reasons why not a higher one.

    observed     a held-out association beats every null of ASSOCIATION_NULLS after correction for multiple
                 tests, or an intervention has all that causal asks for but its specificity
    causal       an intervention beats every null of INTERVENTION_NULLS, its sign holds in >= 80 % of >= 24
                 specifications, and less than 2 % of unrelated behaviour is lost
    mechanistic  causal, and a circuit keeps >= 90 % of the behaviour, is better than 99 % of random circuits
                 of its size, passes the subspace-illusion check, and predicts new inputs
    verified     mechanistic, replayed independently by hash, a prediction made in advance held, and the
                 recall of the rule on planted problems is published
    refuted      a significant effect of the opposite sign, or a prediction made in advance that failed

What was not tested never counts for a claim, and a failed test is not papered over by a later success: an
association that was tested and failed keeps a claim at asserted even if an intervention has an effect.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cutaway.errors import BadInput
from cutaway.evidence.measurement import Measurement
from cutaway.evidence.multiverse import MINIMUM, Multiverse
from cutaway.evidence.verdicts import Verdict

ASSOCIATION_NULLS = ("shuffled-labels", "random-directions", "untrained-twin", "surface")
INTERVENTION_NULLS = ("random-directions", "optimised-elsewhere")


@dataclass(frozen=True)
class Test:
    """A measurement against one named null; ``q`` is its p after correction for its whole family."""

    __test__ = False  # not a pytest class

    null: str  # a name of ASSOCIATION_NULLS or INTERVENTION_NULLS, or a null of one's own
    measurement: Measurement
    q: float

    def __post_init__(self) -> None:
        if not (math.isnan(self.q) or 0 <= self.q <= 1):
            raise BadInput(f"q = {self.q} against {self.null!r} is not a probability; correct p-values first.")


@dataclass(frozen=True, kw_only=True)
class CircuitEvidence:
    """How well a circuit stands for the behaviour it is said to compute."""

    faithfulness: float  # (m(circuit) - m(empty)) / (m(network) - m(empty)); 1 = all of the behaviour
    random_percentile: float  # share of random circuits of the same size that it beats, in per cent
    illusion_passed: bool  # the effect survives without the part of the direction that nothing reads
    predicts_new_inputs: bool


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was tested for one claim; what was not is left out.

    ``sign`` is the direction that the claim asserts (+1, -1, or 0 for any). ``waived`` names nulls that have
    no meaning here, each with the reason ("surface": "an image has no token embedding"): the reasons are
    printed. ``off_target`` is the share of unrelated behaviour that the intervention loses.
    """

    sign: int = 1
    association: Sequence[Test] = ()
    intervention: Sequence[Test] = ()
    multiverse: Multiverse | None = None
    off_target: float = math.nan
    circuit: CircuitEvidence | None = None
    replayed: bool | None = None
    prediction_held: bool | None = None
    planted_recall: float = math.nan
    waived: Mapping[str, str] = field(default_factory=dict)
    untestable: str = ""  # why the question has no answer on this network


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Where the lines are drawn (the defaults are the project's; a stricter house may move them)."""

    alpha: float = 0.05
    sign_agreement: float = 0.80
    specifications: int = MINIMUM
    off_target: float = 0.02
    faithfulness: float = 0.90
    percentile: float = 99.0


@dataclass(frozen=True)
class Grade:
    """The verdict, why it is not higher (one sentence each), and what a reader should know about how it was
    earned.
    """

    verdict: Verdict
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def grade(evidence: Evidence, thresholds: Thresholds | None = None) -> Grade:
    """The highest verdict whose every condition holds, by the table at the top of this module."""
    lines = thresholds or Thresholds()
    notes = tuple(f"The null {null!r} does not apply: {why}." for null, why in evidence.waived.items())
    if evidence.untestable:
        return Grade(Verdict.NOT_TESTABLE, (evidence.untestable,), notes)
    against = tuple(_refutations(evidence, lines))
    if against:
        return Grade(Verdict.REFUTED, against, notes)
    observed = tuple(_not_observed(evidence, lines))
    if evidence.association and observed:
        return Grade(Verdict.ASSERTED, observed, notes)
    return _climb(evidence, lines, observed, notes)


def _climb(evidence: Evidence, lines: Thresholds, observed: tuple[str, ...], notes: tuple[str, ...]) -> Grade:
    """Up the scale until a condition fails. An intervention needs no association before it, only none that
    failed.
    """
    effect, specific = tuple(_no_effect(evidence, lines)), tuple(_unspecific(evidence, lines))
    if effect or specific:
        below = Verdict.ASSERTED if observed and effect else Verdict.OBSERVED
        return Grade(below, (*(observed if not evidence.intervention else ()), *effect, *specific), notes)
    mechanistic = tuple(_not_mechanistic(evidence.circuit, lines))
    if mechanistic:
        return Grade(Verdict.CAUSAL, mechanistic, notes)
    verified = tuple(_not_verified(evidence))
    return Grade(Verdict.MECHANISTIC if verified else Verdict.VERIFIED, verified, notes)


def _refutations(evidence: Evidence, lines: Thresholds) -> Iterator[str]:
    for test in (*evidence.association, *evidence.intervention):
        opposite = evidence.sign * _direction(test.measurement) < 0
        if opposite and test.q <= lines.alpha:
            yield f"Against {test.null!r} the effect has the opposite sign: {test.measurement}."
    if evidence.prediction_held is False:
        yield "A prediction made in advance failed."


def _direction(measurement: Measurement) -> float:
    """Signed distance from the null's mean, or from zero where the null has none."""
    return measurement.value - (0.0 if math.isnan(measurement.null_mean) else measurement.null_mean)


def _not_observed(evidence: Evidence, lines: Thresholds) -> Iterator[str]:
    if not evidence.association:
        yield "No held-out association was tested."
        return
    yield from _unbeaten(evidence.association, ASSOCIATION_NULLS, "association", evidence, lines)


def _no_effect(evidence: Evidence, lines: Thresholds) -> Iterator[str]:
    if not evidence.intervention:
        yield "No intervention was made."
        return
    yield from _unbeaten(evidence.intervention, INTERVENTION_NULLS, "intervention", evidence, lines)
    yield from _unstable(evidence, lines)


def _unspecific(evidence: Evidence, lines: Thresholds) -> Iterator[str]:
    if not evidence.intervention:
        return
    if math.isnan(evidence.off_target):
        yield "Specificity was not measured: what else does the intervention change?"
    elif evidence.off_target >= lines.off_target:
        lost = f"{evidence.off_target:.1%} of unrelated behaviour"
        yield f"The intervention loses {lost}; {lines.off_target:.0%} is the limit."


def _unbeaten(
    tests: Sequence[Test], required: tuple[str, ...], kind: str, evidence: Evidence, lines: Thresholds
) -> Iterator[str]:
    tested = {test.null for test in tests}
    for null in required:
        if null not in tested and null not in evidence.waived:
            yield f"The {kind} was not compared with the null {null!r}."
    for test in tests:
        if math.isnan(test.q):
            yield f"The {kind} has no corrected p-value against {test.null!r}."
        elif test.q > lines.alpha:
            yield f"The {kind} does not beat {test.null!r}: q = {test.q:.2g} > {lines.alpha:g}."


def _unstable(evidence: Evidence, lines: Thresholds) -> Iterator[str]:
    multiverse = evidence.multiverse
    if multiverse is None:
        yield f"The intervention was made under one specification; {lines.specifications} are needed."
        return
    if len(multiverse.results) < lines.specifications:
        count = len(multiverse.results)
        yield f"The intervention was made under {count} specifications; {lines.specifications} are needed."
    if multiverse.sign_agreement < lines.sign_agreement:
        yield (
            f"The sign of the effect agrees in {multiverse.sign_agreement:.0%} of specifications; "
            f"{lines.sign_agreement:.0%} is needed."
        )
    elif evidence.sign * multiverse.sign < 0:
        yield "Most specifications have the opposite sign."


def _not_mechanistic(circuit: CircuitEvidence | None, lines: Thresholds) -> Iterator[str]:
    if circuit is None:
        yield "No circuit was found for the effect."
        return
    if not circuit.faithfulness >= lines.faithfulness:
        yield f"The circuit keeps {circuit.faithfulness:.0%} of the effect; {lines.faithfulness:.0%} is needed."
    if not circuit.random_percentile >= lines.percentile:
        beaten = f"{circuit.random_percentile:.4g} % of random circuits"
        yield f"The circuit beats {beaten}; {lines.percentile:g} % is needed."
    if not circuit.illusion_passed:
        yield "The effect may run through a dormant pathway: the subspace-illusion check failed."
    if not circuit.predicts_new_inputs:
        yield "The circuit does not predict new inputs."


def _not_verified(evidence: Evidence) -> Iterator[str]:
    if not evidence.replayed:
        yield "No independent replay by hash."
    if evidence.prediction_held is None:
        yield "No prediction was made in advance."
    if math.isnan(evidence.planted_recall):
        yield "The rule's recall on planted problems is not published."
