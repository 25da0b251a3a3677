"""Edges from attributes to decisions: screened by swapping words, then followed into the network.

1. Total effect of every attribute on every decision, for all markers and for those that name it and that hint at it
   apart (a bias on names need not be one on words): moderated t, Benjamini-Hochberg over all of them. An edge is told
   for all markers if that is significant, otherwise for the surer of the two kinds.
2. The significant ones, the largest first, as many as the profile pays for: the attribute's shift is added inside, on
   held-out markers and the other half of the templates, against random directions of the same norm. Their null
   effects are standardised edge by edge and pooled, so that 40 draws for each of a few edges can support a correction.
3. For the same edges the multiverse, the loss on sentences without a person, and the swap on the untrained twin.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from cutaway.audits.protected_attributes.plan import Plan
from cutaway.audits.protected_attributes.sinks import Markers, Sink
from cutaway.audits.protected_attributes.steering import Observed, Steerer, edge_multiverse, off_target, one_target
from cutaway.audits.protected_attributes.swaps import Swap, cases_of, measure_pairs, moderated_p, pair_means, swap
from cutaway.evidence import (
    Evidence,
    Grade,
    Measurement,
    Multiverse,
    Test,
    Verdict,
    benjamini_hochberg,
    grade,
    permutation_p,
)
from cutaway.networks.network import Network
from cutaway.stimuli import attributes

ALPHA = 0.05
KINDS = ("all", "explicit", "cue")
WAIVED_ASSOCIATION = {
    "random-directions": "words were swapped, and a word has no direction; the intervention is compared with them",
    "surface": "the swapped words are the treatment itself",
}
WAIVED_INTERVENTION = {"optimised-elsewhere": "nothing was optimised: the shift is an average of observed changes"}


@dataclass(frozen=True)
class Inside:
    """An edge followed into the network; ``effect`` has p against pooled random directions."""

    site: str
    effect: Measurement
    q: float
    multiverse: Multiverse
    off_target: float
    twin: Measurement  # the swap's effect on the untrained twin
    beats_twin: Measurement  # effect minus the twin's, in the effect's direction, over marker pairs
    twin_q: float
    grade: Grade


@dataclass(frozen=True)
class Edge:
    """What one attribute does to one decision; + is better for the person with the marked phrase."""

    markers: Markers
    sink: str
    total: Measurement  # nats of log-odds of the favorable answers
    share: Measurement  # change of their share of the answers, -1 to 1
    q: float
    mass: float  # probability of all answer words together
    inside: Inside | None = None

    @property
    def attribute(self) -> str:
        """The attribute's name."""
        return self.markers.attribute

    @property
    def sign(self) -> int:
        """+1 or -1."""
        return 1 if self.total.value > 0 else -1

    @property
    def significant(self) -> bool:
        """True if the swap has an effect after correction over all edges."""
        return self.q <= ALPHA


def screened(swaps: Sequence[Swap]) -> list[Edge]:
    """The total effect of each attribute on each decision, corrected over all of them and over kinds of markers."""
    tested = {kind: [_edge(one, Markers(a.name, kind)) for one in swaps for a in attributes()] for kind in KINDS}
    by_name = {one.sink.name: one for one in swaps}
    p = {
        kind: moderated_p([pair_means(*by_name[edge.sink].by_pair(edge.markers)) for edge in edges])
        for kind, edges in tested.items()
    }
    q = benjamini_hochberg(np.stack([p[kind] for kind in KINDS]))
    return [_surest(list(zip(*alike, strict=True))) for alike in zip(
        zip(*tested.values(), strict=True), zip(*p.values(), strict=True), q.T, strict=True
    )]  # fmt: skip


def _edge(one: Swap, markers: Markers) -> Edge:
    share = one.measured(markers, metric="share")
    return Edge(markers, one.sink.name, one.measured(markers), share, float("nan"), one.mass)


def _surest(alike: Sequence[tuple[Edge, float, float]]) -> Edge:
    """One edge of those for all markers (first) and for each kind, with its p and q."""
    edge, p, q = alike[0] if alike[0][2] <= ALPHA else min(alike, key=lambda one: one[2])
    return replace(edge, total=replace(edge.total, p=float(p)), q=float(q))


def to_follow(edges: Sequence[Edge], count: int) -> list[Edge]:
    """The significant edges with the largest change of share."""
    found = [edge for edge in edges if edge.significant]
    return sorted(found, key=lambda edge: -abs(edge.share.value))[:count]


