"""How a graph fares under intervention, in numbers with nulls: its edges, its set of nodes, its features."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from cutaway.circuits.tracing.causal import cut_together
from cutaway.circuits.tracing.features.groups import set_features
from cutaway.circuits.tracing.frozen import Body, Pass
from cutaway.circuits.tracing.graph import Effect, FeaturesTested, Tested
from cutaway.circuits.tracing.links import Links
from cutaway.circuits.tracing.nodes import FEATURE
from cutaway.circuits.tracing.question import Question
from cutaway.circuits.tracing.sets import Whole
from cutaway.errors import BadInput, UnknownName
from cutaway.evidence import Measurement, measure_against_null, measure_spearman, proportion_interval

SHUFFLES = 2000


def tested(
    links: Links, places: Sequence[tuple[int, int]], effects: dict[tuple[int, int], float], whole: Whole, seed: int
) -> Tested:
    """How the kept edges fared when they were cut, and the kept nodes when they were run alone or exchanged."""
    moved = np.array([(float(links.values[place]), effect) for place, effect in effects.items()]).reshape(-1, 2)
    moved = moved[moved[:, 0] != 0]
    signs, rank = agreement(moved[:, 0], moved[:, 1], seed=seed)
    alone = _against_random(whole.kept, whole, whole.random_kept, seed, lost=False)
    lost = _against_random(whole.without, whole, whole.random_without, seed, lost=True)
    left = len(places) - len(moved)
    return Tested(len(moved), left, signs, rank, alone, lost, whole.kept, whole.without, whole.empty)


def agreement(
    predicted: Float[np.ndarray, " edge"], measured: Float[np.ndarray, " edge"], *, seed: int = 0
) -> tuple[Measurement | None, Measurement | None]:
    """Sign agreement and Spearman's correlation, each where it can be had."""
    signs = sign_agreement(predicted, measured, seed=seed) if len(predicted) else None
    varied = len(predicted) > 2 and all(len(set(each.tolist())) > 1 for each in (predicted, measured))
    return signs, measure_spearman(predicted, measured, seed=seed) if varied else None


def sign_agreement(
    predicted: Float[np.ndarray, " edge"], measured: Float[np.ndarray, " edge"], *, seed: int = 0
) -> Measurement:
    """Share of edges whose two numbers have the same sign, against predictions shuffled between edges; p is one-sided.

    The interval is that of a share of independent edges (Wilson). A graph whose effects are mostly positive agrees
    often by chance: the null says how often.
    """
    right = np.sign(predicted) == np.sign(measured)
    draws = np.random.default_rng(seed).permuted(np.tile(predicted, (SHUFFLES, 1)), axis=1)
    null = (np.sign(draws) == np.sign(measured)).mean(1)
    found = measure_against_null(float(right.mean()), null, n=len(right), alternative="greater", seed=seed)
    low, high = proportion_interval(int(right.sum()), len(right))
    return dataclasses.replace(found, low=float(low), high=float(high))


def _against_random(value: float, whole: Whole, draws: Sequence[float], seed: int, *, lost: bool) -> Measurement | None:
    """A run's place between the empty one (0) and the network (1), or what it lost of that way."""
    span = whole.network - whole.empty
    if abs(span) < 1e-6:
        return None
    shares = [(each - whole.empty) / span for each in (value, *draws)]
    shares = [1 - share for share in shares] if lost else shares
    return measure_against_null(shares[0], shares[1:], n=1, alternative="greater", seed=seed)


def features_tested(
    body: Body, seen: Pass, question: Question, links: Links, places: Sequence[tuple[int, int]], kept: Sequence[int], *,
    groups: Mapping[str, Sequence[str]], factor: float | int | None, seed: int = 0,
) -> FeaturesTested:  # fmt: skip
    """Kept features set to their baseline one by one, edges from features cut together, and the groups asked for."""
    nodes = links.pool.nodes
    own = [number for number in kept if nodes[number].kind == FEATURE]
    found = set_features(body, seen, question, links, [[number] for number in own], watch=own)
    singles = [
        Effect(nodes[number].name, (nodes[number].name,), float(one), float(two))
        for number, one, two in zip(own, found.predicted, found.measured)
    ]
    signs, rank = agreement(found.predicted, found.measured, seed=seed)
    says = np.array([_moves(links, place, own, found.fallen) for place in places if set(place) <= set(own)])
    moved, moved_rank = agreement(*says.reshape(-1, 2).T, seed=seed)
    joined = _joined(body, seen, question, links, places, set(own))
    asked = _groups(body, seen, question, links, groups, factor)
    return FeaturesTested(tuple(singles), joined, asked, signs, rank, moved, moved_rank)


def _moves(
    links: Links, place: tuple[int, int], own: Sequence[int], fallen: Float[np.ndarray, "source target"]
) -> tuple[float, float]:
    """By how much an edge says that its target's activation falls when the source is set to its baseline, and did."""
    target, source = place
    through = links.pool.through[links.pool.nodes[target].site]
    (entry,) = links.pool.entries(links.pool.nodes[target]).tolist()
    along = float(through.along[entry])
    said = float(links.values[place]) / along if along else 0.0
    return said, float(fallen[own.index(source), own.index(target)])


def _joined(
    body: Body, seen: Pass, question: Question, links: Links, places: Sequence[tuple[int, int]], own: set[int]
) -> tuple[Effect, ...]:
    into: dict[int, list[int]] = {}
    for target, source in places:
        if source in own:
            into.setdefault(target, []).append(source)
    groups = [(target, sources) for target, sources in into.items() if len(sources) > 1]
    measured = cut_together(body, seen, question, links, groups)
    nodes = links.pool.nodes
    return tuple(
        Effect(
            nodes[target].name, tuple(nodes[number].name for number in sources),
            float(links.values[target, sources].sum()), float(value),
        )
        for (target, sources), value in zip(groups, measured)
    )  # fmt: skip


def _groups(
    body: Body, seen: Pass, question: Question, links: Links, groups: Mapping[str, Sequence[str]],
    factor: float | int | None,
) -> tuple[Effect, ...]:  # fmt: skip
    index = links.pool.index
    for name in (each for group in groups.values() for each in group):
        if name not in index:
            raise UnknownName("feature of the graph", name, index, "Only active features of its pool can be set.")
    if any(not group for group in groups.values()):
        raise BadInput("A group of no features was to be set; name at least one.")
    found = set_features(
        body, seen, question, links, [[index[name] for name in group] for group in groups.values()], factor=factor
    )  # fmt: skip
    return tuple(
        Effect(name, tuple(group), float(one), float(two))
        for (name, group), one, two in zip(groups.items(), found.predicted, found.measured)
    )
