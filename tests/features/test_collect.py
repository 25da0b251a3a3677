"""Activity, examples and distributions, against what a loop over everything finds."""

import numpy as np
import pytest
import torch

from cutaway.errors import BadInput, UnknownName
from cutaway.evidence import Measurement
from cutaway.features.activity import ActivityBuilder
from cutaway.features.collect import as_stimulus_set, check_address, collect, peers, prepared
from cutaway.features.examples import Counts, pick, top_picks
from cutaway.features.explain import distribution, firing_rate, firing_threshold
from cutaway.networks.sites import Site
from cutaway.stimuli import Stimulus, StimulusSet
from tests.features.planted import fades, language_model, pictures, templates, texts


def _reference(network, site, stimuli):
    run = network.run(prepared(network, list(stimuli)), capture=[site.name])
    return run[site.name].detach().double().numpy()


def test_extremes_and_places_are_those_of_the_whole_map():
    network, stimuli = templates(), pictures(3)
    site = network.site("detect")
    activity = collect(network, site, [2, 0], stimuli, batch_size=5)
    whole = _reference(network, site, stimuli)[:, [2, 0]]
    np.testing.assert_allclose(activity.highest, whole.max((2, 3)), atol=1e-6)
    np.testing.assert_allclose(activity.lowest, whole.min((2, 3)), atol=1e-6)
    for row, unit in ((0, 0), (7, 1), (11, 0)):
        y, x = activity.position(int(activity.highest_place[row, unit]))
        assert whole[row, unit, y, x] == pytest.approx(whole[row, unit].max(), abs=1e-6)


def test_small_maps_are_kept_whole_and_large_ones_are_sampled_without_replacement():
    site = Site("maps", "conv", "batch unit y x", "maps", width=1)
    stimuli = list(pictures(1))[:2]
    network = templates()
    batch = prepared(network, stimuli)
    for samples, kept in ((100, 16), (5, 5)):
        builder = ActivityBuilder(site, (0,), samples)
        builder.add(stimuli, batch, torch.arange(32.0).reshape(2, 1, 4, 4))
        activity = builder.done()
        assert activity.values.shape == (2, kept, 1)
        assert len(set(activity.values[0, :, 0].tolist())) == kept
        assert activity.highest[:, 0].tolist() == [15, 31]


def test_padding_takes_no_part():
    network = language_model()
    site = network.site("layers.0.mlp")
    short, long = "cats eats", "dogs runs fish tree cats eats last"
    together = collect(network, site, range(32), as_stimulus_set([short, long]), batch_size=2)
    alone = collect(network, site, range(32), as_stimulus_set([short]), batch_size=1)
    np.testing.assert_allclose(together.highest[0], alone.highest[0], atol=1e-6)
    np.testing.assert_allclose(together.lowest[0], alone.lowest[0], atol=1e-6)
    assert np.isnan(together.values[0, 2:, 0]).all() and not np.isnan(together.values[1]).any()
    assert [len(row) for row in together.tokens] == [2, 7]
    run = network.run(prepared(network, as_stimulus_set([short, long])), capture=[site.name])
    real = run[site.name][run.batch.mask]
    assert torch.allclose(together.mean.flatten(), real.mean(0), atol=1e-6)


def test_the_mean_of_heads_keeps_the_head_axis():
    network = language_model()
    site = network.site("layers.1.attn.heads")
    stimuli = as_stimulus_set(texts(3))
    activity = collect(network, site, [1], stimuli)
    acts = network.run(prepared(network, stimuli), capture=[site.name])[site.name]
    assert torch.allclose(activity.mean[0], acts.mean((0, 1)), atol=1e-6)
    assert activity.highest[0, 0] == pytest.approx(float(acts[0, :, 1].norm(dim=-1).max()), abs=1e-5)


def test_a_pattern_is_read_as_the_strongest_attention_to_a_token_that_is_not_the_first():
    network = language_model()
    site = network.site("layers.0.attn.pattern")
    stimuli = as_stimulus_set(texts(2))
    activity = collect(network, site, [2], stimuli)
    pattern = network.run(prepared(network, stimuli), capture=[site.name])[site.name]
    assert activity.values[1, 5, 0] == pytest.approx(float(pattern[1, 2, 5, 1:].max()), abs=1e-6)
    assert activity.values[1, 0, 0] == 0  # the first query can attend to nothing else


