"""Deterministic labels and their scores: hand-made cases, planted networks, shuffled labels as the null."""

import numpy as np
import pytest
from scipy.stats import kstest

from cutaway.errors import BadInput, NotTestable
from cutaway.features.card import Effect, Outputs
from cutaway.features.collect import as_stimulus_set, collect
from cutaway.features.labels import (
    Case,
    Cases,
    cases_of,
    detection,
    example_clusters,
    halves,
    promoted_tokens,
    score_label,
    token_set,
    token_shape,
    tuning_label,
)
from cutaway.features.polysemanticity import given, input_space, modes
from cutaway.features.taxonomy import Battery, UnitLabel, battery_for
from tests.features.planted import language_model, pictures, templates, texts


def case(token: str, following: str = " the", row: int = 0) -> Case:
    return Case(row, 1, f"text {row}", (" a", token, following), 1)


def words(*tokens: str) -> tuple[Case, ...]:
    return tuple(case(token, row=row) for row, token in enumerate(tokens))


def test_detection_by_hand():
    # Said yes on 3 of 4 that fire and on 1 of 4 others: (3/4 + 3/4) / 2; F1 = 6 / (6 + 1 + 1).
    on, off = [1, 0.9, 0.8, 0.2], [0, 0.1, 0.7, 0.3]
    found = detection(on, off, words(*"abcd"), words(*"efgh"))
    assert found.accuracy.value == 0.75 and found.f1 == 0.75 and found.n == 8 and found.failed == 0
    assert found.auc.value == pytest.approx(14 / 16)
    assert (
        found.accuracy.null_mean == pytest.approx(0.5, abs=0.03) and found.accuracy.low <= 0.75 <= found.accuracy.high
    )


def test_failed_replies_are_wrong_and_counted():
    none = detection([None] * 4, [None] * 4, words(*"abcd"), words(*"efgh"))
    assert none.accuracy.value == 0 and none.failed == 8 and none.accuracy.p == 1
    some = detection([1, 1, None, 1], [0, 0, 0, None], words(*"abcd"), words(*"efgh"))
    assert some.accuracy.value == 0.75 and some.failed == 2 and np.isnan(some.auc.p)


@pytest.mark.slow
def test_a_label_that_says_nothing_has_uniform_p():
    rng = np.random.default_rng(0)
    ps = [
        detection(rng.random(30).tolist(), rng.random(30).tolist(), words(*"a" * 30), words(*"b" * 30), seed=seed).auc.p
        for seed in range(40)
    ]
    assert kstest(ps, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("token", "shape"),
    [(" the", "lower-case words"), ("ing", "continuing lower-case words"), (" Paris", "capitalized words"),
     (" USA", "capitals"), (" 1984", "digits"), (",", "punctuation"), ("\n\n", "line breaks"), (" ", "spaces"),
     (" über", "non-ASCII words"), ("", "spaces")],
)  # fmt: skip
def test_token_shapes(token, shape):
    assert token_shape(token).removeprefix("continuing ") == shape.removeprefix("continuing ")


def test_token_set_by_hand():
    made = token_set(Cases(words(" cat", " cat", " cat", " 12"), words(" dog", " dog", " 7", " cat"), ()))
    # base 1/2; lower-case words fire 3 of 6: (3 + 1) / (6 + 2); cats 3 of 4: (3 + 2 * 0.5) / (4 + 2)
    assert made.base == 0.5 and made.shapes["lower-case words"] == 0.5
    assert made.rates[" cat"] == pytest.approx(4 / 6) and made.rates[" dog"] == pytest.approx(1 / 4)
    assert made.predict(words(" cat", " cow", "?")) == pytest.approx([4 / 6, 0.5, 0.5])
    assert "' cat' (3)" in made.text
    with pytest.raises(NotTestable, match="no tokens"):
        token_set(Cases((Case(0, 0, "a"),) * 5, (), ()))


def test_a_label_that_fits_every_feature_fails_against_others():
    label = token_set(Cases(words(*[" cat"] * 8), words(*[" x"] * 8), ()))
    held = Cases(words(*[" cat"] * 10), words(*[" x"] * 10), words(*[" cat"] * 10))
    found = score_label(label, held)
    assert found.silent.accuracy.value == 1 and found.silent.accuracy.p < 0.01
    assert found.others is not None and found.others.accuracy.value == 0.5 and found.others.accuracy.p > 0.2
    assert "balanced accuracy 1.00" in str(found) and found.to_json()["failed_replies"] == 0


