"""Latent Scaling: every number by hand, sums that add up in any order, intervals that cover."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cutaway.bases.crosscoders import (
    Crosscoder,
    common_directions,
    judge,
    latent_scaling,
    own_directions,
    ratio_interval,
    scaling_sums,
)
from cutaway.bases.crosscoders.scaling import betas
from cutaway.errors import BadInput
from tests.bases.crosscoders.handmade import by_hand


def one_latent() -> tuple[Crosscoder, Tensor]:
    """f is the second network's first unit; it writes (0, 0) to the first and (2, 0) to the second."""
    rows = torch.tensor([[1.0, 5.0, 2.0, 0.0], [3.0, 5.0, -1.0, 1.0], [0.0, 1.0, 1.0, 0.0]])
    return by_hand([[0.0, 0, 2, 0]], (2, 2), encoder=[[0.0, 0, 1, 0]]), rows


def test_beta_by_hand() -> None:
    """f = (2, 0, 1), |f|^2 = 5, d = (2, 0), |d|^2 = 4.

    Error of the first: its rows; Y'f = (2, 11), beta = 4 / 20. Of the second, the latent put back: its rows again;
    Y'f = (5, 0), beta = 10 / 20. Reconstructions: 0, and f d with Y'f = (10, 0), beta = 20 / 20.
    """
    coder, rows = one_latent()
    along = common_directions(coder)
    sums = scaling_sums(coder, [rows], along)
    assert betas(sums, along)[:, :, 0].tolist() == [[0.2, 0.5], [0.0, 1.0]]
    said = judge(coder, sums, along)
    assert said.nu[:, 0].tolist() == [0.4, 0.0]
    assert said.firings.tolist() == [2]
    assert said.owners() == (None,), "two firings are no evidence"


def test_beta_does_not_depend_on_how_far_the_other_decoder_has_shrunk() -> None:
    coder, rows = one_latent()
    before = latent_scaling(coder, [rows])
    coder.W_dec[0][0, 0] = 1.5
    after = latent_scaling(coder, [rows])
    assert after.nu[0].tolist() == before.nu[0].tolist()
    assert after.nu[1].tolist() == [0.75], "the reconstruction does hold it now"


def test_centred_moments_by_hand() -> None:
    """Three rows as above: cov(f, y) sums to 2 - 3 (4 / 3) = -2 in the first network, var(f) to 5 - 3 = 2."""
    coder, rows = one_latent()
    along = common_directions(coder)
    centred = type(along)(along.error, along.reconstruction, centred=True)
    amounts = betas(scaling_sums(coder, [rows], centred), centred)
    assert amounts[0, 0, 0].item() == pytest.approx((2 - 3 * 4 / 3) * 2 / (4 * 2))
    assert amounts[1, 1, 0].item() == pytest.approx(1)


def alike(repeats: int = 10) -> Tensor:
    """Both networks hold the same: their first units are 1 and 2 in turn."""
    return torch.tensor([[1.0, 0, 1, 0], [2.0, 0, 2, 0]]).repeat(repeats, 1)


def test_complete_shrinkage_and_decoupling_are_told_apart() -> None:
    """The first latent writes to the second network alone, though both hold it.

    Alone: the first's error holds all of it (nu_error 1). Beside a latent that writes it to the first: the error holds
    nothing, its reconstruction everything (nu_reconstruction 1). Norms call both exclusive, and neither is.
    """
    shrunk = latent_scaling(by_hand([[0.0, 0, 1, 0]], (2, 2)), [alike()])
    assert shrunk.nu[:, 0].tolist() == [1, 0]
    assert (shrunk.shrunk.tolist(), shrunk.decoupled.tolist(), shrunk.owners()) == ([True], [False], (None,))
    apart = latent_scaling(by_hand([[0.0, 0, 1, 0], [1.0, 0, 0, 0]], (2, 2)), [alike()])
    assert apart.nu.tolist() == [[0, 0], [1, 1]]
    assert (apart.shrunk.tolist(), apart.decoupled.tolist()) == ([False, False], [True, True])
    assert apart.norm_owners() == ("b", "a")
    assert apart.owners() == (None, None)


def test_what_one_network_lacks_is_the_others_and_three_networks_are_compared() -> None:
    rows = alike(20) * torch.tensor([0.0, 0, 1, 0])
    assert latent_scaling(by_hand([[0.0, 0, 1, 0]], (2, 2)), [rows]).owners() == ("b",)
    three = torch.cat([rows, alike(20)[:, :2]], 1)  # the third network holds it too
    said = latent_scaling(by_hand([[0.0, 0, 1, 0, 0, 0]], (2, 2, 2)), [three])
    assert said.nu[:, 0].tolist() == [1, 0]
    assert said.owners() == (None,)