def test_levels_hold_what_their_names_say():
    network, stimuli = templates(), fades()
    activity = collect(network, network.site("act"), [0], stimuli)
    picks = pick(activity, 0, Counts(top=6, interval=4, negative=3))
    highest = activity.highest[:, 0].max()
    tops = [each.value for each in picks if each.level == "top"]
    assert tops == sorted(activity.highest[:, 0], reverse=True)[:6]
    for name, low, high in (("75-100 %", 0.75, 1), ("50-75 %", 0.5, 0.75), ("25-50 %", 0.25, 0.5), ("0-25 %", 0, 0.25)):
        values = [each.value for each in picks if each.level == name]
        assert len(values) == 4 and all(low * highest < value <= high * highest for value in values)
    assert not [each for each in picks if each.level == "negative"]
    assert len({(each.row, each.place) for each in picks}) == len(picks)


def test_negative_examples_where_there_are_any():
    activity = collect(templates(), templates().site("detect"), [0], pictures(4))
    lowest = [each for each in pick(activity, 0, Counts()) if each.level == "negative"]
    assert lowest[0].value == activity.lowest[:, 0].min() < 0


def test_one_origin_gives_two_examples_of_a_level():
    same = [Stimulus(each.id, each.kind, each.source, each.load, group="one") for each in pictures(4)]
    activity = collect(templates(), templates().site("act"), [5], StimulusSet("crops", same))
    assert len(top_picks(activity, 5, 12)) == 2


def test_distribution_by_hand():
    found = distribution(np.array([[0.0, 1.0, np.nan], [3.0, 4.0, np.nan]]))
    assert found.samples == 4 and sum(found.counts) == 4
    assert (found.mean, found.edges[0], found.edges[-1]) == (2, 0, 4)
    assert found.std == pytest.approx(np.sqrt(2.5))
    assert dict(found.quantiles)[0.5] == 2


def test_firing_rate_counts_positions_above_zero_and_compares_with_other_units():
    network, stimuli = templates(), pictures(6)
    site = network.site("act")
    others = peers(site, [0], 24, seed=0)
    activity = collect(network, site, [0, *others], stimuli)
    rate = firing_rate(activity, 0, others)
    whole = _reference(network, site, stimuli)
    assert firing_threshold(activity, 0) == 0
    assert rate.value == pytest.approx((whole[:, 0] > 0).mean())
    assert rate.null_mean == pytest.approx((whole[:, list(others)] > 0).mean())
    assert isinstance(rate, Measurement) and rate.n == 24 and rate.low <= rate.value <= rate.high
    signed = collect(network, network.site("detect"), [0], stimuli)
    assert firing_threshold(signed, 0) == pytest.approx(0.1 * signed.highest.max())


def test_peers_are_other_units_and_depend_on_the_seed():
    site = templates().site("act")
    assert not set(peers(site, [0, 1], 24, seed=0)) & {0, 1}
    assert peers(site, [0], 5, seed=0) == peers(site, [0], 5, seed=0) != peers(site, [0], 5, seed=1)


def test_bad_input_is_named():
    network = templates()
    with pytest.raises(BadInput, match="has units 0 to 29"):
        check_address(network, "act:30")
    with pytest.raises(UnknownName, match="did you mean act"):
        check_address(network, "acts:3")
    with pytest.raises(UnknownName, match=r"no basis named 'sae'.*Without a basis: act:3"):
        check_address(network, "act@sae:3")
    with pytest.raises(BadInput, match="the set is empty"):
        as_stimulus_set([])


def test_unusable_stimuli_are_skipped_and_counted_and_all_of_them_is_an_error():
    def broken():
        raise BadInput("it is broken")

    bad = Stimulus("bad", "tensor", "bad one", broken)
    mixed = StimulusSet("mixed", [*pictures(1), bad])
    network = templates()
    assert len(collect(network, network.site("act"), [0], mixed)) == 4
    assert [each.reason for each in mixed.skipped] == ["it is broken"]
    with pytest.raises(BadInput, match=r"None of the 1 stimuli.*it is broken"):
        collect(network, network.site("act"), [0], StimulusSet("bad", [bad]))
