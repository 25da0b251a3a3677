"""The multiverse runner and the grades that it and other tests earn."""

import math
from dataclasses import replace

import pytest

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import (
    CircuitEvidence,
    Evidence,
    Measurement,
    Multiverse,
    Test,
    Thresholds,
    Verdict,
    grade,
    run_multiverse,
    specifications,
)
from cutaway.evidence.grading import ASSOCIATION_NULLS, INTERVENTION_NULLS

AXES = {"ablation": ("mean", "zero", "resample"), "half": (0, 1), "seed": (0, 1), "metric": ("logit", "p")}


def answer(spec):
    """+2 by default, less for zero ablation, wrong sign for one corner, no answer in another."""
    if spec["ablation"] == "resample" and spec["seed"] == 1 and spec["half"] == 1:
        raise NotTestable("no reference to resample from")
    value = {"mean": 2.0, "zero": 1.0, "resample": 2.0}[spec["ablation"]]
    if spec["ablation"] == "zero" and spec["metric"] == "p" and spec["half"] == 0:
        value = -0.5
    return Measurement(value, p=0.01 if abs(value) > 1.5 else 0.2)


@pytest.fixture
def multiverse():
    return run_multiverse(answer, specifications(**AXES))


def test_specifications_are_the_full_cross():
    specs = specifications(**AXES)
    assert len(set(specs)) == 24
    assert dict(specs[0]) == {"ablation": "mean", "half": 0, "seed": 0, "metric": "logit"}
    assert str(specs[0]) == "ablation=mean, half=0, seed=0, metric=logit"


def test_too_few_specifications():
    with pytest.raises(BadInput, match="6 specifications, but a verdict needs 24"):
        specifications(ablation=("mean", "zero", "resample"), half=(0, 1))
    assert len(specifications(minimum=1, half=(0, 1))) == 2
    with pytest.raises(BadInput, match="distinct values"):
        specifications(seed=(1, 1))
    with pytest.raises(BadInput, match="No specifications"):
        run_multiverse(answer, ())


def test_shares_by_hand(multiverse):
    # 24 specifications: 2 fail, 2 are negative, 20 positive; 8 + 6 are significant
    assert [result.reason for result in multiverse.failed] == ["no reference to resample from"] * 2
    assert multiverse.sign == 1
    assert multiverse.sign_agreement == 20 / 24
    assert multiverse.share_significant == 14 / 24
    assert multiverse.median == 2.0
    assert multiverse.range == (-0.5, 2.0)
    assert multiverse.medians("ablation") == {"mean": 2.0, "zero": 1.0, "resample": 2.0}
    assert multiverse.spread == {"ablation": 1.0, "half": 0.0, "seed": 1.0 * 0, "metric": 0.0}
    assert "24 specifications, 2 failed" in str(multiverse)


def test_all_failed():
    def nothing(spec):
        raise NotTestable("no such behaviour")

    empty = run_multiverse(nothing, specifications(**AXES))
    assert (empty.sign, empty.sign_agreement, empty.share_significant) == (0, 0.0, 0.0)
    assert math.isnan(empty.median)
    assert all(math.isnan(spread) for spread in empty.spread.values())


def test_defects_are_not_answers():
    with pytest.raises(ZeroDivisionError):
        run_multiverse(lambda spec: Measurement(1 / 0), specifications(**AXES))


def test_each_answer_is_heard():
    heard = []
    run_multiverse(answer, specifications(**AXES), on_result=heard.append)
    assert len(heard) == 24


def beaten(nulls, value=1.0, q=0.01):
    return tuple(Test(null, Measurement(value, null_mean=0.0, null_std=0.1, p=q), q) for null in nulls)


def full(multiverse):
    return Evidence(
        association=beaten(ASSOCIATION_NULLS),
        intervention=beaten(INTERVENTION_NULLS),
        multiverse=multiverse,
        off_target=0.01,
        circuit=CircuitEvidence(
            faithfulness=0.93, random_percentile=99.5, illusion_passed=True, predicts_new_inputs=True
        ),
        replayed=True,
        prediction_held=True,
        planted_recall=0.62,
    )


