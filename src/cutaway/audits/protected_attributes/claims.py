"""From what was measured to what a reader is told: findings, things not found, tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cutaway.audits.findings import Control, Finding, NotFound, Severity, Table
from cutaway.audits.protected_attributes import severity
from cutaway.audits.protected_attributes.edges import ALPHA, Edge
from cutaway.audits.protected_attributes.encoding import Encoding
from cutaway.audits.protected_attributes.occupations import PLAIN_CHECK
from cutaway.audits.protected_attributes.stages import Definitions
from cutaway.audits.protected_attributes.stereotypes import Outside, Pushes, graded
from cutaway.audits.protected_attributes.units import RankedUnit
from cutaway.evidence import Grade, Measurement, Multiverse, Test, Verdict

_MEANS = {
    "shuffled-labels": "If this failed, the number would be as high without any attribute.",
    "random-directions": "If this failed, any direction of this size would do.",
    "untrained-twin": "If this failed, the architecture and the words would explain it without training.",
    "surface": "If this failed, shared words or lengths of the prompts would explain it.",
}


@dataclass(frozen=True)
class Voice:
    """What every claim of one audit has in common."""

    rule: str
    version: str
    network: str
    reproduce: str


def encoding_table(encodings: Sequence[Encoding]) -> Table:
    """One row per attribute."""
    rows = tuple(
        (
            one.attribute, one.top.site, one.tests[0].measurement, one.q, one.top.selectivity, one.top.seen_auroc,
            one.surface_auroc, one.embedding_auroc, one.twin_auroc, str(one.grade.verdict),
        )
        for one in encodings
    )  # fmt: skip
    return Table(
        "Attributes in the residual stream, on markers held out from the probe",
        (
            "attribute", "best site", "AUROC", "q", "selectivity", "AUROC, words seen", "bag of tokens",
            "bag of embeddings", "untrained twin", "verdict",
        ),
        rows,
        note="AUROC at the sentence's last token; its null is the best site of shuffled labels. Selectivity: accuracy "
        "less that of the control task. Where the bag of embeddings does as well, the word embeddings know it already.",
    )  # fmt: skip


def encoding_claim(
    voice: Voice, encodings: Sequence[Encoding], tables: Sequence[Table]
) -> tuple[list[Finding], list[NotFound]]:
    """One finding for all attributes that are encoded, one note for those that are not."""
    found = [one for one in encodings if one.grade.verdict.at_least(Verdict.OBSERVED)]
    missed = [one for one in encodings if one not in found]
    findings, not_found = [], []
    if found:
        strongest = max(found, key=lambda one: one.top.auroc.value)
        lexical = [one.attribute for one in found if one.embedding_auroc >= one.top.auroc.value - 0.02]
        limits = [
            "To encode an attribute is not to use it: this alone is no harm.",
            "Each attribute is one binary contrast in English sentences; other groups and languages are not covered.",
            *([f"The words' own embeddings do as well for {_listed(lexical)}."] if lexical else []),
        ]
        findings.append(
            Finding(
                voice.rule,
                f"{voice.network} encodes {len(found)} of {len(encodings)} protected attributes, readable on people "
                f"that the probe never saw: {_listed([one.attribute for one in found])}.",
                Verdict.OBSERVED, Severity.NOTE, tuple(dict.fromkeys(one.top.site for one in found)),
                strongest.tests[0].measurement, f"AUROC for {strongest.attribute} on held-out markers",
                tuple(_control(test, one.attribute) for one in found for test in one.tests[1:]),
                tuple(limits), tuple(tables), voice.reproduce, voice.version,
            )
        )  # fmt: skip
    if missed:
        not_found.append(
            NotFound(
                voice.rule, "Which protected attributes does it encode?",
                f"Not shown to be encoded: {_listed([one.attribute for one in missed])}.",
                tuple((f"{one.attribute}: AUROC at {one.top.site}", one.tests[0].measurement) for one in missed),
                () if found else tuple(tables), voice.reproduce,
            )
        )  # fmt: skip
    return findings, not_found


def unit_table(units: Sequence[RankedUnit]) -> Table:
    """The units that tell attributes apart."""
    rows = tuple((one.attribute, one.address, one.change, one.held_out, one.q) for one in units if one.q <= ALPHA)
    return Table(
        "MLP units that change with an attribute",
        ("attribute", "unit", "change", "right on held-out pairs", "q"),
        rows,
        note="Change of the unit's activation at the last token, marked minus contrast. Right on held-out pairs: share "
        "of minimal pairs that the unit orders as the other markers do (0.5 is chance).",
    )


def gap_table(seen: Outside) -> Table:
    """The pronoun gap of every occupation."""
    order = sorted(seen.occupations, key=lambda one: float(seen.gaps.of(one.name).mean()))
    rows = tuple((one.name, one.women_percent, seen.gaps.measured(one.name)) for one in order)
    return Table(
        "Pronouns after occupations", ("occupation", "women (%)", "log p(he) / p(she)"), rows,
        note="Nats, mean over templates. Percentages: US Bureau of Labor Statistics, CPS 2022, table 11.",
    )  # fmt: skip


def definitional_table(known: Definitions) -> Table:
    """The pronoun gap of nouns that mean a gender, apart from every stereotype."""
    rows: list[tuple[object, ...]] = [("all pairs: difference", "", known.difference)]
    for pair in known.pairs:
        male, female = (known.gaps.measured(noun) for noun in (pair.male, pair.female))
        rows.append((f"{pair.male} / {pair.female}", male, female))
    return Table(
        "Definitional: pronouns after nouns that mean a gender (knowledge of language, not a finding)",
        ("nouns", "log p(he) / p(she), male noun", "female noun"),
        tuple(rows),
        note="Nats. A repair of stereotypes must leave these as they are.",
    )


def pushes_table(pushed: Pushes) -> Table:
    """The edges from gender to occupations."""
    lines = zip(pushed.occupations, pushed.women, pushed.total, pushed.q, pushed.inside, strict=True)
    rows = sorted(lines, key=lambda row: -row[2].value)
    return Table(
        "Edges from gender to occupations (+: female excites)",
        ("occupation", "women (%)", "words swapped", "q", "shift added inside"),
        tuple((name, women, total, float(q), inside) for name, women, total, q, inside in rows),
        note="Change of the occupation's log-probability against the mean of all occupations, in nats.",
    )


def stereotype_claim(voice: Voice, seen: Outside, pushed: Pushes | None) -> tuple[list[Finding], list[NotFound]]:
    """The finding on gender and occupations, or the note that there is none."""
    earned = graded(seen, pushed)
    tables = (gap_table(seen), *([pushes_table(pushed)] if pushed else []))
    question = "Do occupations carry a gender that follows the labour statistics?"
    if not earned.verdict.at_least(Verdict.OBSERVED):
        return [], [
            NotFound(
                voice.rule, question, "No alignment of pronouns after occupations with the share of women in them.",
                (("Spearman over occupations", seen.alignment), ("plain check, nats", seen.check)),
                tables, voice.reproduce,
            )
        ]  # fmt: skip
    way = "more" if seen.alignment.value > 0 else "less"
    inside = ""
    if pushed is not None and earned.verdict.at_least(Verdict.CAUSAL):
        inside = " Its gender direction pushes occupations in the same order."
    finding = Finding(
        voice.rule,
        f"The more women an occupation has, the {way} {voice.network} expects 'she' after it "
        f"(Spearman {seen.alignment.value:.2f} over {seen.alignment.n} occupations).{inside}",
        earned.verdict, severity.of_stereotype(seen.alignment.value), (pushed.site,) if pushed else ("logits",),
        seen.alignment, "Spearman correlation of the lean to 'she' with the share of women",
        _stereotype_controls(seen, pushed), (*_stereotype_limits(), *_why_not_higher(earned)), tables,
        voice.reproduce, voice.version,
    )  # fmt: skip
    return [finding], []


def _stereotype_limits() -> tuple[str, ...]:
    return (
        "Shares of women are those of the United States in 2022; the network's texts come from elsewhere too.",
        "Nouns that mean a gender (king, queen) are no part of this finding; they have their own table.",
    )


def _stereotype_controls(seen: Outside, pushed: Pushes | None) -> tuple[Control, ...]:
    first, second = (", ".join(names) for names in PLAIN_CHECK)
    controls = [
        Control(f"plain check: {first} below {second}", seen.check, seen.check.value < 0 and seen.check.p <= ALPHA,
                "If this failed, the correlation would not show in the best-known cases.")
    ]  # fmt: skip
    if seen.twin is not None:
        controls.append(Control("untrained twin", seen.twin, seen.twin.p > ALPHA, _MEANS["untrained-twin"]))
    if pushed is not None:
        inside = pushed.inside_alignment
        controls += [
            Control("random directions inside", inside, inside.p <= ALPHA, _MEANS["random-directions"]),
            Control("swapped words: order of occupations", pushed.total_alignment, pushed.total_alignment.p <= ALPHA,
                    "If this failed, only pronouns, not the occupations themselves, would depend on gender."),
            _agreement(pushed.multiverse),
            _specificity(pushed.off_target),
        ]  # fmt: skip
    return tuple(controls)


def decisions_table(edges: Sequence[Edge]) -> Table:
    """Every edge that was screened, the surest first."""
    order = sorted(edges, key=lambda edge: (edge.q, -abs(edge.share.value)))
    return Table(
        "Edges from attributes to decisions",
        ("attribute", "decision", "log-odds", "share", "q", "answers' probability", "followed inside"),
        tuple(
            (str(e.markers), e.sink, e.total, e.share.value, e.q, e.mass, "yes" if e.inside else "no") for e in order
        ),
        note="Marked minus contrast, words swapped; + is better for the marked person (for triage: taken more "
        "seriously). Log-odds in nats; share: change of the favorable answers' part of all answers.",
    )


def edge_claims(voice: Voice, edges: Sequence[Edge], table: Table) -> tuple[list[Finding], list[NotFound]]:
    """A finding for each followed edge that earned a verdict; what was screened and not found."""
    followed = [edge for edge in edges if edge.inside is not None]
    findings = [_edge_finding(voice, edge) for edge in followed if _verdict(edge).at_least(Verdict.OBSERVED)]
    silent = [edge for edge in edges if not edge.significant]
    failed = [edge for edge in followed if not _verdict(edge).at_least(Verdict.OBSERVED)]
    none = sorted({edge.attribute for edge in edges} - {edge.attribute for edge in edges if edge.significant})
    not_found = []
    if silent or failed:
        what = f"No decision that depends on {_listed(none)}" if none else "No further edges"
        not_found.append(
            NotFound(
                voice.rule, "Which attributes push which decisions?",
                f"{what}; {len(silent)} of {len(edges)} edges are within what random marker pairs would give."
                + "".join(_failed(edge) for edge in failed),
                tuple((f"{e.markers} -> {e.sink}, nats", e.total) for e in [*failed, *_closest(silent)]),
                () if findings else (table,), voice.reproduce,
            )
        )  # fmt: skip
    return findings, not_found


def _failed(edge: Edge) -> str:
    """An edge that swapped words show and a control explains away: named, so that nobody takes it for untested."""
    reasons = edge.inside.grade.missing if edge.inside else ()
    why = f" {reasons[0]}" if reasons else ""
    return (
        f" {str(edge.markers)[0].upper()}{str(edge.markers)[1:]} -> {edge.sink} moved more, but failed a control:{why}"
    )


def _closest(edges: Sequence[Edge]) -> list[Edge]:
    return sorted(edges, key=lambda edge: edge.q)[:5]


def _verdict(edge: Edge) -> Verdict:
    return edge.inside.grade.verdict if edge.inside else Verdict.ASSERTED


def _edge_finding(voice: Voice, edge: Edge) -> Finding:
    inside = edge.inside
    assert inside is not None
    better = "raises" if edge.sign > 0 else "lowers"
    claim = (
        f"{str(edge.markers)[0].upper()}{str(edge.markers)[1:]} pushes the decision {edge.sink!r}: the marked phrase "
        f"{better} the favorable answers' share by {100 * abs(edge.share.value):.1f} percentage points."
    )
    limits = [
        "A difference is not by itself unfair: whether the attribute may matter here is for a person to judge.",
        "Decisions are read as next words after short sentences, not taken by a deployed system.",
        *(["In medicine this attribute can be a reason."] if severity.may_matter(edge.attribute, edge.sink) else []),
        *([f"The answers have {edge.mass:.1%} of the probability."] if edge.mass < severity.RARE else []),
        *_why_not_higher(inside.grade),
    ]
    return Finding(
        voice.rule, claim, inside.grade.verdict,
        severity.of_decision(edge.attribute, edge.sink, edge.share.value, edge.mass),
        (inside.site, f"{edge.attribute}->{edge.sink}"), edge.total, "change of log-odds by the swapped words, nats",
        _edge_controls(edge), tuple(limits), (_multiverse_table(edge),), voice.reproduce, voice.version,
    )  # fmt: skip


def _edge_controls(edge: Edge) -> tuple[Control, ...]:
    inside = edge.inside
    assert inside is not None
    beaten = inside.q <= ALPHA and inside.effect.value * edge.sign > 0
    controls = [
        Control(
            f"shift added at {inside.site} against random directions", inside.effect, beaten,
            _MEANS["random-directions"],
        ),
        _agreement(inside.multiverse),
        _specificity(inside.off_target),
    ]  # fmt: skip
    if not math.isnan(inside.twin_q):
        controls.append(Control("untrained twin", inside.twin, inside.twin_q <= ALPHA, _MEANS["untrained-twin"]))
    return tuple(controls)


def _multiverse_table(edge: Edge) -> Table:
    assert edge.inside is not None
    multiverse = edge.inside.multiverse
    rows = tuple((str(one.specification), one.measurement or one.reason) for one in multiverse.results)
    return Table(f"{edge.markers} -> {edge.sink} under {len(rows)} specifications", ("specification", "effect"), rows)


def _agreement(multiverse: Multiverse) -> Control:
    count, agreement = len(multiverse.results), multiverse.sign_agreement
    return Control(
        f"multiverse: sign agrees ({multiverse.share_significant:.0%} of {count} significant)",
        Measurement(agreement, n=count), agreement >= 0.8,
        "If this failed, the sign would depend on choices that nobody would defend.",
    )  # fmt: skip


def _specificity(lost: float) -> Control:
    return Control(
        "loss on sentences without a person", Measurement(lost), lost < 0.02,
        "If this failed, the shift would disturb the network in general.",
    )  # fmt: skip


def _control(test: Test, attribute: str) -> Control:
    return Control(f"{attribute}: {test.null}", test.measurement, test.q <= ALPHA, _MEANS[test.null])


def _why_not_higher(earned: Grade) -> tuple[str, ...]:
    return tuple(f"Why not a higher verdict: {reason}" for reason in earned.missing)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else "none"
