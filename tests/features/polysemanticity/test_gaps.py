"""The mode count: by hand, against a dense oracle, and its size on things that are broad but connected."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import kstest

from cutaway.features.polysemanticity import count_modes, effective_number, gaps


def test_crossing_by_hand():
    # 0, 1, 2 | 4, 5: walks end at the first neighbour of the other side, and want 2 steps on the left, 1 on the right.
    points = np.array([[0.0], [1.0], [2.0], [4.0], [5.0]])
    sides = np.array([[True, True, True, False, False], [True, True, False, False, False]])
    # first cut: from 2, the neighbours are 1, then a tie of 0 and 4 that goes to the earlier one: nothing is missing.
    # second cut, 0, 1 | 2, 4, 5: from 2 (wants 2) the first neighbour is 1, of the other side: sqrt(2); from 4 (wants
    # 2) they are 5 and 2; from 5, 4 and 2; from 1 (wants 1) the tie of 0 and 2 goes to 0.
    assert gaps.crossings(cdist(points, points), sides).tolist() == pytest.approx([0.0, np.sqrt(2)])


def test_effective_number_by_hand():
    assert effective_number((1.0,)) == 1
    assert effective_number((0.5, 0.5)) == pytest.approx(2)
    assert effective_number((0.8, 0.2)) == pytest.approx(1 / 0.68)


@pytest.mark.parametrize("count", [11, 24, 61])
def test_the_lines_of_the_null_agree_with_the_dense_formula(count):
    fewest = gaps.fewest_of(count)
    line = np.sort(np.random.default_rng(count).random(count))
    cuts = np.arange(fewest, count - fewest + 1)
    dense = gaps.crossings(cdist(line[:, None], line[:, None]), np.arange(count)[None] < cuts[:, None])
    fast = [gaps._one_sided(line[None], cut) + gaps._one_sided(-line[None, ::-1], count - cut) for cut in cuts.tolist()]
    assert np.concatenate(fast) == pytest.approx(dense)


def test_candidate_cuts_leave_enough_on_both_sides():
    points = np.random.default_rng(0).normal(size=(30, 3))
    sides = gaps.candidate_cuts(gaps.pdist(points), 5)
    sizes = sides.sum(axis=1)
    assert len(sides) > 3 and sizes.min() >= 5 and sizes.max() <= 25 and sides[:, 0].all()
    assert len({side.tobytes() for side in sides}) == len(sides)


def connected(kind: str, rng: np.random.Generator, count: int = 48) -> np.ndarray:
    angle = rng.random(count) * 2 * np.pi
    shapes = {
        "line": lambda: np.c_[10 * rng.random(count), rng.normal(0, 0.3, (count, 15))],
        "ring": lambda: np.c_[3 * np.cos(angle), 3 * np.sin(angle), rng.normal(0, 0.3, (count, 14))],
        "sheet": lambda: rng.random((count, 2)),
        "cloud": lambda: rng.normal(size=(count, 12)) * np.array([6, 3, *[1] * 10]),
        "skewed": lambda: np.exp(rng.normal(size=(count, 1))),
        "heavy tails": lambda: rng.standard_t(2, size=(count, 4)),
        "helix": lambda: np.c_[np.cos(angle * 1.5), np.sin(angle * 1.5), angle],
    }
    return shapes[kind]()


@pytest.mark.parametrize("kind", ["line", "ring", "sheet", "cloud", "skewed", "heavy tails", "helix"])
def test_broad_is_not_polysemantic(kind):
    rng = np.random.default_rng(1)
    wrong = [count_modes(connected(kind, rng)).modes > 1 for _ in range(40)]
    assert np.mean(wrong) <= 0.125  # 0.05 and chance: two standard deviations above


def test_along_a_line_p_is_uniform():
    rng = np.random.default_rng(2)
    ps = [count_modes(rng.random((48, 1))).p for _ in range(100)]
    assert kstest(ps, "uniform").pvalue > 0.01 and abs(np.mean(ps) - 0.5) < 0.1


def test_groups_far_apart_are_counted_and_numbered_by_size():
    rng = np.random.default_rng(3)
    centres = np.array([[0, 0, 0], [20, 0, 0], [0, 20, 0]])
    truth = np.repeat([0, 1, 2], [30, 12, 18])
    found = count_modes(centres[truth] + rng.normal(size=(60, 3)))
    assert found.modes == 3 and found.shares == pytest.approx((0.5, 0.3, 0.2))
    assert found.p < 0.01 and found.cleanness == 1
    assert [len(set(found.labels[truth == each])) for each in range(3)] == [1, 1, 1]


def test_one_stray_example_is_no_mode_and_does_not_hide_one():
    rng = np.random.default_rng(4)
    two = np.concatenate([rng.normal(0, 1, (30, 3)), rng.normal(15, 1, (30, 3))])
    assert count_modes(np.concatenate([two[:30], [[40.0, 0, 0]]])).modes == 1
    assert count_modes(np.concatenate([two, [[7.0, 7.0, 9.0]]])).modes == 2


def test_too_few_or_equal_points_are_one_mode():
    assert count_modes(np.zeros((40, 3))).modes == 1
    assert count_modes(np.arange(9.0)[:, None]).modes == 1
    assert np.isnan(count_modes(np.zeros((40, 3))).cleanness)
