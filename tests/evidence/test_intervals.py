"""Coverage by simulation (fixed seeds, so that a run is repeatable), hand-computed ends, and degenerate data."""

import math

import numpy as np
import pytest
from scipy import special, stats

from cutaway.errors import BadInput
from cutaway.evidence import (
    auroc,
    auroc_interval,
    bootstrap_interval,
    difference_interval,
    mean_interval,
    proportion_interval,
    spearman_interval,
)

EXPERIMENTS = 500  # standard error of a coverage of 95 %: 1 %
NOMINAL = (0.93, 0.97)


def coverage(experiment, count=EXPERIMENTS, seed=11):
    rng = np.random.default_rng(seed)
    covered = 0
    for index in range(count):
        (low, high), truth = experiment(rng, index)
        covered += low <= truth <= high
    return covered / count


def clustered(rng, entities=35):
    sizes = rng.integers(2, 10, entities)
    codes = np.repeat(np.arange(entities), sizes)
    return rng.normal(size=entities)[codes] + rng.normal(size=len(codes)), codes


def normal_mean(rng, seed):
    return mean_interval(rng.normal(5, 2, 30), resamples=400, seed=seed), 5.0


def exponential_mean(rng, seed):
    return mean_interval(rng.exponential(1, 40), resamples=400, seed=seed), 1.0


def clustered_mean(rng, seed):
    values, codes = clustered(rng)
    return mean_interval(values, codes, resamples=400, seed=seed), 0.0


def few_entities_mean(rng, seed):
    return mean_interval(rng.normal(size=5), seed=seed), 0.0


def skewed_difference(rng, seed):
    first, second = rng.exponential(1, 40), rng.exponential(2, 35)
    return difference_interval(first, second, resamples=400, seed=seed), -1.0


def share(rng, _):
    return proportion_interval(int(rng.binomial(40, 0.3)), 40), 0.3


def rank_correlation(rng, _):
    pairs = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 40)
    return spearman_interval(float(stats.spearmanr(pairs)[0]), 40), 6 / math.pi * math.asin(0.25)


def auroc_of_single_class_entities(rng, _):
    codes = np.repeat(np.arange(40), 4)
    labels = codes % 2
    scores = rng.normal(0, 0.5**0.5, 40)[codes] + rng.normal(0, 0.5**0.5, 160) + labels
    return auroc_interval(scores, labels, codes), stats.norm.cdf(1 / 2**0.5)


def auroc_of_mixed_entities(rng, _):
    codes, labels = np.repeat(np.arange(40), 4), np.tile([0, 0, 1, 1], 40)
    scores = rng.normal(0, 0.5**0.5, 40)[codes] + rng.normal(0, 0.5**0.5, 160) + labels
    return auroc_interval(scores, labels, codes), stats.norm.cdf(1 / 2**0.5)


def ratio_by_bca(rng, seed):
    below = rng.exponential(1, 40) + 1
    above = 2 * below + rng.normal(0, 1, 40)
    ratio = bootstrap_interval(lambda a, b: a.mean() / b.mean(), above, below, resamples=150, seed=seed)
    return ratio, 2.0


@pytest.mark.parametrize(
    "experiment",
    [
        normal_mean,
        exponential_mean,
        clustered_mean,
        few_entities_mean,
        skewed_difference,
        share,
        rank_correlation,
        auroc_of_single_class_entities,
        auroc_of_mixed_entities,
        ratio_by_bca,
    ],
)
def test_covers_95_percent(experiment):
    assert NOMINAL[0] <= coverage(experiment) <= NOMINAL[1]


def test_rows_in_place_of_entities_would_undercover():
    def by_rows(rng, seed):
        return mean_interval(clustered(rng)[0], resamples=300, seed=seed), 0.0

    assert coverage(by_rows, 200) < 0.85


def test_few_entities_give_students_interval():
    low, high = mean_interval([1.0, 2.0, 3.0])
    reach = stats.t.ppf(0.975, 2) / 3**0.5
    assert (low, high) == pytest.approx((2 - reach, 2 + reach))


def test_equal_entities_count_once():
    once = mean_interval([1.0, 4.0, 2.0, 8.0])
    repeated = mean_interval(np.repeat([1.0, 4.0, 2.0, 8.0], 5), np.repeat(np.arange(4), 5))
    assert repeated == pytest.approx(once)


