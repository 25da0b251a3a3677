"""One-sided factorization: planted factors come back, and shuffled weights have none."""

import numpy as np
import pytest
import torch

from cutaway.circuits import factorize
from cutaway.circuits.factors import SPARSITY, semi_nmf
from cutaway.errors import BadInput


def _planted(noise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    channels = torch.zeros(24, 2)
    channels[:9, 0] = torch.rand(9, generator=generator) + 0.5
    channels[9:16, 1] = torch.rand(7, generator=generator) + 0.5
    space = torch.randn(2, 5, 5, generator=generator)
    weights = torch.einsum("cf,fyx->cyx", channels, space)[None]
    return weights + noise * torch.randn(weights.shape, generator=generator), channels, space


def test_planted_factors_are_recovered():
    weights, channels, space = _planted(noise=0.05)
    found = factorize(weights, 2, shuffles=19)
    assert found.explained.value > 0.97 and found.explained.p <= 0.05
    assert bool((found.channels >= 0).all())
    assert torch.allclose(found.channels.norm(dim=0), torch.ones(2), atol=1e-5)
    cosines = functional_cosine(found.channels, channels)
    assert cosines.max(1).values.min() > 0.99
    patterns = functional_cosine(found.space[0].flatten(1).T, space.flatten(1).T)
    assert patterns.max(1).values.min() > 0.99
    assert found.explained.value == pytest.approx(sum(found.shares), abs=1e-4)
    assert found.shares[0] >= found.shares[1]
    explained = 1 - (found.approximation() - weights).square().sum() / weights.square().sum()
    assert float(explained) == pytest.approx(found.explained.value, abs=1e-4)


def functional_cosine(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Cosines of columns, signed: a factor with its sign turned is not the planted one."""
    return (first / first.norm(dim=0)).T @ (second / second.norm(dim=0))


def test_a_negative_group_shows_in_space_and_not_in_the_channels():
    # One channel of each sign, the same pattern: a nonnegative channel factor cannot hold both.
    pattern = torch.tensor([[1.0, -2.0, 3.0]])
    weights = torch.stack([pattern, -pattern])[None]
    one = factorize(weights, 1, shuffles=0)
    assert one.explained.value == pytest.approx(0.5)
    two = factorize(weights, 2, shuffles=0)
    assert two.explained.value == pytest.approx(1.0)
    assert two.directions.shape == (2, 2)


def test_shuffled_weights_have_no_factors():
    weights, _, _ = _planted()
    order = torch.stack([torch.randperm(24, generator=torch.Generator().manual_seed(i)) for i in range(25)])
    shuffled = weights.flatten(2)[0].T.gather(1, order).T.reshape(1, 24, 5, 5)
    found = factorize(shuffled, 2, shuffles=19)
    assert found.explained.p > 0.05
    assert abs(found.explained.z) < 3
    assert factorize(weights, 2, shuffles=19).explained.p == pytest.approx(1 / 20)


def test_several_targets_share_their_channels():
    weights, channels, _ = _planted()
    both = torch.cat([weights, 2 * weights])
    found = factorize(both, 2, shuffles=0)
    assert found.space.shape == (2, 2, 5, 5)
    assert torch.allclose(found.space[1], 2 * found.space[0], atol=1e-4)
    assert functional_cosine(found.channels, channels).max(1).values.min() > 0.99


def test_the_same_seed_gives_the_same_factors():
    weights, _, _ = _planted(noise=0.3)
    first, again = factorize(weights, 3, seed=4, shuffles=5), factorize(weights, 3, seed=4, shuffles=5)
    assert torch.equal(first.channels, again.channels) and first.explained == again.explained


def test_the_unconstrained_optimum_is_an_upper_bound():
    matrix = np.random.default_rng(0).standard_normal((10, 6))
    _, _, explained = semi_nmf(matrix, 2, rng=np.random.default_rng(0))
    singular = np.linalg.svd(matrix, compute_uv=False) ** 2
    assert 0 < explained <= singular[:2].sum() / singular.sum() + 1e-9


def test_bad_counts_are_refused():
    with pytest.raises(
        BadInput, match="9 factors were asked for of weights from 3 channels over 4 positions; ask for 1 to 3"
    ):
        factorize(torch.randn(1, 3, 2, 2), 9)
    with pytest.raises(BadInput, match="all zero"):
        factorize(torch.zeros(1, 3, 2, 2), 1)


def test_the_price_picks_the_tightest_of_equivalent_factors():
    # Channels in a cone between two patterns: any wider cone fits as well.
    rng = np.random.default_rng(0)
    matrix = rng.random((40, 2)) @ rng.standard_normal((2, 12)) + 0.05 * rng.standard_normal((40, 12))
    found = [
        semi_nmf(matrix, 2, rng=np.random.default_rng(seed), sparsity=sparsity)[0]
        for sparsity, seed in ((0.0, 0), (SPARSITY, 0), (SPARSITY, 1))
    ]
    free, priced, again = (float(channels[:, 0] @ channels[:, 1]) for channels in found)
    assert priced < 0.6 * free
    assert priced == pytest.approx(again, abs=0.01)