def test_everything_tested_is_verified(multiverse):
    assert grade(full(multiverse)).verdict is Verdict.VERIFIED
    assert grade(full(multiverse)).missing == ()


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        ({"association": ()}, Verdict.VERIFIED, None),  # an intervention needs no association before it
        ({"association": beaten(ASSOCIATION_NULLS, q=0.2)}, Verdict.ASSERTED, "does not beat 'shuffled-labels'"),
        ({"association": beaten(ASSOCIATION_NULLS[:3])}, Verdict.ASSERTED, "not compared with the null 'surface'"),
        ({"association": beaten(ASSOCIATION_NULLS, q=math.nan)}, Verdict.ASSERTED, "no corrected p-value"),
        ({"intervention": ()}, Verdict.OBSERVED, "No intervention was made"),
        ({"intervention": (), "association": ()}, Verdict.ASSERTED, "No held-out association"),
        ({"intervention": beaten(INTERVENTION_NULLS, q=0.06)}, Verdict.OBSERVED, "q = 0.06 > 0.05"),
        ({"multiverse": None}, Verdict.OBSERVED, "under one specification; 24 are needed"),
        ({"off_target": 0.02}, Verdict.OBSERVED, "loses 2.0% of unrelated behaviour; 2% is the limit"),
        ({"off_target": math.nan}, Verdict.OBSERVED, "Specificity was not measured"),
        ({"association": (), "off_target": math.nan}, Verdict.OBSERVED, "Specificity was not measured"),
        ({"association": (), "multiverse": None, "off_target": math.nan}, Verdict.ASSERTED, "Specificity"),
        ({"circuit": None}, Verdict.CAUSAL, "No circuit"),
        ({"replayed": None}, Verdict.MECHANISTIC, "replay"),
        ({"prediction_held": None}, Verdict.MECHANISTIC, "in advance"),
        ({"planted_recall": math.nan}, Verdict.MECHANISTIC, "recall"),
        ({"prediction_held": False}, Verdict.REFUTED, "made in advance failed"),
        ({"intervention": beaten(INTERVENTION_NULLS, value=-1.0)}, Verdict.REFUTED, "opposite sign"),
        ({"untestable": "the network has no tokenizer"}, Verdict.NOT_TESTABLE, "no tokenizer"),
    ],
)
def test_one_thing_less(multiverse, change, verdict, reason):
    result = grade(replace(full(multiverse), **change))
    assert result.verdict is verdict
    assert (reason is None) == (result.missing == ())
    assert reason is None or any(reason in missing for missing in result.missing)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"faithfulness": 0.89}, "keeps 89%"),
        ({"faithfulness": math.nan}, "keeps nan%"),
        ({"random_percentile": 98.5}, "beats 98.5 %"),
        ({"illusion_passed": False}, "dormant pathway"),
        ({"predicts_new_inputs": False}, "does not predict"),
    ],
)
def test_a_weak_circuit_is_causal_only(multiverse, change, reason):
    evidence = full(multiverse)
    result = grade(replace(evidence, circuit=replace(evidence.circuit, **change)))
    assert result.verdict is Verdict.CAUSAL
    assert reason in result.missing[0]


def test_signs_must_agree_over_enough_specifications(multiverse):
    few = Multiverse(multiverse.results[:8])
    assert "under 8 specifications" in grade(replace(full(few))).missing[0]
    strict = grade(full(multiverse), Thresholds(sign_agreement=0.9))
    assert strict.verdict is Verdict.OBSERVED
    assert "agrees in 83% of specifications; 90% is needed" in strict.missing[0]
    opposite = grade(replace(full(multiverse), sign=-1, association=(), intervention=beaten(INTERVENTION_NULLS, -1.0)))
    assert "Most specifications have the opposite sign." in opposite.missing


def test_a_null_can_be_waived_for_a_stated_reason(multiverse):
    evidence = replace(
        full(multiverse),
        association=beaten(ASSOCIATION_NULLS[:3]),
        waived={"surface": "an image has no token embedding"},
    )
    result = grade(evidence)
    assert result.verdict is Verdict.VERIFIED
    assert result.notes == ("The null 'surface' does not apply: an image has no token embedding.",)


def test_the_scale():
    order = [Verdict.ASSERTED, Verdict.OBSERVED, Verdict.CAUSAL, Verdict.MECHANISTIC, Verdict.VERIFIED]
    assert [verdict.rank for verdict in order] == [0, 1, 2, 3, 4]
    assert Verdict.CAUSAL.at_least(Verdict.OBSERVED)
    assert not Verdict.OBSERVED.at_least(Verdict.CAUSAL)
    assert not Verdict.REFUTED.at_least(Verdict.REFUTED)


def test_q_is_a_probability():
    with pytest.raises(BadInput, match="not a probability"):
        Test("shuffled-labels", Measurement(1.0), 1.5)