def test_wilson_by_hand():
    # centre (8 + z^2/2) / (10 + z^2), z = 1.959964
    assert proportion_interval(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)


def test_auroc_jackknife_by_hand():
    # pairs won: (.5,.4) (.5,.1) (.8,.4) (.8,.1) of 6 with the negative .9 never beaten: 4/6; left out, in order of
    # rows: p.5 -> 2/3, p.8 -> 2/3, n.4 -> 1/2, n.1 -> 1/2, n.9 -> 1
    low, high = auroc_interval([0.5, 0.8, 0.4, 0.1, 0.9], [1, 1, 0, 0, 0])
    left_out = np.array([2 / 3, 2 / 3, 1 / 2, 1 / 2, 1.0])
    error = (4 / 5 * ((left_out - left_out.mean()) ** 2).sum()) ** 0.5
    reach = stats.t.ppf(0.975, 4) * error / (2 / 3 * 1 / 3)
    assert low == pytest.approx(1 / (1 + math.exp(-(math.log(2) - reach))))
    assert high == pytest.approx(1 / (1 + math.exp(-(math.log(2) + reach))))


@pytest.mark.parametrize("stratified", [False, True])
def test_auroc_jackknife_agrees_with_a_loop(stratified):
    rng = np.random.default_rng(0)
    labels, codes = np.tile([0, 0, 1, 1], 6), np.repeat(np.arange(6), 4)
    scores, strata = rng.integers(0, 9, 24) + 2.0 * labels, codes // 3 if stratified else np.zeros(24, dtype=int)

    def without(entity):
        kept = codes != entity
        return auroc(scores[kept], labels[kept], strata=strata[kept])

    left_out, value = np.array([without(e) for e in range(6)]), auroc(scores, labels, strata=strata)
    error = (5 / 6 * ((left_out - left_out.mean()) ** 2).sum()) ** 0.5
    reach = stats.t.ppf(0.975, 5) * error / (value * (1 - value))
    ends = special.expit(special.logit(value) + np.array([-reach, reach]))
    assert auroc_interval(scores, labels, codes, strata=strata) == pytest.approx(tuple(ends))


def test_perfect_auroc_is_not_certain():
    labels = np.tile([0, 1], 10)
    low, high = auroc_interval(labels + 0.01 * np.arange(20), labels)
    assert high == 1.0
    assert low == pytest.approx(proportion_interval(10, 10).low)


def test_one_entity_bounds_nothing():
    assert all(map(math.isnan, mean_interval([1.0, 2.0], ["a", "a"])))
    assert all(map(math.isnan, auroc_interval([1.0, 2.0, 3.0], [0, 0, 1])))
    assert all(map(math.isnan, bootstrap_interval(np.mean, [1.0, 2.0], entities=["a", "a"])))


def test_constant_data_have_no_width():
    assert mean_interval([3.0] * 9) == (3.0, 3.0)
    assert bootstrap_interval(np.mean, [3.0] * 9, resamples=50) == (3.0, 3.0)


def test_large_offset_keeps_precision():
    values = np.random.default_rng(0).normal(size=30)
    moved = mean_interval(values + 1e9)
    assert np.subtract(moved, 1e9) == pytest.approx(mean_interval(values), abs=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mean_interval([]), "non-empty"),
        (lambda: mean_interval([1.0, math.nan]), "1 values that are not finite"),
        (lambda: mean_interval([1.0, 2.0], ["a"]), "Entities name 1 rows, expected 2"),
        (lambda: proportion_interval(3, 2), "3 successes in 2 trials"),
        (lambda: auroc_interval([1.0, 2.0], [1, 1]), "one class only"),
        (lambda: auroc_interval([1.0, 2.0], [1, 2]), "0 or 1"),
        (lambda: auroc_interval([1.0, 2.0], [1, 0], strata=["a", "b"]), "No stratum holds both classes"),
        (lambda: bootstrap_interval(np.mean, [1.0, 2.0], [1.0]), "one length"),
    ],
)
def test_bad_input_says_so(call, words):
    with pytest.raises(BadInput, match=words):
        call()