def test_promoted_tokens_are_looked_for_after_the_position():
    label = promoted_tokens(Outputs("direct", "", raised=(Effect(" Paris", 2.0), Effect(" Rome", 1.0))))
    cases = [case(" in", " Paris"), case(" in", " paris"), case(" Paris", " is"), Case(0, 0, "a", (" in",), 0)]
    assert label.predict(cases) == [1, 1, 0, 0] and "' Rome'" in label.text
    with pytest.raises(NotTestable, match="direct effect"):
        promoted_tokens(Outputs("ablation", ""))


@pytest.fixture(scope="module")
def planted():
    network = templates(units=12)
    activity = collect(network, network.site("act"), range(12), pictures(24))
    return network, activity, *halves(activity)


def test_halves_share_no_origin(planted):
    _, activity, fit, held = planted
    assert set(fit.entities).isdisjoint(held.entities) and len(fit) + len(held) == len(activity)
    with pytest.raises(NotTestable, match="4 or more"):
        halves(activity.restricted({activity.stimuli[0].id}))


def test_cases_are_what_they_say(planted):
    network, _, fit, held = planted
    top = float(fit.highest[:, 1].max())
    found = cases_of(network, held, 1, highest=top, count=12)

    def value(each: Case, unit: int = 1) -> float:
        return held.values[each.row, held.places[each.row].tolist().index(each.place), unit]

    assert len(found.fires) == len(found.silent) == len(found.others) == 12
    assert min(map(value, found.fires)) > 0.25 * top and max(map(value, found.silent)) <= 0.05 * top
    assert all(max(value(each, unit) for unit in range(12)) > 0 for each in found.others)
    with pytest.raises(NotTestable, match="a label needs"):
        cases_of(network, held, 2)
    with pytest.raises(BadInput, match="not collected"):
        cases_of(network, held, 77)


def test_example_clusters_predict_held_out_pictures_and_random_prototypes_do_not(planted):
    network, _, fit, held = planted
    # one representation must serve rows of both halves: descriptors are of crops, so each half has its own lookup
    shown, later = input_space(network, fit), input_space(network, held)
    cases = cases_of(network, fit, 1)
    label = example_clusters(modes(fit, 1, shown, draws=0, subsamples=0), shown, cases)
    assert label.text.startswith("looks like 2 kinds")
    moved = type(label)(
        later, *[getattr(label, n) for n in ("prototypes", "centre", "border", "width", "text", "method")]
    )
    found = score_label(moved, cases_of(network, held, 1, highest=float(fit.highest[:, 1].max())))
    assert found.silent.accuracy.value > 0.9 and found.silent.accuracy.p < 0.01


def test_tuning_label_looks_for_the_drawings_that_excite_most(planted):
    network, _, fit, _ = planted
    shown = {kind: drawings for kind, drawings in battery_for(16).items() if kind in ("gratings", "fields")}
    sigma = {kind: np.full((1, len(drawings)), 0.5) for kind, drawings in shown.items()}
    sigma["fields"][0, 0] = 9.0
    battery = Battery(shown, sigma)
    label = tuning_label(battery, UnitLabel(0, "colour", 0.7), input_space(network, fit), cases_of(network, fit, 0))
    assert label.text.startswith("colour (margin 0.70)") and "fields" in label.text and label.method == "tuning"


def test_tokens_of_a_language_model():
    network = language_model()
    activity = collect(network, network.site("layers.0.mlp"), range(8), as_stimulus_set(texts(60)))
    fit, held = halves(activity)
    made = token_set(cases_of(network, fit, 0, count=60))
    found = score_label(made, cases_of(network, held, 0, highest=float(fit.highest[:, 0].max()), count=60))
    assert found.silent.n == 120 and found.silent.accuracy.value > 0.6 and found.silent.accuracy.p < 0.05
    again = score_label(made, cases_of(network, held, 0, highest=float(fit.highest[:, 0].max()), count=60))
    assert again == found


def test_prototypes_need_cases_without_the_feature(planted):
    network, _, fit, _ = planted
    cases = cases_of(network, fit, 1)
    with pytest.raises(NotTestable, match="silent"):
        example_clusters(
            modes(fit, 1, given(fit, np.eye(len(fit))), draws=0, subsamples=0), given(fit, np.eye(len(fit))),
            Cases(cases.fires, (), ()),
        )  # fmt: skip
