"""One short function per workflow; each reads like a table of contents."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cutaway import __version__
from cutaway.atlas import Atlas
from cutaway.atlas.records import CardRecord, FindingRecord, Provenance
from cutaway.audits.coverage import coverage_table
from cutaway.audits.effects import economical
from cutaway.audits.findings import AuditResult, NotTestable, RuleResult
from cutaway.audits.rules import AuditContext, Rule, profile_named, rules_for, silent
from cutaway.errors import BadInput
from cutaway.errors import NotTestable as NotTestableError
from cutaway.features import Effort, FeatureCard, explain_many
from cutaway.networks import Network
from cutaway.observe import Observation
from cutaway.observe import observe as stream
from cutaway.report.json_twin import document
from cutaway.stimuli import StimulusSet, builtin_photographs, builtin_text

Progress = Callable[[int, int, str], None]

#: The kinds of site that are observed when none are named: what units say after their nonlinearity.
OBSERVED_KINDS = ("conv", "mlp", "activation", "heads")
TEXTS = 400  # passages of the embedded text that are shown unless another set is given
WORDS = 48  # of each passage, the first so many words: bounded cost, enough context


def default_stimuli(network: Network) -> StimulusSet | None:
    """What the package has to show a network of this modality; None where it takes tensors."""
    if network.modality == "image" and network.preprocess is not None:
        return builtin_photographs()
    if network.modality == "text" and network.tokenizer is not None:
        return builtin_text(count=TEXTS)
    return None


def observe(
    network: Network,
    stimuli: StimulusSet | None = None,
    *,
    sites: Iterable[str] | None = None,
    atlas: Atlas | str | Path | None = None,
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress = silent,
) -> Observation:
    """Shows stimuli to a network once and keeps what the units of ``sites`` did in ``atlas``."""
    shown = _stimuli(network, stimuli)
    wanted = list(sites) if sites is not None else _main_sites(network)
    if not wanted:
        raise NotTestableError(f"{network.name} has no site after a nonlinearity; name the sites to observe.")
    return stream(
        network,
        shown,
        sites=wanted,
        atlas=_atlas(atlas),
        batch_size=batch_size,
        seed=seed,
        progress=lambda done, total: progress(done, total, f"observing {len(wanted)} sites"),
    )


def feature(
    network: Network,
    address: str,
    *,
    atlas: Atlas | str | Path | None = None,
    stimuli: StimulusSet | None = None,
    visualize: bool = False,
    steps: int = 64,
    tune: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> FeatureCard:
    """The card of one feature: examples, distribution, effects, weights, polysemanticity, with their nulls.

    ``visualize`` adds a picture made for it in ``steps`` of gradient ascent, ``tune`` its tuning to a kind of drawing
    (``"curves"``): units of feature maps only, and both take time.
    """
    effort = Effort(visualize=visualize, steps=steps, tune=tune)
    store = _atlas(atlas)
    store.bind(network.name, network.fingerprint)
    shown = _stimuli(network, stimuli)
    (card,) = explain_many(network, [address], stimuli=shown, atlas=store, seed=seed, effort=effort, progress=progress)
    store.cards.put(_card_row(card, network, shown, seed))
    return card


def audit(
    network: Network,
    *,
    profile: str = "quick",
    atlas: Atlas | str | Path | None = None,
    stimuli: StimulusSet | None = None,
    rules: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress = silent,
    command: str = "",
) -> AuditResult:
    """Asks a network every question that it can answer; returns findings with their evidence, and what is not there."""
    started, clock = datetime.now(UTC), time.monotonic()
    store = _atlas(atlas)
    store.bind(network.name, network.fingerprint)
    shown = stimuli if stimuli is not None else default_stimuli(network)
    context = AuditContext(network, store, shown, profile_named(profile), seed, progress, command)
    results = tuple(_ask(rule, context) for rule in rules_for(rules))
    cards = _cards(context, results)
    result = AuditResult(
        network=network.name,
        fingerprint=network.fingerprint,
        description="; ".join([network.description.rstrip("."), *network.notes]),
        profile=profile,
        seed=seed,
        command=command,
        version=__version__,
        started=started.isoformat(timespec="seconds"),
        seconds=time.monotonic() - clock,
        stimuli=((shown.name, shown.fingerprint, len(shown), len(shown.skipped)),) if shown is not None else (),
        results=results,
        coverage=coverage_table(network, results),
        cards=cards,
    )
    store.findings.put(*_finding_rows(result, _provenance(network, shown, seed)))
    return result


def _ask(rule: Rule, context: AuditContext) -> RuleResult:
    """A rule's answer; a question that has none here becomes part of the report, never an error."""

    def untestable(reason: str) -> RuleResult:
        return RuleResult(rule.id, rule.question, not_testable=(NotTestable(rule.id, rule.question, reason),))

    reason = rule.applicable(context.network)
    if reason is not None:
        return untestable(reason)

    def progress(done: int, total: int, what: str) -> None:
        context.progress(done, total, f"{rule.id}: {what}")

    try:
        return rule.check(dataclasses.replace(context, progress=progress))
    except NotTestableError as error:
        return untestable(str(error))


