"""Planted networks: how many features a unit carries, for one unit and for a layer; nulls; refusals."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from cutaway.errors import BadInput, NotTestable
from cutaway.features.collect import as_stimulus_set, collect
from cutaway.features.polysemanticity import (
    check_independent,
    choose,
    compare_layers,
    elsewhere,
    given,
    in_directions,
    input_space,
    measure_layer,
    modes,
    monosemanticity,
)
from cutaway.features.polysemanticity.likeness import resampled_scores
from tests.features.planted import language_model, texts
from tests.features.polysemanticity.planted import world

SEEDS = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def layers():
    found = []
    for seed in SEEDS:
        made = world(seed)
        activity, shown = made.measured()
        found.append((made, activity, shown, measure_layer(activity, shown, draws=29)))
    return found


def test_the_planted_number_of_features_is_counted(layers):
    right = {}
    for made, _, _, layer in layers:
        for kind, truth, found in zip(made.kinds, made.truth, layer.modes):
            right.setdefault(kind, []).append(found == truth)
    everything = [each for found in right.values() for each in found]
    assert len(everything) == 35 * len(SEEDS) > 100
    assert np.mean(everything) >= 0.95
    for kind in ("one", "two", "three", "80/20", "arc", "sheet"):
        assert np.mean(right[kind]) >= 0.95, kind
    assert np.mean(right["one and arc"]) >= 0.5  # the hard one: a narrow kind beside a sparse, broad one


def test_the_score_puts_units_with_several_features_above_broad_ones(layers):
    several, one = [], []
    for made, _, _, layer in layers:
        for truth, score in zip(made.truth, layer.score):
            (several if truth > 1 else one).append(score)
    assert np.quantile(several, 0.1) > np.quantile(one, 0.9)
    assert layers[0][3].median().n == 35 and layers[0][3].polysemantic.value == pytest.approx(20 / 35, abs=0.1)


def test_one_unit_has_interval_nulls_and_members(layers):
    made, activity, shown, _ = layers[0]
    unit = made.kinds.index("two")
    found = modes(activity, unit, shown, draws=19, subsamples=20)
    assert found.count == 2 and found.gap.p <= 0.01 and found.gap.value == 1
    assert 1.3 < found.effective.low <= found.effective.value <= found.effective.high <= 3
    assert found.separation.z > 2 and found.likeness.z > 5 and found.among_units is not None
    assert sorted(place for mode in found.modes for place in mode.members) == list(range(len(found.examples)))
    assert modes(activity, unit, shown, draws=19, subsamples=20).to_json() == found.to_json()
    assert "see of other" in found.representation


def noise_layer(units: int = 60, stimuli: int = 150, seed: int = 0):
    """Activity and vectors that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    made = world(0, each=10)
    activity = collect(made.network, made.network.site("act"), [0], made.stimuli.take(stimuli, seed=0))
    count = len(activity)
    values = rng.gamma(2.0, 1.0, (count, 1, units))
    place = np.zeros((count, units), dtype=int)
    random = dataclasses.replace(
        activity, units=tuple(range(units)), values=values, highest=values[:, 0], lowest=values[:, 0],
        highest_place=place, lowest_place=place,
    )  # fmt: skip
    return random, given(random, rng.normal(size=(count, 16)))


def test_random_units_are_at_zero():
    activity, shown = noise_layer()
    layer = measure_layer(activity, shown, count=48, draws=99)
    for z in (layer.separation_z, layer.likeness_z):
        assert abs(z.mean()) < 0.4 and 0.6 < np.abs(z).mean() < 1.05  # a standard normal: 0 and 0.8
        assert kstest(z, "norm").pvalue > 0.01
    assert layer.polysemantic.value <= 0.05
    found = [modes(activity, unit, shown, count=48, draws=19, subsamples=0).separation.p for unit in range(12)]
    assert kstest(found, "uniform").pvalue > 0.01


def test_monosemanticity_by_hand():
    # values 1, 1, 1/2; vectors x, x, y: pairs r s = 1 * 1, 1/2 * 0, 1/2 * 0 over r = 1 + 1/2 + 1/2
    values, vectors = np.array([1.0, 1.0, 0.5]), np.array([[1.0, 0], [3.0, 0], [0, 2.0]])
    assert float(monosemanticity(values, vectors)) == pytest.approx(0.5)
    both = monosemanticity(np.stack([values, values]), np.stack([vectors, -vectors]))
    assert both.tolist() == pytest.approx([0.5, 0.5])
    assert np.isnan(monosemanticity(np.array([1.0, 0, 0]), vectors))
    assert resampled_scores(np.ones(20), np.ones((20, 2))).tolist() == pytest.approx([1.0] * 500)
    with pytest.raises(BadInput, match="between 0 and 1"):
        monosemanticity(-values, vectors)


