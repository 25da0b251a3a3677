"""Tests of circuits: by hand, and on worlds in which the answer is known."""

import numpy as np
import pytest
from scipy import stats

from cutaway.circuits.discovery import Topology, rank
from cutaway.circuits.faithfulness import (
    completeness,
    equivalence,
    independence,
    minimality,
    random_circuit,
    random_faithfulness,
    smallest,
    without_idle,
)
from cutaway.errors import NotTestable
from tests.circuits.discovery.test_methods import question
from tests.circuits.known import asked, program


def test_equivalence_by_hand() -> None:
    """12 of 20 above: the larger of P(X >= 12 | .3) and P(X <= 12 | .7); the mean by two t tests."""
    apart = np.array([0.02] * 12 + [-0.02] * 8)
    found = equivalence(1 + apart, np.ones(20), gap=1.0)
    expected = max(stats.binom.sf(11, 20, 0.3), stats.binom.cdf(12, 20, 0.7))
    assert found.share_p == pytest.approx(expected)
    assert found.share.value == 0.6
    error = apart.std(ddof=1) / np.sqrt(20)
    assert found.mean_p == pytest.approx(stats.t.cdf((apart.mean() - 0.1) / error, 19))
    assert not found.holds  # 0.23 is not small


def test_few_pairs_prove_nothing_and_many_do() -> None:
    """A sign test that fails to reject would have called both equivalent."""
    rng = np.random.default_rng(0)
    few, many = (rng.normal(0, 0.1, size=n) for n in (6, 200))
    assert not equivalence(1 + few, np.ones(6), gap=1).holds
    assert equivalence(1 + many, np.ones(200), gap=1).holds
    assert not equivalence(1 + many + 0.3, np.ones(200), gap=1).holds
    assert not equivalence(0.5 + 0 * many, np.ones(200), gap=1).holds
    assert equivalence(np.ones(40), np.ones(40), gap=1).holds  # the same numbers: ties are halves
    needed = equivalence(np.ones(4), np.ones(4), gap=1).needed
    assert stats.binom.sf(needed // 2 - 1, needed, 0.3) <= 0.05 < stats.binom.sf((needed - 2) // 2 - 1, needed - 2, 0.3)


def test_the_level_of_equivalence_holds() -> None:
    """At the margin's edge (a share of 0.7) at most 5 % of samples are called equivalent."""
    rng = np.random.default_rng(1)
    called = [
        equivalence(1 + np.where(rng.random(40) < 0.7, 0.01, -0.01), np.ones(40), gap=1).share_p <= 0.05
        for _ in range(400)
    ]
    assert np.mean(called) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_independence_has_the_plus_one_and_sees_dependence() -> None:
    rng = np.random.default_rng(0)
    answer = rng.normal(size=40)
    assert independence(answer**2, answer, shuffles=99).p == 0.01  # dependent without correlation; never 0
    assert independence(rng.normal(size=40), answer, shuffles=99).p > 0.05
    assert independence(np.ones(40), answer, shuffles=99).p == 1.0
    again = [independence(rng.normal(size=20), rng.normal(size=20), shuffles=99, seed=s).p for s in range(60)]
    assert np.mean(np.array(again) <= 0.1) < 0.25


def test_the_circuit_of_a_program_is_minimal_and_complete() -> None:
    net, _ = program("histogram")
    own = asked(net, 8)
    topology = Topology.of(own.wired)
    found = without_idle(own, topology, smallest(own, topology, rank(own, "exact").order()))
    least = minimality(own, topology, found.mask)
    assert least.share == 1.0
    assert least.tested_all
    assert least.p.max() <= 0.05
    assert len(least.null) >= 20 * len(least.edges)
    complete, rest = completeness(own, topology, found.mask)
    assert complete.worst == pytest.approx(0, abs=1e-5)
    assert complete.rest == pytest.approx(0, abs=1e-5)
    assert len(rest) == 8
    with_idle = found.mask.copy()
    with_idle[tuple(np.argwhere(topology.possible & ~found.mask)[0])] = True
    assert minimality(own, topology, with_idle).share < 1.0


def test_an_incomplete_circuit_is_seen() -> None:
    own, topology = question()
    rng = np.random.default_rng(0)
    mask = random_circuit(topology, 20, rng)
    complete, _ = completeness(own, topology, mask, subsets=3)
    assert complete.worst > 0.05
    with pytest.raises(NotTestable, match="no random edge"):
        minimality(own, topology, topology.possible, most=1)


def test_random_circuits_are_connected_of_the_size_and_repeat() -> None:
    own, topology = question()
    for size in (4, 20, 60):
        masks = [random_circuit(topology, size, np.random.default_rng(seed)) for seed in (0, 0, 1)]
        assert (masks[0] == masks[1]).all()
        assert (masks[0] != masks[2]).any()
        assert all((topology.connected(mask) == mask).all() for mask in masks)
        assert all(size - 2 <= mask.sum() <= size for mask in masks)
    found = random_faithfulness(own, topology, own.wired.graph.count, count=2)
    assert found.tolist() == pytest.approx([1, 1], abs=0.2)
