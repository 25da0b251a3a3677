"""The rule's measurements in order, each on the network and, smaller, on its untrained twin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cutaway.audits.protected_attributes import edges as edge_room
from cutaway.audits.protected_attributes.encoding import (
    Encoding,
    bag_of_embeddings,
    bag_of_tokens,
    compare,
    one_thread,
    probe_sites,
)
from cutaway.audits.protected_attributes.occupations import FLOOR, Gaps, definitional_gap, pronoun_gaps
from cutaway.audits.protected_attributes.plan import Plan, balanced
from cutaway.audits.protected_attributes.reading import read, tokenized_pairs
from cutaway.audits.protected_attributes.sinks import decision_sinks_of, job_sink
from cutaway.audits.protected_attributes.steering import Observed
from cutaway.audits.protected_attributes.stereotypes import Outside, Pushes, outside, pushes
from cutaway.audits.protected_attributes.swaps import swap
from cutaway.audits.protected_attributes.units import RankedUnit, rank_units
from cutaway.errors import NotTestable
from cutaway.evidence import Measurement
from cutaway.networks.network import Network
from cutaway.stimuli import (
    AttributePrompt,
    DefinitionalPair,
    NounTemplate,
    attribute_prompts,
    attributes,
    definitional_pairs,
    occupation_templates,
    occupations,
)

Say = Callable[[str], None]
FEW_SHUFFLES = 99  # for probes whose own p is not used


@dataclass(frozen=True)
class Subject:
    """What is examined: the network, its untrained twin if it has one, and how much to spend."""

    network: Network
    twin: Network | None
    plan: Plan
    say: Say


@dataclass(frozen=True, eq=False)
class Definitions:
    """The pronoun gap of nouns that mean a gender: knowledge of language, never a finding."""

    pairs: tuple[DefinitionalPair, ...]
    gaps: Gaps
    difference: Measurement


def attribute_sentences(templates: int) -> tuple[AttributePrompt, ...]:
    """The attribute prompts in this many templates, in the package's order."""
    ids = {prompt.template: prompt for prompt in attribute_prompts()}
    chosen = {prompt.template for prompt in balanced(list(ids.values()), templates)}
    return tuple(prompt for prompt in attribute_prompts() if prompt.template in chosen)


def encodings(subject: Subject) -> tuple[list[Encoding], Observed]:
    """What can be read, and the activations that later stages need."""
    plan, network = subject.plan, subject.network
    sentences = attribute_sentences(plan.encoding_templates)
    prompts = tokenized_pairs(network, [sentence.text for sentence in sentences])
    sites = dict.fromkeys((*plan.resid_sites, *plan.steer_sites, *plan.mlp_sites))
    observed = Observed(sentences, read(network, prompts, sites=list(sites), progress=_counted(subject, prompts)))
    names = [attribute.name for attribute in attributes()]

    def probed(acts: dict, shuffles: int) -> list:
        with one_thread():
            return [probe_sites(name, sentences, acts, shuffles=shuffles, seed=plan.seed) for name in names]

    subject.say("attributes: probes")
    mine = probed({site: observed.reading.last[site] for site in plan.resid_sites}, plan.shuffles)
    surface = probed({"bag of tokens": bag_of_tokens(prompts)}, FEW_SHUFFLES)
    bag = bag_of_embeddings(network, prompts)
    embedded = None if bag is None else probed({"bag of embeddings": bag}, FEW_SHUFFLES)
    twin = None
    if subject.twin is not None:
        subject.say("attributes: untrained twin")
        there = read(subject.twin, prompts, sites=plan.twin_sites)
        twin = probed({site: there.last[site] for site in plan.twin_sites}, FEW_SHUFFLES)
    return compare(mine, surface, twin, embedded, seed=plan.seed), observed


def _counted(subject: Subject, prompts: object) -> Callable[[int], None]:
    total, done = len(prompts), 0  # type: ignore[arg-type]

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        subject.say(f"attributes: {done} of {total} sentences")

    return count


def units(subject: Subject, observed: Observed, found: Sequence[Encoding]) -> list[RankedUnit]:
    """The units that change with each attribute that is encoded."""
    acts = {site: observed.reading.last[site] for site in subject.plan.mlp_sites}
    if not acts:
        return []
    keep = max(2, subject.plan.cards // 2)
    return [unit for one in found for unit in rank_units(one.attribute, observed.prompts, acts, keep=keep)]


def pronouns_after_nouns(subject: Subject) -> tuple[Outside, Definitions]:
    """The pronoun gaps of occupations and, apart, of nouns that mean a gender; :class:`NotTestable` below the floor."""
    templates = balanced(occupation_templates(), subject.plan.occupation_templates)
    subject.say("pronouns after occupations")
    seen = outside(subject.network, subject.twin, occupations(), templates, subject.plan)
    vocabulary = getattr(getattr(subject.network.module, "config", None), "vocab_size", None)
    floor = min(FLOOR, 20 / vocabulary) if vocabulary else FLOOR
    mass = float(seen.gaps.mass.mean())
    if mass < floor:
        raise NotTestable(
            f"'he' and 'she' have {mass:.2g} of the probability where one of them is expected; {floor:.2g} is needed."
        )
    subject.say("pronouns after nouns that mean a gender")
    return seen, definitions(subject.network, templates, subject.plan)


def definitions(network: Network, templates: Sequence[NounTemplate], plan: Plan) -> Definitions:
    """The same measurement for king and queen, with half of the templates."""
    pairs = definitional_pairs()
    nouns = list(dict.fromkeys(noun for pair in pairs for noun in (pair.male, pair.female)))
    gaps = pronoun_gaps(network, nouns, templates[:: max(1, len(templates) // 4)])
    return Definitions(pairs, gaps, definitional_gap(gaps, pairs, plan.seed))


def gender_and_jobs(subject: Subject, observed: Observed) -> Pushes | str:
    """The edges from gender to occupations, or why they cannot be measured."""
    jobs = job_sink(subject.network, occupations(), templates=subject.plan.job_templates)
    if isinstance(jobs, str):
        return jobs
    subject.say("gender -> occupations: words")
    rows = [row for row, case in enumerate(jobs.cases) if case.attribute == "gender"]
    swapped = swap(subject.network, edge_room.restricted(jobs, rows))
    return pushes(subject.network, swapped, occupations(), observed, subject.plan, subject.say)


def decisions(subject: Subject, observed: Observed) -> tuple[list[edge_room.Edge], dict[str, str]]:
    """All edges from attributes to decisions, the followed ones with what happens inside, and unreadable decisions."""
    sinks, unreadable = decision_sinks_of(subject.network, templates=subject.plan.decision_templates)
    swaps = []
    for sink in sinks:
        subject.say(f"attributes -> {sink.name}: words")
        swaps.append(swap(subject.network, sink))
    edges = edge_room.screened(swaps) if swaps else []
    chosen = edge_room.to_follow(edges, subject.plan.followed)
    followed = edge_room.follow(subject.network, subject.twin, chosen, swaps, observed, subject.plan, subject.say)
    inside = {(edge.attribute, edge.sink): edge.inside for edge in followed}
    return [replace(edge, inside=inside.get((edge.attribute, edge.sink))) for edge in edges], unreadable
