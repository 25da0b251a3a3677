import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cutaway.errors import BadInput
from cutaway.evidence import benjamini_hochberg, familywise_p, holm, permutation_p, permutation_p_units

LEVEL = 0.1


def test_p_by_hand():
    null = [0.0, 1.0, 2.0, 3.0]
    assert permutation_p(2.5, null, alternative="greater") == 2 / 5
    assert permutation_p(2.5, null, alternative="less") == 4 / 5
    assert permutation_p(2.5, null) == 4 / 5
    assert permutation_p(9.0, null) == 2 / 5
    assert permutation_p(2.0, null, alternative="greater") == 3 / 5  # a tie counts


def test_ties_up_to_rounding_count():
    assert permutation_p(0.1 + 0.2, [0.3] * 3, alternative="greater") == 1.0


def test_units_agree_with_one_at_a_time():
    rng = np.random.default_rng(0)
    observed, null = rng.normal(size=7), rng.normal(size=(50, 7))
    for alternative in ("two-sided", "greater", "less"):
        single = [permutation_p(o, null[:, u], alternative=alternative) for u, o in enumerate(observed)]
        assert permutation_p_units(observed, null, alternative=alternative) == pytest.approx(single)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_p_is_uniform_under_the_null(alternative):
    rng = np.random.default_rng(1)
    draws = rng.exponential(size=(1000, 800))  # skewed on purpose
    p = permutation_p_units(draws[0], draws[1:], alternative=alternative)
    assert stats.kstest(p, "uniform").pvalue > 0.05


def test_familywise_by_hand():
    # second unit's null is ten times wider; without standardising it would hide the first unit
    null = np.array([[1.0, -10.0], [-1.0, 10.0], [1.0, 10.0], [-1.0, -10.0]])
    p = familywise_p(np.array([4.0, 0.0]), null)
    assert p[0] == 1 / 5
    assert p[1] == 1.0


def test_familywise_p_is_uniform_for_the_best_unit_and_controls_errors():
    rng = np.random.default_rng(2)
    smallest = []
    for _ in range(500):
        shared = rng.normal(size=(400, 1))  # dependent units
        draws = shared + rng.normal(size=(400, 6)) * np.arange(1, 7)
        smallest.append(familywise_p(draws[0], draws[1:]).min())
    assert stats.kstest(smallest, "uniform").pvalue > 0.05


@pytest.mark.parametrize("null", [np.zeros((0, 1)), np.full((3, 1), np.nan)])
def test_unusable_null(null):
    with pytest.raises(BadInput, match=r"empty|finite"):
        permutation_p_units(np.zeros(1), null)


def test_adjusted_by_hand():
    p = [0.01, 0.04, 0.03, 0.5]
    assert benjamini_hochberg(p) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert holm(p) == pytest.approx([0.04, 0.09, 0.09, 0.5])


def test_holm_agrees_with_statsmodels():
    p = np.random.default_rng(0).random(30) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_nan_is_not_a_test():
    p = np.array([[0.01, np.nan], [0.04, np.nan]])
    for adjust in (benjamini_hochberg, holm):
        adjusted = adjust(p)
        assert adjusted.shape == (2, 2)
        assert np.isnan(adjusted[:, 1]).all()
        assert adjusted[:, 0] == pytest.approx(adjust([0.01, 0.04]))
    assert np.isnan(holm([np.nan])).all()


def test_p_outside_its_range():
    with pytest.raises(BadInput, match=r"found 0\.2 to 1\.2"):
        benjamini_hochberg([0.2, 1.2])


def _families(seed, true_nulls, effects, count=1000):
    """p-values [family, test]: one-sided z-tests, the first ``true_nulls`` without effect."""
    z = np.random.default_rng(seed).normal(size=(count, true_nulls + effects))
    z[:, true_nulls:] += 3
    return stats.norm.sf(z)


def test_bh_controls_false_discoveries():
    true_nulls = 15
    shares = []
    for p in _families(3, true_nulls, 5):
        found = benjamini_hochberg(p) <= LEVEL
        shares.append(found[:true_nulls].sum() / max(found.sum(), 1))
    expected = LEVEL * true_nulls / 20  # BH is exact for independent tests
    assert np.mean(shares) == pytest.approx(expected, abs=3 * np.std(shares) / len(shares) ** 0.5)


def test_holm_controls_any_false_claim():
    true_nulls = 15
    errors = [(holm(p)[:true_nulls] <= LEVEL).any() for p in _families(4, true_nulls, 5, 600)]
    assert 0.04 <= np.mean(errors) <= LEVEL + 3 * (LEVEL * (1 - LEVEL) / 600) ** 0.5
