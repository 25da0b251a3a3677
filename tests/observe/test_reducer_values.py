"""What reducers say, against hand-computed cases and plain numpy."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.stats import kstest

from cutaway.errors import BadInput
from cutaway.observe import CoActivations, Example, Firing, Intervals, Moments, Quantiles, Top
from tests.observe.small import activations

IDS, ACTS = activations(stimuli=20, positions=50)
FLAT = ACTS.reshape(-1, ACTS.shape[2]).double().numpy()


def test_moments_by_hand() -> None:
    moments = Moments()
    moments.update(["a", "b"], torch.tensor([[[0.0], [0.0]], [[0.0], [4.0]]]))
    result = moments.result()
    # mean 1, deviations -1 -1 -1 3: second 12/4, third 24/4, fourth 84/4
    assert result.count == 4
    assert result.mean.tolist() == [1.0]
    assert result.std.tolist() == [pytest.approx(math.sqrt(3))]
    assert result.skewness.tolist() == [pytest.approx(6 / 3**1.5)]
    assert result.kurtosis.tolist() == [pytest.approx(21 / 9 - 3)]
    assert (result.min.tolist(), result.max.tolist()) == ([0.0], [4.0])


def test_moments_against_scipy() -> None:
    moments = Moments()
    for n in range(0, 20, 3):
        moments.update(IDS[n : n + 3], ACTS[n : n + 3])
    result = moments.result()
    varying = [0, 2, 3]
    close = {"rtol": 1e-5, "atol": 1e-6}  # float32 sums of 1000 numbers
    np.testing.assert_allclose(result.mean, FLAT.mean(0), **close)
    np.testing.assert_allclose(result.std, FLAT.std(0), **close)
    np.testing.assert_allclose(result.skewness[varying], scipy.stats.skew(FLAT[:, varying]), **close)
    np.testing.assert_allclose(result.kurtosis[varying], scipy.stats.kurtosis(FLAT[:, varying]), **close)
    np.testing.assert_array_equal(result.max, FLAT.max(0))
    assert torch.isnan(result.skewness[1]), "a constant unit has no skewness"


def test_moments_of_a_small_spread_around_a_large_mean() -> None:
    """Float32 holds 10000 +- 0.01 in steps of 0.001; naive sums of squares would give nothing."""
    acts = 1e4 + 0.01 * torch.randn(4, 1000, 1, generator=torch.Generator().manual_seed(0))
    moments = Moments()
    moments.update(list("abcd"), acts)
    assert float(moments.result().std) == pytest.approx(acts.double().std(correction=0).item(), rel=1e-3)


def test_moments_do_not_overflow() -> None:
    moments = Moments()
    moments.update(["a"], torch.tensor([[[-1e30], [1e30]]]))
    assert float(moments.result().kurtosis) == pytest.approx(-2)


def test_quantiles_are_within_the_promised_error() -> None:
    for bins in (8, 32, 128):
        quantiles = Quantiles(bins_per_octave=bins)
        quantiles.update(IDS, ACTS)
        sketch = quantiles.result()
        shares = [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0]
        exact = np.quantile(FLAT, shares, axis=0, method="inverted_cdf")
        error = np.abs(sketch.quantile(shares).numpy() - exact)
        assert sketch.relative_error == 1 / (2 * bins + 1)
        assert (error <= sketch.relative_error * np.abs(exact) + 2.0**-20).all()
        assert error.max() > 0.1 * sketch.relative_error, "or the promise could be better"


def test_bins_by_hand() -> None:
    quantiles = Quantiles(bins_per_octave=8)
    quantiles.update(["a"], torch.tensor([[[1.0], [1.124], [1.125], [-3.0], [0.0], [1e-7], [1e12]]]))
    edges, counts = quantiles.result().histogram(0)
    tiny, top = 2.0**-20, 2.0**32
    assert counts.tolist() == [1, 2, 2, 1, 1]
    expected = [[-3.25, -3.0], [-tiny, tiny], [1.0, 1.125], [1.125, 1.25], [top * 15 / 16, top]]
    assert edges.tolist() == expected
    assert quantiles.result().values[1] == 0
    assert float(quantiles.result().share_above(1.1)[0]) == pytest.approx(2 / 7)


def test_shares_above_a_threshold() -> None:
    quantiles = Quantiles()
    quantiles.update(IDS, ACTS)
    sketch = quantiles.result()
    assert sketch.count == len(FLAT)
    np.testing.assert_array_equal(sketch.share_above(0.0)[[0, 1, 3]], (FLAT[:, [0, 1, 3]] > 0).mean(0))
    with pytest.raises(BadInput, match="give shares in"):
        sketch.quantile([1.5])


def test_firing_by_hand() -> None:
    firing = Firing(threshold=2.0)
    acts = torch.tensor([[[1.0, 0.0], [3.0, -1.0]], [[0.0, 0.0], [-2.0, 2.0]]])
    firing.update(["a", "b"], acts)
    rates = firing.result()
    assert (rates.positions, rates.stimuli, rates.threshold) == (4, 2, 2.0)
    assert rates.active.tolist() == [0.5, 0.25]
    assert rates.strong.tolist() == [0.25, 0.0]
    assert rates.stimulus.tolist() == [0.5, 0.5]


def test_top_by_hand() -> None:
    top = Top(k=2)
    top.update(["a", "b"], torch.tensor([[[1.0], [5.0], [4.0]], [[2.0], [2.0], [0.0]]]))
    top.update(["c"], torch.tensor([[[3.0], [0.0], [0.0]]]))
    assert top.result().examples(0) == [Example("a", 1, 5.0), Example("c", 0, 3.0)], "one of each stimulus"


def test_top_against_a_plain_sort() -> None:
    top = Top(k=5)
    for n in range(0, 20, 6):
        top.update(IDS[n : n + 6], ACTS[n : n + 6])
    for unit in range(ACTS.shape[2]):
        best = ACTS[:, :, unit].max(1)
        expected = sorted(zip(-best.values, IDS, best.indices))[:5]
        found = [(-e.value, e.stimulus, e.place) for e in top.result().examples(unit)]
        assert found == [(float(value), name, int(place)) for value, name, place in expected]


def test_fewer_stimuli_than_places_at_the_top() -> None:
    top = Top(k=3)
    top.update(["only"], torch.tensor([[[1.0]]]))
    assert top.result().examples(0) == [Example("only", 0, 1.0)]
    assert top.result().values[0].tolist() == [1.0, -math.inf, -math.inf]


def test_intervals_hold_what_they_say() -> None:
    intervals = Intervals(per_interval=3, octaves=4)
    intervals.update(IDS, ACTS)
    index = {name: n for n, name in enumerate(IDS)}
    for unit in range(ACTS.shape[2]):
        found = intervals.result().intervals(unit)
        assert all(a.low >= b.high for a, b in itertools.pairwise(found))
        top = ACTS[:, :, unit].abs().max()
        for interval in found:
            values = ACTS[:, :, unit]
            inside = (values >= interval.low) & (values < interval.high)
            if interval.low == -interval.high:
                assert interval.high <= max(float(top) / 8, 2.0**-118), "near zero begins below the fourth octave"
                inside = (values > interval.low) & (values < interval.high)
            elif interval.high <= 0:
                inside = (values > interval.low) & (values <= interval.high)
            kept = {(e.stimulus, e.place) for e in interval.examples}
            at_most = 6 if interval.low == -interval.high else 3  # near zero, both signs are sampled
            assert min(3, int(inside.sum())) <= len(kept) <= at_most
            for example in interval.examples:
                assert bool(inside[index[example.stimulus], example.place])
                assert float(values[index[example.stimulus], example.place]) == example.value
        assert found[0].high > float(ACTS[:, :, unit].max()), "nothing lies above the highest interval"


@pytest.mark.parametrize("candidates", [2.5, 0.2])
def test_intervals_against_a_plain_sort_of_keys(candidates: float, monkeypatch) -> None:
    """The fast selection finds exactly the positions with the smallest keys, even if its first guess is too low."""
    monkeypatch.setattr("cutaway.observe.reducers.intervals._CANDIDATES", candidates)
    intervals = Intervals(per_interval=2, octaves=3)
    intervals.update(IDS, ACTS)
    everything = Intervals(per_interval=10**6, octaves=3)
    everything.update(IDS, ACTS)
    for unit in range(ACTS.shape[2]):
        rows = everything.result().rows
        own = rows.take(rows.unit == unit)
        assert len(own.unit) == 1000
        top = max(int(np.frexp(np.abs(own.value).max())[1]), 3 - 126)
        octave = np.minimum(top - np.where(own.value == 0, -200, np.frexp(own.value)[1]), 3)
        cell = octave + 4 * (own.value < 0)
        expected = {key for c in np.unique(cell) for key in sorted(own.key[cell == c])[:2]}
        kept = intervals.result().rows
        assert set(kept.key[kept.unit == unit]) == expected


def test_samples_are_uniform_over_positions() -> None:
    """Where in the stream a kept position lies is uniform, in each of many units (Kolmogorov-Smirnov)."""
    positions, units = 400, 300
    intervals = Intervals(per_interval=4, octaves=1, seed=5)
    intervals.update(["a", "b"], torch.full((2, positions, units), 1.5))
    rows = intervals.result().rows
    assert len(rows.unit) == 4 * units
    places = (rows.stimulus * positions + rows.place + 0.5) / (2 * positions)
    assert kstest(places, "uniform").pvalue > 0.001
    assert len(set(zip(rows.stimulus, rows.place))) > 500, "units do not share their samples"


def test_another_seed_gives_another_sample() -> None:
    def sample(seed: int) -> set[tuple[str, int]]:
        intervals = Intervals(seed=seed)
        intervals.update(IDS, ACTS)
        return {(e.stimulus, e.place) for part in intervals.result().intervals(3) for e in part.examples}

    assert sample(0) == sample(0) != sample(1)


def test_coactivation_by_hand() -> None:
    together = CoActivations()
    together.update(["a"], torch.tensor([[[1.0, 2.0], [0.0, 2.0]]]))
    together.update(["b"], torch.tensor([[[3.0, 0.0], [0.0, -1.0]]]))
    result = together.result()
    assert result.positions == 4
    assert result.second_moment.tolist() == [[2.5, 0.5], [0.5, 2.25]]
    assert result.joint_firing.tolist() == [[0.5, 0.25], [0.25, 0.5]]
    assert float(result.cosine()[0, 1]) == pytest.approx(0.5 / math.sqrt(2.5 * 2.25))
    assert float(result.lift()[0, 1]) == pytest.approx(1.0)


def test_coactivation_with_a_silent_unit() -> None:
    together = CoActivations()
    together.update(["a"], torch.tensor([[[1.0, 0.0]]]))
    assert together.result().cosine().tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert together.result().lift().tolist() == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Top(k=0), "at least one"),
        (lambda: Quantiles(bins_per_octave=10), "choose 8, 16, 32, 64 or 128"),
        (lambda: Intervals(per_interval=0), "at least one example"),
        (lambda: Intervals(octaves=0), "1 to 64 octaves"),
    ],
)
def test_settings_that_make_no_sense(make, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        make()
