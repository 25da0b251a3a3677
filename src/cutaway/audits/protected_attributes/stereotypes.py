"""Gender and occupations: does the network lean where the labour statistics lean, and does its gender direction push?

Outside: the pronoun gap of sixty occupations against the share of women. Inside: e(gender -> occupation), the change
of each occupation's log-odds when the female-minus-male shift is added, and how its order agrees with the share of
women; random directions of the same norm, and the untrained twin, are the worlds in which it must not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from cutaway.audits.protected_attributes.edges import WAIVED_ASSOCIATION, WAIVED_INTERVENTION
from cutaway.audits.protected_attributes.occupations import Gaps, alignment, plain_check, pronoun_gaps
from cutaway.audits.protected_attributes.plan import Plan
from cutaway.audits.protected_attributes.sinks import Markers
from cutaway.audits.protected_attributes.steering import Observed, Steerer, edge_multiverse, off_target
from cutaway.audits.protected_attributes.swaps import Swap, pair_means
from cutaway.errors import NotTestable
from cutaway.evidence import (
    Evidence,
    Grade,
    Measurement,
    Multiverse,
    Test,
    benjamini_hochberg,
    grade,
    measure_against_null,
    measure_spearman,
    permutation_p,
    spearman_interval,
)
from cutaway.networks.network import Network
from cutaway.stimuli import NounTemplate, Occupation

GENDER = Markers("gender")


@dataclass(frozen=True, eq=False)
class Outside:
    """The pronoun gaps of occupations, what they amount to, and the same on the untrained twin."""

    occupations: tuple[Occupation, ...]
    gaps: Gaps
    alignment: Measurement  # Spearman, lean to "she" with the share of women
    check: Measurement  # nurse, librarian, teacher minus carpenter, CEO, mechanic
    twin: Measurement | None
    beats_twin: Measurement | None


@dataclass(frozen=True, eq=False)
class Pushes:
    """e(gender -> occupation) by swapped words (``total``) and by the added shift (``inside``)."""

    occupations: tuple[str, ...]
    women: tuple[float, ...]
    total: tuple[Measurement, ...]
    q: tuple[float, ...]
    inside: tuple[float, ...]  # mean over marker pairs, nats
    total_alignment: Measurement
    inside_alignment: Measurement  # p against random directions of the same norm
    multiverse: Multiverse
    off_target: float
    site: str


def outside(
    network: Network,
    twin: Network | None,
    occupations: Sequence[Occupation],
    templates: Sequence[NounTemplate],
    plan: Plan,
) -> Outside:
    """Pronoun gaps, their alignment, and whether the alignment is larger than the twin's."""
    nouns = [occupation.name for occupation in occupations]
    gaps = pronoun_gaps(network, nouns, templates)
    measured = alignment(gaps, occupations, shuffles=plan.shuffles, seed=plan.seed)
    there = beats = None
    if twin is not None:
        fewer = templates[:: max(1, len(templates) // 4)]
        twin_gaps = pronoun_gaps(twin, nouns, fewer)
        there = alignment(twin_gaps, occupations, shuffles=plan.shuffles, seed=plan.seed)
        beats = _beats(gaps, twin_gaps, occupations, plan)
    return Outside(tuple(occupations), gaps, measured, plain_check(gaps, plan.seed), there, beats)


def _beats(gaps: Gaps, twin: Gaps, occupations: Sequence[Occupation], plan: Plan) -> Measurement:
    """|rho| of the network minus |rho| of the twin; null: each occupation's two ranks change places at random."""
    women = stats.rankdata([occupation.women_percent for occupation in occupations])
    ranks = np.array([stats.rankdata(-one.gap.mean(1)) for one in (gaps, twin)])
    exchanged = np.random.default_rng(plan.seed).random((plan.shuffles, len(women))) < 0.5
    drawn = [_gain(np.where(mask, ranks[::-1], ranks), women) for mask in exchanged]
    value = _gain(ranks, women)
    return measure_against_null(value, drawn, n=len(women), alternative="greater", seed=plan.seed)


def _gain(ranks: Float[np.ndarray, "2 occupation"], women: Float[np.ndarray, " occupation"]) -> float:
    return abs(_rho(ranks[0], women)) - abs(_rho(ranks[1], women))


def _rho(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    if np.ptp(first) == 0:
        return 0.0
    return float(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1])


def pushes(
    network: Network,
    jobs: Swap,
    occupations: Sequence[Occupation],
    observed: Observed,
    plan: Plan,
    done: Callable[[str], None],
) -> Pushes:
    """The edges from gender to every occupation that is one token, outside and inside."""
    share = {occupation.name: occupation.women_percent for occupation in occupations}
    names = jobs.sink.targets
    women = np.array([share[name] for name in names])
    total = [jobs.measured(GENDER, target) for target in range(len(names))]
    steerer, site = Steerer(network, observed, jobs), plan.steer_sites[0]
    effects, pairs = steerer.effects(GENDER, site=site, half="A")
    inside = _over_pairs(effects, pairs)
    null = steerer.null_effects(GENDER, site=site, half="A", count=plan.nulls, seed=plan.seed)
    done("gender -> occupations: random directions")

    def summary(changes: Float[np.ndarray, "case target"], mine: list[str]) -> Measurement:
        change = _over_pairs(changes, mine)
        if np.ptp(change) == 0:
            raise NotTestable("The shift changes no occupation against the others.")
        return measure_spearman(change, women, shuffles=plan.shuffles, seed=plan.seed)

    multiverse = edge_multiverse(steerer, GENDER, plan.steer_sites, summary=summary)
    done("gender -> occupations: specifications")
    shift = observed.shifts(GENDER, site, "A").overall()
    values = [one.value for one in total]
    return Pushes(
        names, tuple(women), tuple(total), tuple(benjamini_hochberg([one.p for one in total])), tuple(inside),
        measure_spearman(values, women, shuffles=plan.shuffles, seed=plan.seed),
        _against_directions(_rho(inside, women), [_rho(draw, women) for draw in null], len(women), plan.seed),
        multiverse, off_target(network, site, shift), site,
    )  # fmt: skip


def _over_pairs(effects: Float[np.ndarray, "case target"], pairs: list[str]) -> Float[np.ndarray, " target"]:
    return np.mean([pair_means(effects[:, target], pairs) for target in range(effects.shape[1])], axis=1)


def _against_directions(value: float, null: Sequence[float], n: int, seed: int) -> Measurement:
    """rho with Bonett and Wright's interval; p: random directions with as large a |rho|."""
    p = permutation_p(abs(value), np.abs(null), alternative="greater")
    spread = float(np.std(null, ddof=1))
    return Measurement(value, *spearman_interval(value, n), float(np.mean(null)), spread, p, n, seed)


def graded(seen: Outside, pushed: Pushes | None) -> Grade:
    """The verdict on "occupations carry a gender that follows the labour statistics"."""
    association = [Test("shuffled-labels", seen.alignment, seen.alignment.p)]
    waived = {**WAIVED_ASSOCIATION, **WAIVED_INTERVENTION}
    if seen.beats_twin is None:
        waived["untrained-twin"] = "this network's parameters cannot be redrawn"
    else:
        association.append(Test("untrained-twin", seen.beats_twin, seen.beats_twin.p))
    if pushed is None:
        return grade(Evidence(sign=0, association=association, waived=waived))
    test = Test("random-directions", pushed.inside_alignment, pushed.inside_alignment.p)
    sign = int(np.sign(seen.alignment.value))
    agrees = pushed.inside_alignment.value * sign > 0 and pushed.multiverse.sign in (0, sign)
    return grade(
        Evidence(
            sign=0, association=association, waived=waived, intervention=[test] if agrees else [],
            multiverse=pushed.multiverse, off_target=pushed.off_target,
        )
    )  # fmt: skip
