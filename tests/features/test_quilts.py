"""Activation-interval quilts: what is sampled, what labels say of the expected value, what shape the tail has."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cutaway.errors import BadInput, NotTestable, UnknownName
from cutaway.features.quilts import (
    Bin,
    Patch,
    Quilt,
    draw_blinded,
    draw_quilt,
    expected_value_shares,
    exponential_tail,
    quilt,
)
from cutaway.networks import Network, wrap
from cutaway.networks.preprocess import ImagePreprocess
from cutaway.stimuli import StimulusSet
from tests.features.planted import stimulus


def brightness() -> Network:
    """One unit: the mean of a 2 x 2 square, minus 0.5, at every second pixel; then its rectifier."""
    conv = nn.Conv2d(3, 2, 2, stride=2)
    with torch.no_grad():
        conv.weight.fill_(1 / 12)
        conv.weight[1] = 0
        conv.bias.copy_(torch.tensor([-0.5, 0.0]))  # type: ignore[union-attr]
    module = nn.Sequential(conv, nn.ReLU())
    return wrap(module, name="brightness", preprocess=ImagePreprocess(size=None), example=torch.zeros(1, 3, 8, 8))


def greys(count: int = 24) -> StimulusSet:
    """Pictures of four grey squares each, every brightness equally often."""
    levels = torch.linspace(0, 1, count * 4)[torch.randperm(count * 4, generator=torch.Generator().manual_seed(0))]
    pictures = [
        level.view(1, 2, 2).repeat_interleave(2, 1).repeat_interleave(2, 2).expand(3, 4, 4).contiguous()
        for level in levels.split(4)
    ]
    return StimulusSet("greys", [stimulus(picture, f"grey {i}") for i, picture in enumerate(pictures)])


@pytest.fixture(scope="module")
def found() -> Quilt:
    return quilt(brightness(), "0:0", greys(), bins=4, per_bin=5)


# -- sampling ------------------------------------------------------------------------------------------------------


def test_bins_are_uniform_from_the_lowest_to_the_highest_negative_ones_included(found: Quilt) -> None:
    bounds = [each.low for each in found.bins] + [found.bins[-1].high]
    np.testing.assert_allclose(bounds, [-0.5, -0.25, 0, 0.25, 0.5], atol=1e-6)
    assert found.positions == 96
    np.testing.assert_allclose([each.share for each in found.bins], [0.25] * 4, atol=0.02)
    np.testing.assert_allclose([each.mean_positive for each in found.bins], [0, 0, 0.125, 0.375], atol=0.01)


def test_examples_lie_in_their_bin_and_show_what_the_unit_sees(found: Quilt) -> None:
    for each in found.bins:
        assert len(each.patches) == 5
        for patch in each.patches:
            assert each.low - 1e-6 <= patch.value <= each.high + 1e-6
            assert patch.crop.shape == (2, 2, 3)
            assert patch.crop.mean() - 0.5 == pytest.approx(patch.value, abs=1e-5)


def test_a_stimulus_gives_at_most_one_example_to_a_bin(found: Quilt) -> None:
    for each in found.bins:
        sources = [patch.source for patch in each.patches]
        assert len(set(sources)) == len(sources)
    every = quilt(brightness(), "0:0", greys(), bins=2, per_bin=48, per_stimulus=4)
    assert len(every.patches) == 96
    assert len({patch.key for patch in every.patches}) == 96


def test_examples_are_random_not_the_strongest_and_follow_the_seed() -> None:
    keys = [[p.key for p in quilt(brightness(), "0:0", greys(), bins=2, per_bin=8, seed=s).patches] for s in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    top = quilt(brightness(), "0:0", greys(), bins=2, per_bin=8).bins[1]
    assert np.mean([patch.value for patch in top.patches]) < 0.4  # the eight strongest have a mean of 0.46


def test_what_cannot_be_cut_into_intervals_is_one_sentence() -> None:
    with pytest.raises(NotTestable, match="0:1 is 0 everywhere"):
        quilt(brightness(), "0:1", greys())
    with pytest.raises(BadInput, match="1 bins of 8"):
        quilt(brightness(), "0:0", greys(), bins=1)
    flat = wrap(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), name="flat", example=torch.zeros(1, 3, 4, 4))
    with pytest.raises(NotTestable, match="not a feature map"):
        quilt(flat, "1:0", greys())


# -- labels --------------------------------------------------------------------------------------------------------


def hand_made(weights: list[tuple[float, float]], counts: list[int]) -> Quilt:
    """Bins of given share and mean, with so many examples each, named by bin and number."""
    blank = np.zeros((2, 2, 3))
    bins = tuple(
        Bin(float(i), float(i + 1), share, mean,
            tuple(Patch(f"{i}.{n}", "made", f"{i}.{n}", (0, 0), i + 0.5, blank) for n in range(count)))
        for i, ((share, mean), count) in enumerate(zip(weights, counts, strict=True))
    )  # fmt: skip
    return Quilt("made:0", bins, 100, 0)


def test_expected_value_share_by_hand() -> None:
    # x p(x): 0.8 * 0.5 = 0.4 and 0.2 * 3 = 0.6; P(curve) is 1/4 below and 2/2 above.
    made = hand_made([(0.8, 0.5), (0.2, 3.0)], [4, 2])
    labels = {"0.0": "curve", "0.1": "line", "0.2": "line", "0.3": "line", "1.0": "curve", "1.1": "curve"}
    shares = expected_value_shares(made, labels)
    assert shares["curve"].value == pytest.approx(0.4 / 4 + 0.6)
    assert shares["line"].value == pytest.approx(0.4 * 3 / 4)
    assert shares["curve"].null_mean == pytest.approx(0.5, abs=0.05), "shuffled, a label's share is its frequency: 3/6"
    assert shares["curve"].n == 6
    assert shares["curve"].low <= shares["curve"].value <= shares["curve"].high


def test_bins_without_a_label_are_left_out_of_both_sums() -> None:
    made = hand_made([(0.5, 1.0), (0.4, 2.0), (0.1, 5.0)], [2, 2, 2])
    shares = expected_value_shares(made, {"0.0": "curve", "2.0": "line"})
    assert shares["curve"].value == pytest.approx(0.5 / (0.5 + 0.5))


def test_labels_that_follow_the_activation_stand_out_and_random_ones_do_not() -> None:
    made = hand_made([(0.1, float(mean)) for mean in range(10)], [8] * 10)
    rng = np.random.default_rng(0)
    follow = {patch.key: "curve" if patch.value > 5 else "other" for patch in made.patches}
    chance = {patch.key: str(rng.choice(["curve", "other"])) for patch in made.patches}
    assert expected_value_shares(made, follow)["curve"].p == pytest.approx(2 / 1000)
    assert expected_value_shares(made, chance)["curve"].p > 0.05


def test_wrong_labels_are_one_sentence() -> None:
    made = hand_made([(0.5, 0.0), (0.5, 1.0)], [2, 2])
    with pytest.raises(UnknownName, match=r"no example of this quilt named '0\.7'"):
        expected_value_shares(made, {"0.7": "curve"})
    with pytest.raises(BadInput, match="no expected value"):
        expected_value_shares(made, {"0.0": "curve"})
    with pytest.raises(BadInput, match="numbers 1 to 4"):
        made.labels_of({5: "curve"})


def test_blind_numbers_lead_back_to_the_examples(found: Quilt) -> None:
    order = found.blinded(seed=3)
    assert sorted(patch.key for patch in order) == sorted(patch.key for patch in found.patches)
    assert abs(np.corrcoef(np.arange(len(order)), [patch.value for patch in order])[0, 1]) < 0.5
    numbered = {number: ("bright" if patch.value > 0 else "dark") for number, patch in enumerate(order, start=1)}
    shares = expected_value_shares(found, found.labels_of(numbered, seed=3))
    assert shares["bright"].value == pytest.approx(1.0)


# -- tails ---------------------------------------------------------------------------------------------------------


def test_tail_numbers_by_hand() -> None:
    # 80 zeros, then ten 1s and ten 3s: above the median 0 the excesses have mean 2 and standard deviation 1.
    tail = exponential_tail(np.array([0.0] * 80 + [1.0] * 10 + [3.0] * 10), quantile=0.5, draws=99)
    assert (tail.threshold, tail.exceedances) == (0.0, 20)
    assert tail.rate.value == pytest.approx(0.5)
    assert tail.variation.value == pytest.approx(0.5)


def test_an_exponential_tail_is_told_from_a_normal_one() -> None:
    rng = np.random.default_rng(0)
    names = [f"picture {i // 20}" for i in range(6000)]
    exponential = exponential_tail(rng.exponential(2.0, 6000), names)
    assert exponential.rate.low < 0.5 < exponential.rate.high
    assert exponential.variation.low < 1 < exponential.variation.high
    assert exponential.variation.p == pytest.approx(2 / 500)
    assert exponential.variation.n == 300
    normal = exponential_tail(rng.normal(-1, 2, 6000), names)
    assert normal.variation.p > 0.05
    # mean and spread of a standard normal above its 90th percentile
    ratio = 0.17550 / 0.1
    spread = math.sqrt(1 + 1.28155 * ratio - ratio**2) / (ratio - 1.28155)
    assert normal.variation.null_mean == pytest.approx(spread, abs=0.02)


def test_the_lower_tail_is_the_upper_tail_of_the_negative() -> None:
    values = np.random.default_rng(1).normal(size=800)
    lower, upper = exponential_tail(values, upper=False, draws=50), exponential_tail(-values, draws=50)
    assert lower.rate == upper.rate
    assert lower.threshold == -upper.threshold


def test_positions_of_one_origin_count_as_one() -> None:
    values = np.random.default_rng(2).exponential(size=100)
    copied, names = np.repeat(values, 30), np.repeat(np.arange(100).astype(str), 30).tolist()
    wide, narrow = exponential_tail(copied, names, draws=200), exponential_tail(copied, draws=200)
    assert wide.rate.high - wide.rate.low > 3 * (narrow.rate.high - narrow.rate.low)


def test_too_short_a_tail_is_one_sentence() -> None:
    with pytest.raises(NotTestable, match="Only 10 values"):
        exponential_tail(np.arange(100.0))
    with pytest.raises(BadInput, match="between 0 and 1"):
        exponential_tail(np.arange(100.0), quantile=1.5)


# -- pictures ------------------------------------------------------------------------------------------------------


def test_the_picture_has_a_row_for_each_bin_the_highest_on_top(found: Quilt) -> None:
    picture = np.asarray(Image.open(io.BytesIO(draw_quilt(found, tile=20))))
    assert picture.shape == (4 * 23, 132 + 5 * 23, 3)
    means = [picture[row * 23 + 10, 132 + 10 : 132 + 115 : 23].mean() for row in range(4)]
    assert means == sorted(means, reverse=True)


def test_the_blinded_picture_shows_every_example(found: Quilt) -> None:
    picture = np.asarray(Image.open(io.BytesIO(draw_blinded(found, tile=20, columns=5))))
    assert picture.shape == (4 * 34, 5 * 23, 3)
    first = found.blinded()[0]
    assert picture[20, 10, 0] == pytest.approx(255 * first.crop.mean(), abs=1.5)
