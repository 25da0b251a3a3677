import numpy as np
import pytest

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence.metrics import (
    AbsorptionTerms,
    absorption_fraction,
    absorption_terms,
    mcc,
    mmcs,
    ravel,
    scr,
    sparse_probing,
    sparse_probing_latents,
    tpp,
)

AXES = np.eye(3)
DIAGONAL = np.array([[1.0, 1.0, 0.0]])


def test_mcc_by_hand() -> None:
    learned = np.array([[0.0, -3.0, 0.0], [1.0, 1.0, 0.0]])  # the first can only serve axis 1, sign and length are free
    truth = AXES[:2]
    assert mcc(learned, truth) == pytest.approx((1 + np.sqrt(0.5)) / 2)
    assert mcc(learned, AXES, missing_as_zero=True) == pytest.approx((1 + np.sqrt(0.5)) / 3)


def test_mcc_matches_one_to_one_where_greedy_choice_fails() -> None:
    learned = np.array([[0.8, 0.6], [1.0, 0.0]])
    truth = np.array([[1.0, 0.0], [0.6, 0.8]])
    assert mcc(learned, truth) == pytest.approx((0.96 + 1.0) / 2)
    assert mcc(np.array([[1.0, 0.0], [1.0, 0.0]]), np.eye(2)) == pytest.approx(0.5), "two copies serve one feature"


def test_matching_does_not_change_with_order_sign_and_length() -> None:
    rng = np.random.default_rng(0)
    learned, truth = rng.normal(size=(9, 5)), rng.normal(size=(6, 5))
    changed = (learned * rng.choice([-2.0, 0.5], size=(9, 1)))[rng.permutation(9)]
    assert mcc(changed, truth) == pytest.approx(mcc(learned, truth))
    assert mcc(truth[::-1], truth) == pytest.approx(1.0)


def test_mmcs_by_hand_is_signed_and_not_symmetric() -> None:
    assert mmcs(DIAGONAL, AXES) == pytest.approx(np.sqrt(0.5))
    assert mmcs(AXES, DIAGONAL) == pytest.approx(2 * np.sqrt(0.5) / 3)
    assert mmcs(-AXES, AXES) == 0.0


def test_mmcs_of_random_directions_is_the_published_null() -> None:
    rng = np.random.default_rng(0)
    values = [mmcs(rng.normal(size=(128, 32)), rng.normal(size=(128, 32))) for _ in range(3)]
    assert np.mean(values) == pytest.approx(0.44, abs=0.01)  # reference value for d = 32, N = 128


def test_dead_latents_point_nowhere() -> None:
    assert mcc(np.array([[0.0, 0.0], [1.0, 0.0]]), np.eye(2)) == pytest.approx(0.5)
    with pytest.raises(NotTestable, match="all are zero"):
        mcc(np.zeros((2, 2)), np.eye(2))
    with pytest.raises(BadInput, match="not finite"):
        mmcs(np.full((1, 2), np.inf), np.eye(2))


def test_probing_takes_the_latents_that_differ_most() -> None:
    codes = np.array([[1.0, 0.0, 5.0], [1.0, 0.0, 5.2], [0.0, 3.0, 5.0], [0.0, 3.0, 5.0]])
    assert sparse_probing_latents(codes, [1, 1, 0, 0], k=2).tolist() == [1, 0]
    assert sparse_probing(codes, [1, 1, 0, 0], codes[[0, 2]], [1, 0], k=1) == 1.0
    flipped = sparse_probing(codes, [1, 1, 0, 0], codes[[0, 2]], [0, 1], k=1)
    assert flipped == 0.0, "accuracy is held out: labels of the test rows are not looked at"
    with pytest.raises(BadInput, match="4 latents were asked for"):
        sparse_probing_latents(codes, [1, 1, 0, 0], k=4)


def test_more_latents_read_a_concept_that_is_split() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    half = rng.random(400) < 0.5
    codes = np.stack([labels * half, labels * ~half, rng.random(400)], axis=1).astype(float)
    train, test = slice(0, 200), slice(200, 400)
    accuracy = [sparse_probing(codes[train], labels[train], codes[test], labels[test], k=k) for k in (1, 2)]
    assert accuracy[0] < 0.85
    assert accuracy[1] == 1.0


def test_absorption_by_hand() -> None:
    terms = AbsorptionTerms(
        probe=np.array([10.0, 10.0, 10.0, 10.0, 10.0, -1.0]),
        main=np.array([12.0, 2.0, 6.0, 0.0, 6.0, 1.0]),
        others=np.array([9.0, 3.9, 9.0, 5.0, 4.0, 1.0]),
    )
    found = absorption_fraction(terms)
    # enough in the main latents; too little elsewhere; r = min(9, 4) = 4 -> 4 / 10; none in the main; r = 4
    assert found[:5] == pytest.approx([0.0, 0.0, 0.4, 1.0, 0.4])
    assert np.isnan(found[5]), "the probe does not see the concept"


def test_absorption_terms_by_hand() -> None:
    probe = np.array([1.0, 0.0])
    decoder = np.array([[1.0, 0.0], [1.0, 1.0], [0.05, 1.0], [1.0, -1.0], [2.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    codes = np.array([[1.0, 2.0, 90.0, 3.0, 1.0, 1.5, 7.0]])
    terms = absorption_terms(np.array([[8.0, 5.0]]), codes, decoder, probe, main=[0])
    # parts along the probe: main 1; 2, 3, 2, 1.5 allowed, of which the best three count; latents 2 and 6 point away
    assert (terms.probe[0], terms.main[0], terms.others[0]) == (8.0, 1.0, 7.0)
    with pytest.raises(BadInput, match="finite projections"):
        absorption_fraction(AbsorptionTerms(terms.probe, terms.main, np.array([np.nan])))


def test_scr_by_hand() -> None:
    assert scr(0.75, spurious=0.5, clean=0.9) == pytest.approx(0.625)
    with pytest.raises(NotTestable, match="no bias to remove"):
        scr(0.9, spurious=0.9, clean=0.9)


def test_tpp_by_hand() -> None:
    drops = np.array([[0.4, 0.1, 0.0], [0.0, 0.3, 0.1], [0.05, 0.05, 0.2]])
    assert tpp(drops) == pytest.approx(np.mean([0.4 - 0.05, 0.3 - 0.05, 0.2 - 0.05]))
    assert tpp(np.full((4, 4), 0.3)) == pytest.approx(0.0), "damage to all alike is not specific"
    with pytest.raises(BadInput, match="square table"):
        tpp(np.ones((1, 1)))


def test_ravel_by_hand() -> None:
    assert ravel(cause_a=1.0, cause_b=0.5, isolate_ab=0.25, isolate_ba=0.25) == 0.5
    with pytest.raises(BadInput, match="between 0 and 1"):
        ravel(cause_a=50, cause_b=50, isolate_ab=50, isolate_ba=50)
