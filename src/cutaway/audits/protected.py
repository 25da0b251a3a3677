"""The rule ``protected-attributes``: which of them does a language model encode, where, and what do they push?

Method, controls, severity and limits: ``docs/audits/protected-attributes.md``. The parts:
:mod:`cutaway.audits.protected_attributes`.
"""

import time
from typing import Any, cast

from cutaway.audits.findings import Finding, NotFound, NotTestable, RuleResult, Table
from cutaway.audits.protected_attributes import claims, figures, stages
from cutaway.audits.protected_attributes.claims import Voice
from cutaway.audits.protected_attributes.plan import Plan, named
from cutaway.audits.protected_attributes.stages import Subject
from cutaway.audits.rules import AuditContext
from cutaway.errors import NotTestable as Untestable
from cutaway.evidence import Verdict, untrained_twin
from cutaway.networks.network import Network
from cutaway.registry import RULES

#: About how many steps are told to a progress listener; the last ones depend on what is found.
STEPS = 60


class ProtectedAttributes:
    """Encoding, stereotypes and decision edges of nine protected attributes, each against its nulls."""

    id = "protected-attributes"
    version = "1"
    question = (
        "Which protected attributes does the language model encode, where, "
        "and which occupations and decisions do they push?"
    )

    def applicable(self, network: Network) -> str | None:
        """None for a causal language model with a tokenizer and a named residual stream."""
        if network.task != "causal-lm":
            return f"{network.name} is no causal language model, so it says no next word about a person."
        if network.tokenizer is None:
            return f"{network.name} has no tokenizer, so it cannot be shown sentences about people; load it with one."
        if not named(network, "resid"):
            return f"{network.name} names no residual stream, so nothing can be read or added inside."
        return None

    def check(self, context: AuditContext) -> RuleResult:
        """All measurements, and what they amount to."""
        started = time.perf_counter()
        subject = self._subject(context)
        voice = Voice(self.id, self.version, context.network.name, self._command(context))
        encoded, observed = self._encoded(subject, voice)
        results = [encoded, self._stereotypes(subject, voice, observed), self._decisions(subject, voice, observed)]
        return RuleResult(
            self.id,
            self.question,
            findings=tuple(finding for one in results for finding in one.findings),
            not_found=tuple(missing for one in results for missing in one.not_found),
            not_testable=tuple(reason for one in results for reason in one.not_testable),
            cards=encoded.cards,
            tables=tuple(table for one in results for table in one.tables),
            figures=tuple(figure for one in results for figure in one.figures),
            examined=tuple(subject.plan.mlp_sites),
            seconds=time.perf_counter() - started,
        )

    def _subject(self, context: AuditContext) -> Subject:
        try:
            twin: Network | None = untrained_twin(cast(Any, context.network), seed=context.seed)
        except Untestable:
            twin = None
        steps = 0

        def say(what: str) -> None:
            nonlocal steps
            steps += 1
            context.progress(min(steps, STEPS), STEPS, what)

        return Subject(context.network, twin, Plan.of(context.profile, context.network, context.seed), say)

    def _command(self, context: AuditContext) -> str:
        source = context.network.source or context.network.name
        default = f"cutaway audit {source} --profile {context.profile.name} --seed {context.seed}"
        return context.command or default

    def _encoded(self, subject: Subject, voice: Voice) -> tuple[RuleResult, stages.Observed]:
        found, observed = stages.encodings(subject)
        encoded = [one for one in found if one.grade.verdict.at_least(Verdict.OBSERVED)]
        units = stages.units(subject, observed, encoded)
        tables = [claims.encoding_table(found), *([claims.unit_table(units)] if units else [])]
        findings, not_found = claims.encoding_claim(voice, found, tables)
        best = sorted((unit for unit in units if unit.q <= 0.05), key=lambda unit: (unit.q, -unit.held_out))
        cards = tuple(dict.fromkeys(unit.address for unit in best))[: subject.plan.cards]
        pictures = (figures.encoding_figure(found),)
        return self._result(findings, not_found, cards=cards, figures=pictures), observed

    def _stereotypes(self, subject: Subject, voice: Voice, observed: stages.Observed) -> RuleResult:
        try:
            seen, definitions = stages.pronouns_after_nouns(subject)
        except Untestable as reason:
            return self._untestable("Do occupations carry a gender?", str(reason))
        pushed = stages.gender_and_jobs(subject, observed)
        missing = []
        if isinstance(pushed, str):
            reason = f"{pushed[0].upper()}{pushed[1:]}."
            missing, pushed = [NotTestable(self.id, "Does gender push occupations inside?", reason)], None
        findings, not_found = claims.stereotype_claim(voice, seen, pushed)
        pictures = [figures.gap_figure(seen), *([figures.pushes_figure(pushed)] if pushed else [])]
        tables = (claims.definitional_table(definitions),)
        return self._result(findings, not_found, missing, tables=tables, figures=tuple(pictures))

    def _decisions(self, subject: Subject, voice: Voice, observed: stages.Observed) -> RuleResult:
        edges, unreadable = stages.decisions(subject, observed)
        missing = [
            NotTestable(self.id, f"Which attributes push the decision {name!r}?", f"{reason[0].upper()}{reason[1:]}.")
            for name, reason in unreadable.items()
        ]
        if not edges:
            return self._result([], [], missing)
        table = claims.decisions_table(edges)
        findings, not_found = claims.edge_claims(voice, edges, table)
        shown = [edge for edge in edges if edge.inside is not None]
        pictures = (figures.edges_figure(shown),) if shown else ()
        return self._result(findings, not_found, missing, tables=(table,) if findings else (), figures=pictures)

    def _untestable(self, question: str, reason: str) -> RuleResult:
        return RuleResult(self.id, self.question, not_testable=(NotTestable(self.id, question, reason),))

    def _result(
        self,
        findings: list[Finding],
        not_found: list[NotFound],
        not_testable: list[NotTestable] | tuple[()] = (),
        *,
        cards: tuple[str, ...] = (),
        tables: tuple[Table, ...] = (),
        figures: tuple = (),
    ) -> RuleResult:
        return RuleResult(
            self.id, self.question, tuple(findings), tuple(not_found), tuple(not_testable), cards, tables, figures
        )


RULES.register("protected-attributes")(ProtectedAttributes())