def _cards(context: AuditContext, results: Iterable[RuleResult]) -> tuple[FeatureCard, ...]:
    """Cards of the addresses that rules think worth reading, each once, as many as the profile allows."""
    if context.stimuli is None:
        return ()
    wanted = _interleaved([result.cards for result in results])[: context.profile.cards]
    if not wanted:
        return ()
    shown = context.stimuli.take(min(context.profile.stimuli, len(context.stimuli)), seed=context.seed)
    cards = explain_many(
        economical(context.network, context.profile),
        wanted,
        stimuli=shown,
        atlas=context.atlas,
        seed=context.seed,
        progress=context.progress,
    )
    context.atlas.cards.put(*(_card_row(card, context.network, shown, context.seed) for card in cards))
    return tuple(cards)


def _interleaved(groups: Sequence[Sequence[str]]) -> list[str]:
    """The first of each group, then the second of each, ...; every address once."""
    longest = max((len(group) for group in groups), default=0)
    return list(dict.fromkeys(group[rank] for rank in range(longest) for group in groups if rank < len(group)))


def _stimuli(network: Network, stimuli: StimulusSet | None) -> StimulusSet:
    shown = stimuli if stimuli is not None else default_stimuli(network)
    if shown is None:
        raise BadInput(
            f"{network.name} takes {network.modality} input and cutaway has nothing of that kind to show; give stimuli."
        )
    if len(shown) == 0:
        raise BadInput(f"The stimulus set {shown.name} is empty; give at least one stimulus.")
    return shown


def _main_sites(network: Network) -> list[str]:
    return [site.name for site in network.sites() if site.kind in OBSERVED_KINDS]


def _atlas(atlas: Atlas | str | Path | None) -> Atlas:
    """The atlas given, the one at a path, or a temporary one that ends with the process."""
    if isinstance(atlas, Atlas):
        return atlas
    return Atlas(atlas if atlas is not None else Path(tempfile.mkdtemp(prefix="cutaway-atlas-")))


def _provenance(network: Network, stimuli: StimulusSet | None, seed: int) -> Provenance:
    return Provenance(network.fingerprint, stimuli.fingerprint if stimuli is not None else "", seed)


def _card_row(card: FeatureCard, network: Network, stimuli: Any, seed: int) -> CardRecord:
    return CardRecord(card.address, "card", card.to_json(), provenance=_provenance(network, stimuli, seed))


def _finding_rows(result: AuditResult, provenance: Provenance) -> list[FindingRecord]:
    """The report's own description of each finding, under the identity that it keeps across runs."""
    return [
        FindingRecord(found["id"], found["rule"], found, provenance=provenance)
        for found in document(result)["findings"]
    ]
