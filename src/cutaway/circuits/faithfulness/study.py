"""Everything that is said about one circuit: found on some pairs, held against others.

1. The smallest connected circuit with f >= 0.9 on the pairs it was found on, without idle edges.
2. On held-out pairs: its f against random circuits of the same size, the curve over sizes, both orders.
3. Equivalence, independence, completeness, minimality; other ablations; redrawn pairs; single neurons as a baseline.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.discovery.neurons import NeuronCircuits, neuron_circuits
from cutaway.circuits.discovery.ranking import CHANGE, ORDERS, Ranking
from cutaway.circuits.discovery.selection import Mask, Topology
from cutaway.circuits.discovery.setup import Setup, setup
from cutaway.circuits.edges.references import ABLATIONS
from cutaway.circuits.faithfulness.curve import Curve, curve, faithfulness_of, smallest, without_idle
from cutaway.circuits.faithfulness.hypothesis import (
    Completeness,
    Equivalence,
    Minimality,
    completeness,
    equivalence,
    independence,
    minimality,
)
from cutaway.circuits.faithfulness.null import random_curves, random_faithfulness
from cutaway.circuits.faithfulness.shares import Shares, shares
from cutaway.circuits.faithfulness.stability import resampling_stability
from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import Measurement, measure_against_null
from cutaway.evidence.metrics import SIZES
from cutaway.networks.network import Network

LARGE = 2000  # edges: beyond, random circuits run on few pairs
FEW = 8  # pairs for random circuits of large networks
FEW_CURVES = 3  # random curves of large networks
MOST_TESTED = 4  # edges removed one by one in large networks: each needs 20 random ones beside it
LEAST_RANDOM = 19  # random circuits below which no p-value can reach 0.05


@dataclass(frozen=True)
class Plan:
    """How much is asked: random circuits at the found size, random curves for the band, edges tested one by one."""

    random: int = 100
    curves: int = 10
    tested: int = 16
    neurons: bool = True
    seed: int = 0
    say: Callable[[str], None] = field(default=lambda _text: None, repr=False)
    progress: Callable[[int, int, str], None] = field(default=lambda _done, _total, _what: None, repr=False)

    def bar(self, what: str) -> Callable[[int, int], None]:
        """Progress of one part."""
        return lambda done, total: self.progress(done, total, what)


@dataclass(frozen=True, eq=False)
class Study:
    """A circuit with its evidence. Fields that could not be tested are None and ``notes`` say why."""

    ranking: Ranking
    topology: Topology
    found: Setup
    held: Setup
    mask: Mask
    shares: Shares
    faithfulness: Measurement
    faithfulness_found: float
    percentile: float
    curve: Curve
    absolute_curve: Curve | None
    signed_curve: Curve | None
    band: Float[np.ndarray, "circuit size"]
    equivalence: Equivalence
    independence: Measurement
    completeness: Completeness
    minimality: Minimality | None
    stability: Measurement | None
    ablations: dict[str, Measurement | None]
    neurons: NeuronCircuits | None
    passes: dict[str, float]
    notes: tuple[str, ...]


def study(network: Network, found: Setup, held: Setup, ranking: Ranking, plan: Plan | None = None) -> Study:
    """The circuit at k90 of a ranking that was made on ``found``, held against the pairs of ``held``."""
    plan = plan or Plan()
    if plan.random < LEAST_RANDOM:
        raise BadInput(f"{plan.random} random circuits were asked for; p <= 0.05 needs at least {LEAST_RANDOM}.")
    topology, notes = Topology.of(found.wired), [*ranking.notes]
    helpful = math.copysign(1.0, found.gap)
    order = ranking.order()
    plan.say("The smallest circuit with 90 % of the effect")
    small = without_idle(found, topology, smallest(found, topology, order, progress=plan.bar("sizes")))
    if small.dropped:
        notes.append(f"{small.dropped} edges were left out because removing them moves no output")
    passes = {"scores": ranking.cost.total, "search": float(small.passes)}
    keep = topology.tensor(small.mask)
    values = held.values([keep])[0]
    own = faithfulness_of(held, values, seed=plan.seed)
    against, percentile, band, cost = _against_random(held, topology, small.mask, plan)
    passes["random circuits"] = cost
    curves = _curves(held, topology, ranking, helpful, plan)
    passes["curves"] = float(sum(len(each.sizes) for each in curves.values()))
    tests, cost = _tests(held, topology, small.mask, values.double().numpy(), plan, notes)
    passes["tests"] = cost
    neurons = _neurons(network, held, plan)
    passes["neurons"] = neurons.cost.total if neurons is not None else 0.0
    return Study(
        ranking, topology, found, held, small.mask,
        shares(found.wired, topology, small.mask, length=held.reference.heads[0].shape[1]),
        replace(own, null_mean=against.null_mean, null_std=against.null_std, p=against.p),
        small.faithfulness, percentile, curves["strength"], curves.get("absolute"), curves.get("signed"), band, *tests,
        _stability(found, topology, ranking, int(small.mask.sum()), plan, notes),
        _ablations(held, keep, own, plan), neurons, passes, tuple(notes),
    )  # fmt: skip


def _against_random(
    held: Setup, topology: Topology, mask: Mask, plan: Plan
) -> tuple[Measurement, float, Float[np.ndarray, "circuit size"], float]:
    """The circuit among random ones of its size (f on the same pairs), the band, passes over all pairs."""
    few = held.part(range(min(FEW, len(held.pairs)))) if topology.graph.count > LARGE else held
    size = max(1, int(mask.sum()))
    own = float(few.faithfulness(few.values([topology.tensor(mask)]))[0])
    null = random_faithfulness(
        few, topology, size, count=plan.random, seed=plan.seed, progress=plan.bar("random circuits")
    )
    against = measure_against_null(own, null, n=len(few.pairs), alternative="greater", seed=plan.seed)
    counts = tuple(max(1, round(share * topology.graph.count)) for share in SIZES)
    curves = min(plan.curves, FEW_CURVES) if topology.graph.count > LARGE else plan.curves
    band = random_curves(few, topology, counts, curves=curves, seed=plan.seed + 1, progress=plan.bar("random curves"))
    share = len(few.pairs) / len(held.pairs)
    return against, 100 * float((null < own).mean()), band, (plan.random + band.size + 1) * share


def _curves(held: Setup, topology: Topology, ranking: Ranking, helpful: float, plan: Plan) -> dict[str, Curve]:
    """By strength; by absolute and signed mean scores, too, where scores have a sign that means something."""
    orders = ORDERS if not held.whole_output and ranking.unit == CHANGE else ORDERS[:1]
    return {
        by: curve(
            held, topology, ranking.order(by, helpful=helpful), seed=plan.seed,
            progress=plan.bar(f"curve, {by} order"),
        )
        for by in orders
    }  # fmt: skip


def _tests(
    held: Setup, topology: Topology, mask: Mask, values: Float[np.ndarray, " pair"], plan: Plan, notes: list[str]
) -> tuple[tuple[Equivalence, Measurement, Completeness, Minimality | None], float]:
    network = held.network.double().numpy()
    plan.say("Tests of the circuit")
    complete, rest = completeness(held, topology, mask, seed=plan.seed)
    few = held.part(range(min(FEW, len(held.pairs)))) if topology.graph.count > LARGE else held
    minimal, passes = None, 18.0
    tested = min(plan.tested, MOST_TESTED) if topology.graph.count > LARGE else plan.tested
    try:
        if tested:
            minimal = minimality(few, topology, mask, most=tested, seed=plan.seed, progress=plan.bar("edges removed"))
            drawn = len(minimal.edges) + 1.3 * len(minimal.null)
            passes += drawn * len(few.pairs) / len(held.pairs)
    except NotTestable as reason:
        notes.append(str(reason))
    same = equivalence(values, network, gap=held.gap)
    return (same, independence(rest, network, seed=plan.seed), complete, minimal), passes


def _stability(
    found: Setup, topology: Topology, ranking: Ranking, size: int, plan: Plan, notes: list[str]
) -> Measurement | None:
    try:
        return resampling_stability(found, topology, ranking, size, seed=plan.seed)
    except NotTestable as reason:
        notes.append(str(reason))
        return None


def _ablations(held: Setup, keep: Tensor, own: Measurement, plan: Plan) -> dict[str, Measurement | None]:
    """f of the same circuit when cut edges carry something else; None where that changes nothing."""
    table: dict[str, Measurement | None] = {}
    for how in ABLATIONS:
        if how == held.ablation:
            table[how] = own
            continue
        try:
            other = setup(held.wired, held.pairs, held.metric, ablation=how, entities=held.entities, seed=plan.seed)
            table[how] = faithfulness_of(other, other.values([keep])[0], seed=plan.seed)
        except NotTestable:
            table[how] = None
    return table


def _neurons(network: Network, held: Setup, plan: Plan) -> NeuronCircuits | None:
    if not plan.neurons:
        return None
    plan.say("Single neurons and heads, the baseline")
    return neuron_circuits(network, held, seed=plan.seed)