def test_the_same_site_and_the_same_network_are_refused(layers):
    made, activity, _, _ = layers[0]
    for site in ("act", "detect"):
        with pytest.raises(BadInput, match="no independent representation"):
            elsewhere(made.network, activity, made.network, site)
    wrapped = dataclasses.replace(made.other, name="planted+dictionary")
    with pytest.raises(BadInput, match="no independent"):
        check_independent(wrapped, "act@sae", made.network, "act")
    check_independent(made.network, "act", made.other, "see")


def test_too_few_examples_and_unknown_units(layers):
    made, activity, shown, _ = layers[0]
    few = activity.restricted({stimulus.id for stimulus in activity.stimuli[:30]})
    with pytest.raises(NotTestable, match="show it more stimuli"):
        modes(few, 0, made.represented(few))
    with pytest.raises(BadInput, match="collect it first"):
        modes(activity, 99, shown)
    with pytest.raises(BadInput, match="16 at least"):
        choose(activity, 0, 5)
    layer = measure_layer(few, made.represented(few), draws=9)
    assert layer.modes[0] == 0 and np.isnan(layer.gap_p[0]) and layer.to_json()["units"][0]["gap_p"] is None
    with pytest.raises(BadInput, match="NaN"):
        modes(activity, 0, given(activity, np.full((len(activity), 2), np.nan)))


def test_examples_come_from_every_level_one_of_each_origin(layers):
    made, activity, _, _ = layers[0]
    chosen = choose(activity, made.kinds.index("two"), 60)
    origins = [activity.entities[row] for row in chosen.rows]
    assert len(set(origins)) == len(origins) <= 60 and (np.diff(chosen.values) <= 0).all()
    assert set(chosen.levels.tolist()) >= {0, 1} and chosen.values.min() > 0.25 * chosen.values.max() * 0.9
    top = activity.highest[:, made.kinds.index("two")].max()
    assert ((chosen.levels == 0) == (chosen.values >= 0.75 * top)).all()


def test_directions_of_a_site_are_features_too(layers):
    made, activity, _, _ = layers[0]
    units = [made.kinds.index("one"), made.kinds.index("one") + 1]
    both = np.zeros((2, len(activity.units)))
    both[0, units[0]], both[1, units] = 1, 1
    turned = in_directions(activity, both, "mine")
    assert turned.site.name == "act@mine" and np.allclose(turned.highest[:, 0], activity.highest[:, units[0]])
    layer = measure_layer(turned, elsewhere(made.network, turned, made.other, "see"))
    expected = 2 if made.network.module.mix.weight[units].argmax(1).unique().numel() == 2 else 1
    assert layer.modes.tolist() == [1, expected] and np.isnan(layer.separation_z).all()
    with pytest.raises(BadInput, match="collect the units"):
        in_directions(activity, both[:, :3])


def test_layers_are_compared_in_one_representation(layers):
    _, _, _, first = layers[0]
    same = compare_layers(first, layers[1][3])
    assert same.p > 0.05 and same.low < 0 < same.high
    worse = dataclasses.replace(first, cleanness=first.cleanness - 3)
    found = compare_layers(first, worse)
    assert found.value == pytest.approx(-3) and found.p < 0.01 and found.high < 0
    with pytest.raises(BadInput, match="one representation"):
        compare_layers(first, dataclasses.replace(first, representation="elsewhere"))


def test_texts_are_compared_token_by_token():
    network, other = language_model(), language_model(layers=1, hidden_size=24)
    site = network.site("layers.0.mlp")
    activity = collect(network, site, range(12), as_stimulus_set(texts(40)))
    shown = elsewhere(network, activity, other, "layers.0.resid")
    layer = measure_layer(activity, shown, draws=9)
    assert layer.tested.any()
    vectors = shown.of([(0, 3)])
    with torch.no_grad():
        value = other.run(other.prepare([activity.stimuli[0]]), capture=["layers.0.resid"])["layers.0.resid"][0, 3]
    assert vectors[0] == pytest.approx((value / value.norm()).numpy(), abs=1e-5)
    assert "embeddings" in input_space(network, activity).what