def test_sums_merge_in_any_order_and_coarser_blocks_lose_nothing() -> None:
    rng = torch.Generator().manual_seed(0)
    coder, rows = by_hand(torch.randn(3, 4, generator=rng).tolist(), (2, 2)), torch.randn(90, 4, generator=rng)
    along = common_directions(coder)
    parts = [scaling_sums(coder, [part], along) for part in rows.split(10)]
    whole = betas(scaling_sums(coder, [rows], along), along)
    forward = parts[0]
    for part in parts[1:]:
        forward = forward.merge(part)
    backward = parts[-1]
    for part in parts[-2::-1]:
        backward = backward.merge(part)
    assert torch.allclose(betas(forward, along), whole, atol=1e-12)
    assert torch.allclose(betas(backward, along), whole, atol=1e-12)
    coarse = forward.coarser(4)
    assert coarse.rows.tolist() == [30, 20, 20, 20]
    assert torch.allclose(betas(coarse, along), whole, atol=1e-12)
    assert len(scaling_sums(coder, rows.split(1), along, blocks=8).rows) <= 8


def test_the_interval_of_a_ratio_by_hand_covers_the_ratio_and_not_too_widely() -> None:
    """Equal ratios in every block have an interval of no width; drawn ones cover 95 % within 200 draws' error."""
    ones = np.arange(1.0, 11)[:, None]
    low, high = ratio_interval(0.3 * ones, ones)
    assert (low[0], high[0]) == (pytest.approx(0.3), pytest.approx(0.3))
    rng = np.random.default_rng(0)
    below = rng.gamma(2.0, size=(24, 400))
    above = 0.3 * below + rng.normal(size=(24, 400)) * np.sqrt(below) * 0.3
    low, high = ratio_interval(above, below, resamples=400)
    assert 0.92 <= ((low <= 0.3) & (high >= 0.3)).mean() <= 0.99
    few_low, _ = ratio_interval(above[:7], below[:7])
    assert np.isnan(few_low).all(), "seven blocks bound nothing"


def test_an_interval_ends_what_points_alone_would_claim() -> None:
    """nu is below the criterion in the mean of 12 blocks, whose spread reaches far above it."""
    rows = alike(120)
    noisy = (torch.arange(240) // 20 % 6 == 0).float() * 0.9  # two blocks of twelve hold it in the first network
    rows[:, 0] *= noisy
    said = latent_scaling(by_hand([[0.0, 0, 1, 0]], (2, 2)), rows.split(20))
    assert said.specific.tolist() == [True]
    assert said.high[0, 0] > 0.2
    assert said.certain.tolist() == [False]
    clean = latent_scaling(by_hand([[0.0, 0, 1, 0]], (2, 2)), (alike(120) * torch.tensor([0.0, 0, 1, 0])).split(20))
    assert clean.certain.tolist() == [True]


def test_own_directions_find_a_turned_copy_and_no_copy_in_noise() -> None:
    """The first network holds the latent along (0, 1), the second along (1, 0): the published directions miss it."""
    rng = torch.Generator().manual_seed(0)
    drive = torch.rand(4000, 1, generator=rng) * (torch.rand(4000, 1, generator=rng) < 0.3)
    zero = torch.zeros_like(drive)
    noise = 0.05 * torch.randn(4000, 4, generator=rng)
    coder = by_hand([[0.0, 0, 1, 0]], (2, 2))
    turned = torch.cat([zero, drive, drive, zero], 1) + noise
    assert abs(float(latent_scaling(coder, turned.split(100)).nu[0])) < 0.1
    said = latent_scaling(coder, turned[2000:].split(100), directions=own_directions(coder, [turned[:2000]]))
    assert float(said.nu[0]) == pytest.approx(1, abs=0.1)
    absent = torch.cat([zero, zero, drive, zero], 1) + noise
    said = latent_scaling(coder, absent[2000:].split(100), directions=own_directions(coder, [absent[:2000]]))
    assert said.owners() == ("b",)


def test_what_cannot_be_measured_is_said() -> None:
    coder, rows = one_latent()
    with pytest.raises(BadInput, match="No rows"):
        latent_scaling(coder, [])
    with pytest.raises(BadInput, match="NaN"):
        latent_scaling(coder, [rows * torch.nan])
    with pytest.raises(BadInput, match="share no coordinates"):
        latent_scaling(by_hand([[1.0, 0, 0]], (2, 1)), [rows[:, :3]])
    with pytest.raises(BadInput, match="2 \\+ 2"):
        latent_scaling(coder, [rows[:, :3]])
    silent = latent_scaling(coder, [-rows.abs()] * 9)
    assert (silent.judged.tolist(), silent.owners()) == ([False], (None,))
