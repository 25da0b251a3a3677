import numpy as np
import pytest

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence.metrics import Reply, label_scores, label_scores_by_scorer, simulation_correlation


def test_label_scores_by_hand() -> None:
    found = label_scores([True, True, False, True, False], [1, 1, 1, 0, 0])
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found.auc == pytest.approx(found.balanced_accuracy)
    assert (found.unparsed, found.n) == (0, 5)


def test_chances_give_a_finer_auc() -> None:
    found = label_scores([0.9, 0.4, 0.3, 0.2], [1, 1, 0, 0])
    assert (found.balanced_accuracy, found.auc) == (0.75, 1.0)
    assert label_scores([0.9, 0.4, 0.3, 0.2], [1, 1, 0, 0], threshold=0.35).balanced_accuracy == 1.0


def test_unparsed_replies_count_as_wrong_and_are_reported() -> None:
    """D4: a pipeline drops them and prints 0 failures."""
    dropped = label_scores([True, False], [1, 0])
    kept = label_scores([True, None, None, None, False], [1, 1, 1, 0, 0])
    assert dropped.balanced_accuracy == 1.0
    assert (kept.unparsed, kept.n) == (3, 5)
    assert kept.balanced_accuracy == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert kept.f1 == pytest.approx(2 / (2 + 1 + 2))
    # pairs (fires, does not): only the usable yes beats the usable no
    assert kept.auc == pytest.approx(1 / 6)


def test_a_judge_without_one_usable_reply_scores_nothing() -> None:
    found = label_scores([None] * 4, [1, 1, 0, 0])
    assert (found.balanced_accuracy, found.f1, found.auc, found.unparsed) == (0.0, 0.0, 0.0, 4)


@pytest.mark.parametrize("at", range(4))
def test_losing_a_reply_never_raises_a_score(at: int) -> None:
    said, fires = [0.9, 0.2, 0.6, 0.1], [1, 1, 0, 0]
    full = label_scores(said, fires)
    less = label_scores([None if i == at else each for i, each in enumerate(said)], fires)
    assert less.balanced_accuracy <= full.balanced_accuracy
    assert less.f1 <= full.f1
    assert less.auc <= full.auc


def test_scorers_are_never_pooled() -> None:
    """D4: one F1 over detection and fuzzing replies is the score of neither."""
    replies = [
        Reply("f", scorer, said, fires)
        for scorer, said, fires in [
            ("detection", True, True),
            ("detection", False, False),
            ("fuzzing", False, True),
            ("fuzzing", None, False),
        ]
    ]
    found = label_scores_by_scorer(replies)
    assert {key: each.f1 for key, each in found.items()} == {("f", "detection"): 1.0, ("f", "fuzzing"): 0.0}
    assert found["f", "fuzzing"].unparsed == 1


def test_replies_that_cannot_be_scored() -> None:
    with pytest.raises(NotTestable, match="only one kind"):
        label_scores([True, False], [1, 1])
    with pytest.raises(BadInput, match="found 7"):
        label_scores([True, 7], [1, 0])
    with pytest.raises(BadInput, match="expected one for each"):
        label_scores([True, False], [1, 0, 1])


def test_simulation_is_correlated_over_all_tokens_together() -> None:
    simulated, actual = [[0.0, 1.0], [2.0, 5.0]], [[0.0, 1.0], [1.0, 2.0]]
    expected = np.corrcoef([0, 1, 2, 5], [0, 1, 1, 2])[0, 1]
    assert simulation_correlation(simulated, actual) == pytest.approx(expected)
    assert simulation_correlation([[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [3.0, 3.0]]) == pytest.approx(1.0)


def test_simulations_that_cannot_be_correlated() -> None:
    with pytest.raises(NotTestable, match="do not vary"):
        simulation_correlation([[1.0, 1.0]], [[0.0, 1.0]])
    with pytest.raises(BadInput, match="same numbers of tokens"):
        simulation_correlation([[1.0, 2.0]], [[1.0], [2.0]])
