import math
import subprocess
import sys

import numpy as np
import pytest

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence.metrics import explained_variance, kl_divergence, kl_recovered, l0, loss_recovered

SQUARE = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])  # variances 1 and 4


def test_explained_variance_by_hand() -> None:
    off_by_one = SQUARE + np.array([1.0, 0.0])  # mean squared error 1 of variance 5
    assert explained_variance(SQUARE, off_by_one) == pytest.approx(0.8)
    assert explained_variance(SQUARE, SQUARE) == 1.0


@pytest.mark.parametrize("offset", [0.0, 5.0, 1e4])
def test_predicting_the_mean_explains_exactly_nothing(offset: float) -> None:
    """D1: squared before averaging, the mean predictor earns 0.935 at a mean of five deviations."""
    x = np.random.default_rng(0).normal(size=(200, 16)) + offset
    mean = x.mean(axis=0, keepdims=True)
    assert explained_variance(x, mean) == 0.0
    assert explained_variance(x, np.repeat(mean, 200, axis=0)) == 0.0
    assert explained_variance(x, np.zeros_like(mean)) <= 0.0


def squared_before_averaging(x: np.ndarray, guess: np.ndarray) -> float:
    """The faulty formula of D1, to show that the test above would see it."""
    return float(1 - ((x - guess) ** 2).sum(-1).mean() / ((x**2).sum(-1).mean() - (x.mean() ** 2)))


def test_the_faulty_formula_would_be_seen() -> None:
    x = np.random.default_rng(0).normal(size=(200, 16)) + 5.0
    assert abs(squared_before_averaging(x, x.mean(axis=0))) > 0.5


def test_explained_variance_does_not_change_with_scale_or_rotation() -> None:
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(50, 8)), rng.normal(size=(50, 8))
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    expected = explained_variance(x, x + 0.3 * noise)
    assert explained_variance(7 * x @ rotation + 3, 7 * (x + 0.3 * noise) @ rotation + 3) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_rows_that_do_not_differ_have_no_variance_to_explain(value: float) -> None:
    x = np.full((7, 3), value)
    with pytest.raises(NotTestable, match="all 7 rows are equal"):
        explained_variance(x, x)


def test_reconstruction_metrics_refuse_what_is_not_finite() -> None:
    with pytest.raises(BadInput, match="finite"):
        explained_variance(SQUARE, np.full((4, 2), np.nan))
    with pytest.raises(BadInput, match="at least one row"):
        l0(np.zeros((0, 4)))
    with pytest.raises(BadInput, match="cannot stand for"):
        explained_variance(SQUARE, SQUARE[:, :1])
    with pytest.raises(BadInput, match="cannot stand for"):
        explained_variance(SQUARE, SQUARE[:2])
    with pytest.raises(BadInput, match="same rows"):
        kl_divergence(SQUARE, SQUARE[:1])
    with pytest.raises(BadInput, match="finite"):
        loss_recovered(clean=1.0, reconstructed=math.nan, ablated=2.0)


def test_l0_by_hand() -> None:
    codes = np.array([[0.0, 1.0, -2.0], [0.0, 0.0, 0.05]])
    assert l0(codes) == 1.5
    assert l0(codes, threshold=0.1) == 1.0


def test_loss_recovered_by_hand() -> None:
    assert loss_recovered(clean=3.0, reconstructed=3.5, ablated=7.0) == pytest.approx(0.875)
    assert loss_recovered(clean=3.0, reconstructed=3.0, ablated=7.0) == 1.0
    assert loss_recovered(clean=3.0, reconstructed=7.0, ablated=7.0) == 0.0


def test_loss_recovered_needs_an_ablation_that_costs_something() -> None:
    with pytest.raises(NotTestable, match="costs nothing"):
        loss_recovered(clean=3.0, reconstructed=3.0, ablated=3.0)
    with pytest.raises(NotTestable, match="nothing to recover"):
        loss_recovered(clean=3.0, reconstructed=2.5, ablated=2.0)


def test_kl_by_hand() -> None:
    half, quarter = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert kl_divergence(half, quarter) == pytest.approx(expected)
    assert kl_divergence(half + 9.0, half) == pytest.approx(0.0, abs=1e-12), "a constant on all logits is nothing"
    assert kl_divergence(quarter, half) != pytest.approx(expected), "the order matters"


def test_kl_of_words_that_cannot_occur() -> None:
    certain, half = np.array([[0.0, -np.inf]]), np.zeros((1, 2))
    assert kl_divergence(certain, half) == pytest.approx(math.log(2))
    assert kl_divergence(half, certain) == math.inf


def test_kl_recovered_by_hand() -> None:
    assert kl_recovered(reconstructed=0.5, ablated=2.0) == pytest.approx(0.75)
    with pytest.raises(NotTestable, match="changes nothing"):
        kl_recovered(reconstructed=0.0, ablated=0.0)
    with pytest.raises(BadInput, match="at least 0"):
        kl_recovered(reconstructed=-0.1, ablated=1.0)


def test_the_metrics_library_loads_no_torch() -> None:
    code = "import cutaway.evidence.metrics, sys; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
