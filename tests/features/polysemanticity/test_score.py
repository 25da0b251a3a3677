"""Planted kinds: one family is one mode, two families are two, and a random unit is like any other."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import kstest

from cutaway.features.collect import as_stimulus_set, collect, peers
from cutaway.features.descriptors import describe, describe_picture
from cutaway.features.examples import top_picks
from cutaway.features.pictures import Pictures
from cutaway.features.polysemanticity import balanced_silhouette, one_cloud_scores, polysemanticity, separation
from cutaway.features.polysemanticity import score as scores
from tests.features.planted import language_model, pictures, templates


@pytest.fixture(scope="module")
def planted():
    network = templates(units=44)
    site = network.site("act")
    others = peers(site, [0, 1, 2], 41, seed=0)
    activity = collect(network, site, [0, 1, 2, *others], pictures(12))
    return network, activity, others, Pictures(network, activity)


def test_balanced_silhouette_by_hand():
    # Points 0, 1 | 5, 6: for 0, a = 1 and b = 5.5; for 1, a = 1 and b = 4.5; the other side mirrors it.
    points = np.array([[0.0], [1.0], [5.0], [6.0]])
    expected = (4.5 / 5.5 + 3.5 / 4.5) / 2
    assert balanced_silhouette(cdist(points, points), np.array([1, 1, 2, 2])) == pytest.approx(expected)
    # A stray point: its cluster counts 0, so the score is half of the other cluster's.
    stray = np.array([[0.0], [1.0], [100.0]])
    other = ((100 - 1) / 100 + (99 - 1) / 99) / 2
    assert balanced_silhouette(cdist(stray, stray), np.array([1, 1, 2])) == pytest.approx(other / 2)


def test_separation_finds_two_clouds_and_not_two_in_one():
    rng = np.random.default_rng(0)
    two = np.concatenate([rng.normal(0, 1, (10, 4)), rng.normal(12, 1, (10, 4))])
    score, labels = separation(two)
    assert score > 0.8 and len(set(labels)) == 2 and len(set(labels[:10])) == 1
    assert separation(rng.normal(0, 1, (20, 4)))[0] < 0.4


def test_under_one_cloud_p_is_uniform(monkeypatch):
    monkeypatch.setattr(scores, "CLOUDS", 49)
    rng = np.random.default_rng(0)
    ps = []
    for seed in range(60):
        points = rng.normal(0, 1, (16, 6)) * np.array([4, 2, 1, 1, 1, 1])
        null = one_cloud_scores(points, seed=seed)
        ps.append((1 + (null >= separation(points)[0]).sum()) / (len(null) + 1))
    assert kstest(ps, "uniform").pvalue > 0.01


def test_one_family_is_one_mode(planted):
    network, activity, others, shown = planted
    found = polysemanticity(network, activity, 0, others, shown)
    assert found is not None and found.modes == 1 and found.separation.p > 0.05 and found.shares == (1.0,)
    assert "receptive field" in found.representation


def test_two_families_are_two_modes(planted):
    network, activity, _, shown = planted
    found = polysemanticity(network, activity, 1, [], shown)
    assert found is not None and found.modes == 2 and found.separation.p <= 0.02
    assert found.shares[0] == pytest.approx(0.5, abs=0.15) and found.among_units is None


def test_random_units_are_not_unusual(planted, monkeypatch):
    monkeypatch.setattr(scores, "CLOUDS", 19)  # only the comparison among units is looked at
    network, activity, others, shown = planted
    zs = [
        polysemanticity(network, activity, unit, [each for each in others if each != unit], shown).among_units.z
        for unit in others[:12]
    ]
    assert abs(np.mean(zs)) < 0.7 and np.max(np.abs(zs)) < 4


def test_a_unit_that_is_hardly_active_is_not_judged(planted):
    network, activity, others, shown = planted
    assert polysemanticity(network, activity, 2, others, shown) is None


def test_same_seed_same_score(planted):
    network, activity, _, shown = planted
    assert polysemanticity(network, activity, 0, [], shown, seed=5) == polysemanticity(
        network, activity, 0, [], shown, seed=5
    )


def test_descriptors_tell_orientation_brightness_and_colour():
    stripes = np.tile(np.array([1.0, 1, 0, 0] * 8)[None, :, None], (32, 1, 3))
    upright, level = describe_picture(stripes), describe_picture(stripes.transpose(1, 0, 2))
    red, green = np.zeros((32, 32, 3)), np.zeros((32, 32, 3))
    red[..., 0], green[..., 1] = 1, 1
    same = np.linalg.norm(upright - describe_picture(np.roll(stripes, 4, axis=1)))
    assert np.linalg.norm(upright - level) > 1 > 5 * same
    assert np.linalg.norm(describe_picture(red) - describe_picture(green)) > 1
    assert len(upright) == 128 + 16 + 6


def test_causal_models_are_judged_by_what_came_before():
    network = language_model()
    site = network.site("layers.0.mlp")
    stimuli = as_stimulus_set(["cats dogs eats fish runs", "cats dogs tree last last"])
    activity = collect(network, site, [0], stimuli)
    place = top_picks(activity, 0, 2)
    at_second = [type(each)(each.level, each.row, 1, each.value) for each in place]
    rows, what = describe(network, activity, sorted(at_second, key=lambda each: each.row), None)
    assert np.array_equal(rows[0], rows[1]) and "input embeddings" in what
