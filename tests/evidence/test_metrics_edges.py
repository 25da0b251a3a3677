import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import auroc
from cutaway.evidence.metrics import edge_auroc, edge_roc, jaccard, mean_jaccard, precision_recall


def test_the_roc_curve_by_hand() -> None:
    curve = edge_roc([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0])
    assert curve.thresholds.tolist() == [math.inf, 0.9, 0.8, 0.1]
    assert curve.true_positive_rate.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert curve.false_positive_rate.tolist() == [0.0, 0.0, 0.5, 1.0]
    assert curve.area == pytest.approx(0.875)


def test_auroc_at_its_ends_and_with_all_tied() -> None:
    assert edge_auroc([3.0, 2.0, 1.0], [True, False, False]) == 1.0
    assert edge_auroc([1.0, 2.0, 3.0], [True, False, False]) == 0.0
    assert edge_auroc([7.0] * 5, [1, 0, 1, 0, 0]) == 0.5


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_the_area_is_the_share_of_pairs_in_the_right_order(edges: list[tuple[int, bool]]) -> None:
    scores, truth = [float(score) for score, _ in edges], [true for _, true in edges]
    if len(set(truth)) == 2:
        assert edge_auroc(scores, truth) == pytest.approx(auroc(scores, truth))
        assert edge_auroc([-s for s in scores], truth) == pytest.approx(1 - auroc(scores, truth))


def test_a_true_edge_that_cannot_show_is_not_held_against_a_method() -> None:
    scores, truth, showable = [0.9, 0.5, 0.0], [1, 0, 1], [1, 1, 0]
    assert edge_auroc(scores, truth) == 0.5
    assert edge_auroc(scores, truth, showable=showable) == 1.0
    first = precision_recall(scores, truth, size=1, showable=showable)
    assert (first.precision, first.recall) == (1.0, 1.0)
    everything = precision_recall(scores, truth, size=3, showable=showable)
    assert everything.precision == pytest.approx(2 / 3), "it still counts as true where it was chosen"
    assert math.isnan(precision_recall(scores, truth, size=1, showable=[0, 0, 0]).recall)


def test_a_false_edge_counts_whether_it_shows_or_not() -> None:
    assert edge_auroc([1.0, 2.0], [1, 0], showable=[1, 0]) == 0.0


def test_precision_and_recall_by_hand() -> None:
    scores, truth = [5.0, 4.0, 3.0, 2.0, 1.0], [1, 0, 1, 1, 0]
    at_two = precision_recall(scores, truth, size=2)
    assert (at_two.precision, at_two.recall, at_two.size) == (0.5, pytest.approx(1 / 3), 2)


def test_ties_at_the_cut_are_an_expectation() -> None:
    both = precision_recall([9.0, 1.0, 1.0, 1.0, 0.0], [1, 1, 0, 0, 1], size=2)  # one of three tied edges is true
    assert both.precision == pytest.approx((1 + 1 / 3) / 2)
    assert both.recall == pytest.approx((1 + 1 / 3) / 3)


def test_edges_that_cannot_be_compared() -> None:
    with pytest.raises(NotTestable, match="found 2 true of 2"):
        edge_auroc([1.0, 2.0], [1, 1])
    with pytest.raises(NotTestable, match="found 0 true of 2"):
        edge_auroc([1.0, 2.0], [0, 0])
    with pytest.raises(BadInput, match="not finite"):
        edge_auroc([1.0, math.nan], [1, 0])
    with pytest.raises(BadInput, match="one mark for each of 2 scores"):
        edge_auroc([1.0, 2.0], [1, 0, 0])
    with pytest.raises(BadInput, match="circuit of 3 edges"):
        precision_recall([1.0, 2.0], [1, 0], size=3)


def test_jaccard_by_hand() -> None:
    assert jaccard({"a", "b", "c"}, {"b", "c", "d"}) == 0.5
    assert jaccard(["a", "a"], {"a"}) == 1.0
    assert jaccard({"a"}, set()) == 0.0
    assert math.isnan(jaccard([], []))


def test_mean_jaccard_by_hand() -> None:
    assert mean_jaccard([{1, 2}, {1, 2}, {3}]) == pytest.approx(1 / 3)
    with pytest.raises(BadInput, match="two sets"):
        mean_jaccard([{1}])


def test_random_circuits_agree_as_much_as_the_docstring_says() -> None:
    rng = np.random.default_rng(0)
    sets = [set(rng.permutation(2000)[:400].tolist()) for _ in range(6)]
    assert mean_jaccard(sets) == pytest.approx(0.2 / 1.8, abs=0.01)
