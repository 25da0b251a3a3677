import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from cutaway.errors import BadInput
from cutaway.evidence import (
    Measurement,
    auroc,
    cohens_d,
    measure_against_null,
    measure_auroc,
    measure_difference,
    measure_mean,
    measure_proportion,
    measure_spearman,
)

FAST = {"shuffles": 199, "resamples": 50}
ENTITIES = np.repeat(np.arange(24), 3)


def correlated(rng):
    return rng.normal(size=24)[ENTITIES] + rng.normal(size=72)


def null_mean(rng, seed):
    return measure_mean(correlated(rng), ENTITIES, seed=seed, **FAST)


def null_paired(rng, seed):
    return measure_difference(correlated(rng), correlated(rng), ENTITIES, paired=True, seed=seed, **FAST)


def null_unpaired(rng, seed):
    first, second = correlated(rng) ** 3, correlated(rng)[:45] ** 3
    return measure_difference(first, second, ENTITIES, ENTITIES[:45] + 100, seed=seed, **FAST)


def null_auroc_between(rng, seed):
    return measure_auroc(correlated(rng), ENTITIES % 2, ENTITIES, shuffles=199, seed=seed)


def null_auroc_within(rng, seed):
    return measure_auroc(correlated(rng), np.tile([0, 1, 1], 24), ENTITIES, shuffles=199, seed=seed)


def null_spearman(rng, seed):
    return measure_spearman(correlated(rng), correlated(rng), ENTITIES, shuffles=199, seed=seed)


def null_against(rng, seed):
    draws = rng.exponential(size=200)
    return measure_against_null(float(draws[0]), draws[1:], n=9, seed=seed)


@pytest.mark.parametrize(
    "experiment",
    [
        null_mean,
        null_paired,
        null_unpaired,
        null_auroc_between,
        null_auroc_within,
        null_spearman,
        null_against,
    ],
)
def test_p_is_uniform_under_the_null(experiment):
    rng = np.random.default_rng(6)
    p = np.array([experiment(rng, 1000 + seed).p for seed in range(500)])
    grid = 2 / 200  # a two-sided p of 199 draws sits at the upper ends of steps this wide: spread it over them
    assert stats.kstest(p - grid * rng.random(500), "uniform").pvalue > 0.02


def test_rows_in_place_of_entities_would_reject_too_often():
    rng = np.random.default_rng(5)
    p = [measure_auroc(correlated(rng), ENTITIES % 2, shuffles=199, seed=s).p for s in range(200)]
    assert np.mean(np.array(p) <= 0.05) > 0.1


def test_mean_by_hand():
    measured = measure_mean([1.0, 1.0, 3.0, 3.0], ["a", "a", "b", "b"], shuffles=4000)
    assert measured.value == 2.0
    assert measured.n == 2
    # signs of two entities: means -2, -1, 1, 2; two-sided p = 2/4
    assert measured.p == pytest.approx(0.5, abs=0.03)
    assert measured.null_mean == pytest.approx(0, abs=0.1)
    assert measured.null_std == pytest.approx(2.5**0.5, abs=0.05)


def test_null_value_moves_the_null():
    measured = measure_mean([1.0, 2.0, 3.0], null_value=2.0)
    assert measured.value == 2.0
    assert measured.p == 1.0
    assert measured.null_mean == pytest.approx(2.0, abs=0.1)


def test_difference_by_hand():
    measured = measure_difference([5.0, 6.0], [1.0, 2.0], shuffles=6000)
    assert measured.value == 4.0
    assert measured.n == 4
    assert measured.p == pytest.approx(2 / 6, abs=0.03)  # 1 of the 6 splits on each side


def test_paired_and_unpaired_ask_different_questions():
    base = np.arange(20.0)
    paired = measure_difference(base + 0.5, base, paired=True)
    unpaired = measure_difference(base + 0.5, base)
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.p < 0.01 < unpaired.p


def test_proportion_by_hand():
    measured = measure_proportion(9, 10)
    assert (measured.value, measured.null_mean, measured.n) == (0.9, 0.5, 10)
    assert measured.p == pytest.approx(22 / 1024)


