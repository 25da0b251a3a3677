"""Two networks whose features are known: the issue's bars, over five seeds, judged on rows that nobody trained on."""

from functools import cache

import pytest
import torch

from cutaway.bases import TensorSource
from cutaway.bases.crosscoders import (
    CoderRecipe,
    Crosscoder,
    CrossLayerTranscoder,
    Plan,
    Specificity,
    latent_scaling,
    own_directions,
    self_diff,
    train_coder,
)
from tests.bases.crosscoders.planted import Found, Planted, found, matched, planted, stack

SEEDS = range(5)
D, ROWS, HELD_OUT = 32, 100_000, 40_000
EASY = CoderRecipe(steps=500, batch=256, lr=1e-2, dead_after=5000)
RARE = CoderRecipe(steps=700, batch=256, lr=2e-2, dead_after=5000)


def diffed(
    truth: Planted, seed: int, recipe: CoderRecipe, *, k: float = 2, own: bool = False
) -> tuple[Crosscoder, Specificity]:
    coder = Crosscoder(Plan("crosscoder", ("a", "b"), (2 * D,), (D, D), 32, k=k), seed=seed)
    train_coder(coder, TensorSource(truth.rows(ROWS, seed)), recipe)
    along = own_directions(coder, truth.rows(HELD_OUT, 10**8 + 500 + seed).split(5000)) if own else None
    return coder, latent_scaling(coder, truth.rows(HELD_OUT, 10**8 + seed).split(625), directions=along)


@cache
def everyday() -> list[Found]:
    """16 shared features and 4 + 4 exclusive ones, each in 8 % of rows."""
    return [found(planted(seed), *diffed(planted(seed), seed, EASY)) for seed in SEEDS]


@pytest.mark.slow
@pytest.mark.xfail(
    reason="the bar is 24 of 24 in every seed; one seed of five ends at 21 to 23 (issue 5 is open)", strict=False
)
def test_the_planted_features_are_recovered_with_the_right_class() -> None:
    """24 of 24 in every seed, and none of them misjudged."""
    recovered = [sum(each.recovered) for each in everyday()]
    assert recovered == [24] * 5
    assert [sum(each.by_scaling) for each in everyday()] == recovered
    assert sum(sum(each.certain[16:]) for each in everyday()) >= 39, "intervals bear the exclusive ones out"
    assert not any(any(each.certain[:16]) for each in everyday())


@cache
def rare() -> list[tuple[Found, Specificity]]:
    """The second network's own features fire in 0.5 % of rows; a budget of 1.7 for 1.62 that are active."""
    results = []
    for seed in SEEDS:
        truth = planted(seed, rare=0.005)
        coder, said = diffed(truth, seed, RARE, k=1.7)
        results.append((found(truth, coder, said), said))
    return results


@pytest.mark.slow
@pytest.mark.xfail(
    reason="the bar is 4 of 4 in every seed; it depends on the seed and on rounding (issue 5 is open)", strict=False
)
def test_rare_exclusive_features_are_found_by_latent_scaling() -> None:
    """4 of 4 of each seed are called the second network's own; their directions are right for 19 of 20."""
    for each, said in rare():
        assert each.classed[20:] == (True,) * 4
        assert int(said.specific.sum()) <= 9
    assert sum(sum(each.recovered[20:]) for each, _ in rare()) >= 19


@pytest.mark.parametrize("own", [False, True], ids=["same coordinates", "other coordinates"])
def test_two_networks_with_the_same_features_have_no_exclusive_ones(own: bool) -> None:
    truth = planted(0, shared=24, alone=0, common_space=not own)
    _, said = diffed(truth, 0, EASY, own=own)
    assert int(said.judged.sum()) >= 23
    assert (int(said.specific.sum()), said.norm_owners().count(None)) == (0, 32)
    assert float(said.nu[:, said.judged].min()) > 0.9


def test_a_network_against_itself_has_no_exclusive_features_either() -> None:
    own = planted(0, shared=24, alone=0).rows(80_000, 0)[:, :D]
    null = self_diff(
        TensorSource(own[:60_000]), TensorSource(own[60_000:]), latents=32, k=2, recipe=EASY, noise=0.1, rotate=True
    )
    assert (null.by_scaling, null.by_norms) == (0, 0)
    assert int(null.said.judged.sum()) >= 23


@pytest.mark.slow
def test_a_cross_layer_transcoder_finds_features_that_span_layers() -> None:
    """12 features, each with its layer and all that it writes from there on: one latent each, read where it is born."""
    truth = stack(0)
    plan = Plan("cross-layer-transcoder", ("0", "1", "2"), (D,) * 3, (D,) * 3, 8, "topk", 2)
    coder = CrossLayerTranscoder(plan)
    train_coder(coder, TensorSource(*truth.rows(60_000, 0)), EASY)
    latents, recovered = matched(truth.decoders, coder.directions())
    assert recovered == [True] * 12
    assert [coder.layer_of()[latent] for latent in latents] == truth.born.tolist()
    x, y = truth.rows(4000, 1)
    left = (y - coder.reconstruct(x)).square().sum() / (y - y.mean(0)).square().sum()
    assert float(left) < 0.1


def test_a_cross_layer_transcoder_writes_forward_only() -> None:
    plan = Plan("cross-layer-transcoder", ("0", "1", "2"), (2, 2, 2), (3, 3, 3), 4, "topk", 2)
    coder = CrossLayerTranscoder(plan)
    x = torch.zeros(1, 6)
    x[:, 4:] = 1.0  # the last layer alone is shown something
    moved = coder.reconstruct(x) - coder.decode(torch.zeros(1, 12))
    assert moved[:, :6].abs().max() == 0
    assert moved[:, 6:].abs().max() > 0
    assert [bool(coder.block_directions(layer)[8:].any()) for layer in range(3)] == [False, False, True]
    hand = coder.encode(x) @ coder.directions()
    assert torch.allclose(hand, moved, atol=1e-6)
