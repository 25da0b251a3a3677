"""Influence, scores and both pruning rules, by hand."""

import numpy as np
import pytest

from cutaway.circuits.tracing.influence import attach, expand, graph_scores, influence, normalised, prune

# token 0, token 1, error 2, head 3, neuron 4, output 5; rows are targets
VALUES = np.zeros((6, 6))
VALUES[3, 0], VALUES[3, 1] = 3.0, -1.0
VALUES[4, 1], VALUES[4, 2], VALUES[4, 3] = 1.0, 2.0, 1.0
VALUES[5, 3], VALUES[5, 4] = -1.0, 4.0
START = np.array([0, 0, 0, 0, 0, 1.0])


def marks(*places: int) -> np.ndarray:
    found = np.zeros(6, dtype=bool)
    found[list(places)] = True
    return found


def test_influence_by_hand() -> None:
    """Output: .2 to the head, .8 to the neuron; the neuron passes on .25, .5, .25; the head .75 and .25."""
    found = influence(normalised(VALUES), START)
    head = 0.2 + 0.8 * 0.25
    assert found == pytest.approx([0.75 * head, 0.25 * head + 0.8 * 0.25, 0.4, head, 0.8, 0.0])


def test_it_is_the_sum_over_all_paths() -> None:
    rng = np.random.default_rng(0)
    values = np.tril(rng.normal(size=(9, 9)), -1)
    start = np.zeros(9)
    start[-1] = 1
    shares = normalised(values)
    powers = sum(start @ np.linalg.matrix_power(shares, n) for n in range(1, 10))
    assert influence(shares, start) == pytest.approx(powers)


def test_scores_by_hand() -> None:
    kinds = {"tokens": marks(0, 1), "error": marks(2), "attention": marks(), "rest": marks(4)}
    found = graph_scores(VALUES, START, kinds)
    assert found.replacement == pytest.approx(0.6 / (0.6 + 0.4))
    total = 0.6 + 0.4 + 0.4 + 0.8 + 1.0
    assert found.completeness == pytest.approx((total - 0.5 * 0.8) / total)
    everything = 0.6 + 0.4 + 0.4 + 0.8
    assert (found.error, found.attention, found.rest) == pytest.approx((0.4 / everything, 0.0, 0.8 / everything))


def test_flow_keeps_the_largest_edges_that_lead_to_the_output() -> None:
    always = marks(0, 1, 5)
    kept = expand(VALUES, START, always=always, floor=0.0, most_nodes=10, most_edges=2)
    assert np.argwhere(kept.edges).tolist() == [
        [4, 2],
        [5, 4],
    ]  # 4 -> output, then the neuron's largest; 3 -> head is no use
    assert kept.direct_share == pytest.approx(0.8)
    everything = expand(VALUES, START, always=always, floor=0.0, most_nodes=10, most_edges=99)
    assert (everything.edges == (VALUES != 0)).all() and everything.node_share == pytest.approx(1)
    one = expand(VALUES, START, always=always, floor=0.0, most_nodes=1, most_edges=99)
    assert one.nodes.tolist() == [False, True, False, False, True, True]
    above = expand(VALUES, START, always=always, floor=0.5, most_nodes=10, most_edges=99)
    assert np.argwhere(above.edges).tolist() == [[5, 4]]


def test_influence_keeps_shares_and_drops_what_leads_nowhere() -> None:
    options = {"leaves": marks(0, 1, 2), "always": marks(0, 1, 5), "most_nodes": 10, "most_edges": 99}
    kept = prune(VALUES, START, node_share=0.5, edge_share=1.0, **options)
    assert kept.nodes.tolist() == [False, True, False, False, True, True]  # the neuron has .8 of 1.6
    both = prune(VALUES, START, node_share=0.75, edge_share=1.0, **options)
    assert both.nodes[[2, 4]].sum() == 2 or both.nodes[[3, 4]].sum() == 2
    few = prune(VALUES, START, node_share=1.0, edge_share=1.0, **{**options, "most_edges": 2})
    scores = few.scores
    assert scores[5, 4] == pytest.approx(0.8) and scores[4, 2] == pytest.approx(0.4)
    assert np.argwhere(few.edges).tolist() == [[4, 2], [5, 4]]


def test_a_dead_end_is_dropped_by_influence_and_kept_as_an_end_by_flow() -> None:
    values = np.array([[0, 0, 0], [1.0, 0, 0], [0, 5.0, 0]])
    start, leaves = np.array([0, 0, 1.0]), np.array([True, False, False])
    options = {"node_share": 1.0, "edge_share": 1.0, "most_nodes": 9, "most_edges": 1}
    dropped = prune(values, start, leaves=leaves, always=np.array([True, False, True]), **options)
    assert not dropped.edges.any()
    kept = expand(values, start, always=np.array([True, False, True]), floor=0.0, most_nodes=9, most_edges=1)
    assert np.argwhere(kept.edges).tolist() == [[2, 1]]


def test_a_wanted_node_comes_with_its_way_out_and_its_inputs() -> None:
    """Kept is the neuron alone; the head's largest way out is past it to the output, its inputs are both tokens."""
    always = marks(0, 1, 5)
    kept = expand(VALUES, START, always=always, floor=0.7, most_nodes=9, most_edges=1)
    assert np.flatnonzero(kept.nodes).tolist() == [4, 5]
    found = attach(kept, VALUES, START, [3, 4], always=always)
    assert np.argwhere(found.edges).tolist() == [[3, 0], [3, 1], [4, 3], [5, 4]]  # the first of two equal ways
    assert np.flatnonzero(found.nodes).tolist() == [0, 1, 3, 4, 5] and found.node_share > kept.node_share
    one = attach(kept, VALUES, START, [3], always=always, inputs=1)
    assert np.argwhere(one.edges).tolist() == [[3, 0], [4, 3], [5, 4]]