def test_spearman_by_hand():
    measured = measure_spearman([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 3.0, 2.0, 5.0, 4.0])
    assert measured.value == pytest.approx(1 - 6 * 4 / (5 * 24))


def test_spearman_takes_entity_means():
    repeated = measure_spearman([0.0, 2.0, 2.0, 2.0, 3.0], [1.0, 1.0, 2.0, 2.0, 3.0], ["a", "a", "b", "b", "c"])
    assert repeated.value == pytest.approx(1.0)
    assert repeated.n == 3


def test_against_null_by_hand():
    measured = measure_against_null(3.0, [0.0, 1.0, 2.0], bootstrap=np.arange(101.0), n=4, alternative="greater")
    assert measured == Measurement(3.0, 2.5, 97.5, 1.0, 1.0, 0.25, 4, 0)


def test_auroc_by_hand_with_ties():
    # pairs (1,1) tie, (1,0) won, (3,1) won, (3,0) won
    assert auroc([1.0, 3.0, 1.0, 0.0], [1, 1, 0, 0]) == 3.5 / 4


def test_auroc_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, 9, 200).astype(float)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_strata_ignore_offsets():
    scores, labels, strata = [101.0, 102.0, 1.0, 2.0], [0, 1, 0, 1], ["a", "a", "b", "b"]
    assert auroc(scores, labels) == 0.75
    assert auroc(scores, labels, strata=strata) == 1.0


def test_strata_agree_with_a_loop():
    rng = np.random.default_rng(1)
    labels, scores = np.tile([0, 1, 1], 20), rng.integers(0, 9, 60).astype(float)
    strata = np.repeat([0, 1, 2], [9, 21, 30])  # as many positives for each negative, so pairs go with size squared
    parts = [roc_auc_score(labels[strata == s], scores[strata == s]) for s in range(3)]
    assert auroc(scores, labels, strata=strata) == pytest.approx(np.average(parts, weights=[81, 441, 900]))


def test_cohens_d_by_hand():
    assert cohens_d([1.0, 2.0, 3.0], [0.0, 1.0, 2.0]) == 1.0


def test_same_seed_same_numbers():
    values = np.random.default_rng(0).exponential(size=30)
    assert measure_mean(values, seed=3) == measure_mean(values, seed=3)
    assert measure_mean(values, seed=3) != measure_mean(values, seed=4)


def test_json_round_trip():
    for measured in (measure_mean([1.0, 2.0, 4.0]), Measurement(0.5), Measurement(1.0, p=0.05, n=3, seed=9)):
        fields = json.loads(json.dumps(measured.to_json(), allow_nan=False))
        assert str(Measurement.from_json(fields)) == str(measured)
        assert Measurement.from_json(fields).to_json() == measured.to_json()
    assert Measurement(0.5).to_json()["p"] is None


def test_z():
    assert Measurement(3.0, null_mean=1.0, null_std=0.5).z == 4.0
    assert Measurement(3.0, null_mean=1.0, null_std=0.0).z == math.inf
    assert Measurement(1.0, null_mean=1.0, null_std=0.0).z == 0.0
    assert math.isnan(Measurement(3.0).z)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: measure_difference([1.0], [1.0, 2.0], paired=True), "Paired samples have 1 and 2"),
        (lambda: measure_difference([1.0, 2.0], [1.0], ["a", "b"], ["a"]), "occurs in both samples"),
        (lambda: measure_spearman([1.0, 1.0], [1.0, 2.0]), "no rank correlation"),
        (lambda: measure_spearman([1.0], [1.0, 2.0]), "1 and 2 rows"),
        (lambda: auroc([1.0, 2.0], [0, 1], strata=[0, 1]), "No stratum"),
        (lambda: cohens_d([1.0], [1.0, 2.0]), "two values"),
        (lambda: cohens_d([1.0, 1.0], [2.0, 2.0]), "constant"),
    ],
)
def test_bad_input_says_so(call, words):
    with pytest.raises(BadInput, match=words):
        call()
