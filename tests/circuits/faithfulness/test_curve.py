"""Curves and the smallest circuit: sums by hand, ends that are known."""

import numpy as np
import pytest
import torch

from cutaway.circuits.discovery import Setup, Topology, rank, setup
from cutaway.circuits.edges import projection
from cutaway.circuits.faithfulness import curve, edge_count, faithfulness_of, resampled, shares, smallest, without_idle
from cutaway.errors import BadInput
from cutaway.evidence.metrics import cmd, cpr
from tests.circuits.discovery.test_methods import question
from tests.circuits.known import asked, program


def by_hand() -> Setup:
    """Four pairs of two entities; network 2, 4, 6, 8 and nothing left 0, 2, 2, 4."""
    own, _ = question()
    part = own.part([0, 1, 2, 3])
    return type(part)(
        part.wired, part.pairs, part.metric, part.reference, part.ablation, torch.tensor([2.0, 4, 6, 8]),
        torch.tensor([0.0, 2, 2, 4]), ("a", "a", "b", "b"),
    )  # fmt: skip


def test_faithfulness_is_a_ratio_of_means() -> None:
    own = by_hand()
    assert own.gap == 3.0
    values = torch.tensor([[1.0, 3, 4, 6], [2.0, 4, 6, 8], [0.0, 2, 2, 4]])
    assert own.faithfulness(values).tolist() == pytest.approx([1.5 / 3, 1, 0])
    found = faithfulness_of(own, values[0])
    assert found.value == pytest.approx(0.5)
    assert found.n == 2


def test_intervals_resample_entities() -> None:
    """Only three different samples of two entities exist: both, a twice, b twice."""
    drawn = resampled(by_hand(), torch.tensor([[2.0, 4, 2, 4]]))
    expected = {1.0: 0, 0.0: 0, round(4 / 12, 6): 0}  # a restores 2 of 2 for each pair, b nothing of 4
    assert {round(float(each), 6) for each in drawn[:, 0]} == set(expected)


def test_a_curve_ends_at_the_network_and_has_its_areas() -> None:
    own, topology = question()
    ranking = rank(own, "eap-ig")
    found = curve(own, topology, ranking.order())
    assert found.faithfulness[-1] == pytest.approx(1, abs=1e-5)
    assert found.edges[-1] == own.wired.graph.count
    assert list(found.edges) == sorted(found.edges)
    assert found.cpr.value == cpr(found.sizes, found.faithfulness)
    assert found.cmd.value == cmd(found.sizes, found.faithfulness)
    assert np.isnan(found.cmd.low)  # the logit difference's gap turns its sign between samples: unbounded
    assert [each.value for each in found.intervals()] == pytest.approx(found.faithfulness.tolist())
    again = curve(own, topology, ranking.order())
    assert torch.equal(found.values, again.values)
    with pytest.raises(BadInput, match="between 0 and 1"):
        edge_count(topology, 1.5)


def test_areas_have_intervals_where_the_gap_is_clear() -> None:
    own, topology = question()
    shown = own.pairs
    whole = setup(own.wired, type(shown)(shown.clean, shown.corrupt), projection(own.wired.network, shown))
    found = curve(whole, topology, rank(whole, "eap-ig").order())
    assert found.cmd.low < found.cmd.value < found.cmd.high
    assert found.intervals()[5].low < found.faithfulness[5] < found.intervals()[5].high


def test_the_smallest_circuit_reaches_the_level_and_the_next_smaller_does_not() -> None:
    own, topology = question()
    order = rank(own, "exact").order()
    found = smallest(own, topology, order)
    assert found.faithfulness >= 0.9
    below = [
        topology.of_order(order, n) for n in range(1, len(order)) if topology.of_order(order, n).sum() < found.size
    ]
    values = own.faithfulness(own.values([topology.tensor(mask) for mask in below]))
    assert (values < 0.9).all()


def test_on_large_graphs_the_size_is_bracketed() -> None:
    own, topology = question()
    order = rank(own, "exact").order()
    found = smallest(own, topology, order, every=10)
    assert found.faithfulness >= 0.9
    assert found.passes < 20


def test_idle_edges_are_left_out() -> None:
    net, truth = program("sort")
    own = asked(net, 12)
    topology = Topology.of(own.wired)
    order = rank(own, "exact").order()
    whole = type(smallest(own, topology, order))(topology.possible, 1.0, 0)
    left = without_idle(own, topology, whole)
    names = {(own.wired.graph.sources[s], own.wired.graph.targets[t].name) for s, t in np.argwhere(left.mask)}
    assert names == truth.true_pairs("resample")
    assert left.dropped == topology.possible.sum() - len(names)


def test_shares_by_hand() -> None:
    """Llama of width 16, 4 heads of 4 on 2 groups, MLPs of 32: maps of 64 weights each, an MLP of 3 * 16 * 32."""
    own, topology = question()
    graph = own.wired.graph
    mask = np.zeros(topology.shape, dtype=bool)
    for source, target in (("embed", "L0H1.q"), ("L0H1", "L0MLP"), ("L0MLP", "unembed")):
        mask[graph.source_index[source], graph.target_index[target]] = True
    found = shares(own.wired, topology, mask, length=6)
    blocks = 2 * (4 * 64 * 2 + 2 * 64 * 2 + 3 * 16 * 32)
    assert found.parameters == pytest.approx((64 + 64 + 3 * 16 * 32) / blocks)
    looked = 2 * 4 * 3.5
    assert found.compute == pytest.approx((128 + 1536 + looked) / (blocks + 8 * looked))
    assert found.components == ("embed", "L0H1", "L0MLP")
    assert shares(own.wired, topology, topology.possible, length=6).compute == 1.0