def follow(
    network: Network,
    twin: Network | None,
    edges: Sequence[Edge],
    swaps: Sequence[Swap],
    observed: Observed,
    plan: Plan,
    done: Callable[[str], None],
) -> list[Edge]:
    """These edges with what happens inside the network, and their grades."""
    by_name = {one.sink.name: one for one in swaps}
    site = plan.steer_sites[0]
    steerers = [Steerer(network, observed, by_name[edge.sink]) for edge in edges]
    effects, nulls = [], []
    for edge, steerer in zip(edges, steerers, strict=True):
        values, pairs = steerer.effects(edge.markers, site=site, half="A")
        effects.append(measure_pairs(values[:, 0], pairs))
        drawn = steerer.null_effects(edge.markers, site=site, half="A", count=plan.nulls, seed=plan.seed)
        nulls.append(drawn[:, 0])
        done(f"{edge.attribute} -> {edge.sink}: random directions")
    against = against_pooled(effects, nulls)
    q = benjamini_hochberg([one.p for one in against])
    twins = [_on_twin(twin, by_name[edge.sink], edge) for edge in edges]
    twin_q = benjamini_hochberg([beats.p for _, beats in twins])
    followed = []
    for i, (edge, steerer) in enumerate(zip(edges, steerers, strict=True)):
        multiverse = edge_multiverse(steerer, edge.markers, plan.steer_sites, summary=one_target(0))
        shift = observed.shifts(edge.markers, site, "A").overall()
        inside = Inside(
            site, against[i], float(q[i]), multiverse, off_target(network, site, shift),
            *twins[i], float(twin_q[i]), Grade(Verdict.ASSERTED),
        )  # fmt: skip
        followed.append(replace(edge, inside=replace(inside, grade=graded(edge, inside))))
        done(f"{edge.attribute} -> {edge.sink}: specifications")
    return followed


def against_pooled(effects: Sequence[Measurement], nulls: Sequence[Float[np.ndarray, " draw"]]) -> list[Measurement]:
    """Each effect with its own null's mean and spread, and p of its |z| among the |z| of all nulls together."""
    spread = [max(float(null.std(ddof=1)), 1e-12) for null in nulls]
    pooled = np.concatenate([np.abs(null - null.mean()) / s for null, s in zip(nulls, spread, strict=True)] or [[]])
    return [
        replace(
            effect, null_mean=float(null.mean()), null_std=s,
            p=permutation_p(abs(effect.value - null.mean()) / s, pooled, alternative="greater"),
        )
        for effect, null, s in zip(effects, nulls, spread, strict=True)
    ]  # fmt: skip


def _on_twin(twin: Network | None, one: Swap, edge: Edge) -> tuple[Measurement, Measurement]:
    if twin is None:
        unmeasured = Measurement(float("nan"))
        return unmeasured, unmeasured
    rows = cases_of(one.sink, edge.markers)
    there = swap(twin, restricted(one.sink, rows))
    values, pairs = there.by_pair(edge.markers)
    mine = pair_means(*one.by_pair(edge.markers))
    gain = edge.sign * (mine - pair_means(values, pairs))
    return measure_pairs(values, pairs), _one_sided(measure_pairs(gain, [str(pair) for pair in range(len(gain))]))


def _one_sided(measured: Measurement) -> Measurement:
    """The same with p for "greater": four markers have too few sign patterns for a permutation."""
    return replace(measured, p=measured.p / 2 if measured.value > 0 else 1 - measured.p / 2)


def restricted(sink: Sink, rows: Sequence[int]) -> Sink:
    """The sink with these cases only."""
    chosen = [line for row in rows for line in (2 * row, 2 * row + 1)]
    return replace(sink, cases=tuple(sink.cases[row] for row in rows), prompts=sink.prompts.select(chosen))


def graded(edge: Edge, inside: Inside) -> Grade:
    """The verdict on "the attribute pushes this decision".

    Where the shared shift pushes significantly the other way, the claim about words stands as an association, and the
    grade says that the inside does not support it.
    """
    association = [Test("shuffled-labels", edge.total, edge.q)]
    waived = {**WAIVED_ASSOCIATION, **WAIVED_INTERVENTION}
    if np.isnan(inside.twin_q):
        waived["untrained-twin"] = "this network's parameters cannot be redrawn"
    else:
        association.append(Test("untrained-twin", inside.beats_twin, inside.twin_q))
    signed = Test("random-directions", inside.effect, inside.q)
    full = grade(
        Evidence(
            sign=0, association=association, intervention=[signed], multiverse=inside.multiverse,
            off_target=inside.off_target, waived=waived,
        )
    )  # fmt: skip
    if inside.effect.value * edge.sign > 0 and inside.multiverse.sign in (0, edge.sign):
        return full
    words_only = grade(Evidence(sign=0, association=association, waived=waived))
    opposite = "Inside, the attribute's shift pushes the other way than the words do."
    return Grade(words_only.verdict, (opposite, *words_only.missing), words_only.notes)
