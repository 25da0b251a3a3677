import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence.metrics import (
    SIZES,
    causal_scrubbing,
    cmd,
    completeness,
    cpr,
    faithfulness,
    faithfulness_curve,
    interchange_accuracy,
    k90,
    minimality,
)


def test_faithfulness_by_hand() -> None:
    assert faithfulness(2.5, network=4.0, empty=-2.0) == pytest.approx(0.75)
    assert faithfulness_curve([-2.0, 4.0, 7.0, -5.0], network=4.0, empty=-2.0).tolist() == [0.0, 1.0, 1.5, -0.5]
    assert faithfulness(1.0, network=-4.0, empty=2.0) == pytest.approx(1 / 6), "the sign of the metric is free"


@pytest.mark.parametrize(("network", "empty"), [(1.5, 1.5), (0.0, 0.0), (1e6, 1e6 + 1e-6)])
def test_faithfulness_needs_a_network_that_does_something(network: float, empty: float) -> None:
    with pytest.raises(NotTestable, match="Faithfulness is undefined: both ends"):
        faithfulness(1.0, network=network, empty=empty)


def test_small_scales_are_still_scales() -> None:
    assert faithfulness(1e-12, network=2e-12, empty=0.0) == pytest.approx(0.5)


@given(st.floats(-9, 9), st.floats(-9, 9), st.floats(-9, 9), st.floats(0.5, 4), st.floats(-5, 5))
def test_faithfulness_does_not_depend_on_the_unit_of_the_metric(
    m: float, full: float, none: float, scale: float, shift: float
) -> None:
    if abs(full - none) < 0.01:
        return
    moved = faithfulness(m * scale + shift, network=full * scale + shift, empty=none * scale + shift)
    assert moved == pytest.approx(faithfulness(m, network=full, empty=none), abs=1e-6)


def test_cpr_and_cmd_by_hand() -> None:
    sizes, f = [0.0, 0.2, 1.0], [0.0, 0.5, 1.0]
    assert cpr(sizes, f) == pytest.approx(0.2 * 0.25 + 0.8 * 0.75)
    assert cmd(sizes, f) == pytest.approx(0.2 * 0.75 + 0.8 * 0.25)
    assert cpr(SIZES, np.ones(10)) == pytest.approx(0.999)
    assert cmd(SIZES, np.ones(10)) == 0.0


def test_cpr_and_cmd_are_complements_below_one_and_equal_areas_apart_above() -> None:
    f = np.array([0.1, 0.3, 0.9, 1.0])
    k = np.array([0.0, 0.1, 0.5, 1.0])
    assert cpr(k, f) + cmd(k, f) == pytest.approx(1.0)
    assert cmd(k, 2 - f) == pytest.approx(cmd(k, f)), "too much is as bad as too little"
    assert cpr(k, 2 - f) > cpr(k, f)


def test_cmd_where_the_curve_passes_one() -> None:
    assert cmd([0.0, 1.0], [0.5, 1.5]) == pytest.approx(0.5), "the published trapezoid"
    assert cmd([0.0, 1.0], [0.5, 1.5], crossings=True) == pytest.approx(0.25), "two triangles"
    assert cmd([0.0, 1.0], [0.0, 1.0], crossings=True) == pytest.approx(0.5), "touching 1 is no crossing"


def test_cmd_with_crossings_is_the_integral_of_the_straight_lines() -> None:
    rng = np.random.default_rng(0)
    k, f = np.sort(rng.random(8)), rng.normal(1, 1, size=8)
    fine = np.linspace(k[0], k[-1], 2_000_001)
    integral = np.trapezoid(np.abs(1 - np.interp(fine, k, f)), fine)
    assert cmd(k, f, crossings=True) == pytest.approx(integral, abs=1e-6)
    assert cmd(k, f, crossings=True) <= cmd(k, f)


def test_k90_by_hand() -> None:
    sizes, f = [0.01, 0.1, 0.5, 1.0], [0.1, 0.5, 1.0, 1.0]
    assert k90(sizes, f) == pytest.approx(0.1 + 0.8 * 0.4)
    assert k90(sizes, f, interpolate=False) == 0.5
    assert k90(sizes, f, level=0.1) == 0.01
    assert k90(sizes, f, level=0.5) == pytest.approx(0.1), "a measured size that just reaches the level"
    assert k90([0.1, 0.2, 1.0], [0.95, 0.2, 1.0]) == 0.1, "the first size that reaches it"
    assert k90([0.1, 1.0], [0.9, 0.9]) == 0.1, "at least, not more than"
    assert math.isnan(k90(sizes, [0.0, 0.1, 0.5, 0.8]))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [([0.1, 0.1], "increasing"), ([0.5, 0.1], "increasing"), ([0.0, 2.0], "between 0 and 1"), ([0.1], "two or more")],
)
def test_a_curve_needs_increasing_shares(sizes: list[float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        cmd(sizes, [0.5] * len(sizes))


def test_a_curve_with_nan_is_refused() -> None:
    with pytest.raises(BadInput, match="not finite"):
        cpr([0.0, 1.0], [0.0, math.nan])


def test_completeness_by_hand() -> None:
    assert completeness([1.0, 0.2, 0.5], [1.1, 0.9, 0.5]) == pytest.approx(0.7)
    assert completeness([0.3], [0.3]) == 0.0
    with pytest.raises(BadInput, match="same subsets"):
        completeness([1.0], [1.0, 2.0])


def test_minimality_by_hand() -> None:
    kept = np.array([[3.0, 1.0], [3.0, np.nan], [np.nan, np.nan]])
    removed = np.array([[3.0, 0.0], [2.5, 1.0], [1.0, 1.0]])
    scores = minimality(kept, removed, scale=-2.0)
    assert scores[:2].tolist() == [0.5, 0.25]
    assert math.isnan(scores[2]), "a part that no subset was tried for"
    with pytest.raises(NotTestable, match="scale of 0"):
        minimality(kept, removed, scale=0)
    with pytest.raises(BadInput, match="same subsets"):
        minimality(kept, removed[:, :1])


def test_interchange_accuracy_by_hand() -> None:
    assert interchange_accuracy(["a", "b", "c", "d"], ["a", "b", "x", "d"]) == 0.75
    assert interchange_accuracy(np.array([1, 2]), np.array([2, 1])) == 0.0
    with pytest.raises(BadInput, match="one answer a pair"):
        interchange_accuracy([1, 2], [1])


def test_causal_scrubbing_by_hand() -> None:
    assert causal_scrubbing(0.8, network=1.0, random=0.5) == pytest.approx(0.6)
    assert causal_scrubbing(1.2, network=0.2, random=2.2) == pytest.approx(0.5), "losses work as well"
    with pytest.raises(NotTestable, match="network is at chance"):
        causal_scrubbing(0.5, network=0.5, random=0.5)
