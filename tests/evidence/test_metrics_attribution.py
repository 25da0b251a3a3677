import numpy as np
import pytest

from cutaway.errors import BadInput
from cutaway.evidence.metrics import AtSite, node_attribution, position_mean


class TinyMlp:
    """A node between a linear read-in and a linear metric: out = relu(x W) V, m = out . r."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.w, self.v, self.r = rng.normal(size=(4, 6)), rng.normal(size=(6, 4)), rng.normal(size=4)

    def output(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x @ self.w, 0) @ self.v

    def gradient_at_input(self, x: np.ndarray) -> np.ndarray:
        return ((x @ self.w > 0) * (self.v @ self.r)) @ self.w.T


@pytest.fixture
def runs() -> tuple[TinyMlp, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return TinyMlp(), rng.normal(size=(5, 3, 4)), rng.normal(size=(5, 3, 4))


def test_node_attribution_by_hand() -> None:
    delta = AtSite("mlp.out", np.array([[[1.0, 2.0], [0.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]]]))
    gradient = AtSite("mlp.out", np.array([[[3.0, -1.0], [5.0, 2.0]], [[9.0, 9.0], [1.0, -4.0]]]))
    assert node_attribution(delta, gradient).tolist() == [3.0, -3.0]


def test_node_attribution_is_exact_where_the_metric_is_linear_in_the_output(
    runs: tuple[TinyMlp, np.ndarray, np.ndarray],
) -> None:
    mlp, clean, corrupt = runs
    delta = mlp.output(corrupt) - mlp.output(clean)
    at_output = np.broadcast_to(mlp.r, delta.shape)
    patched = (mlp.output(corrupt) @ mlp.r - mlp.output(clean) @ mlp.r).sum(axis=1)
    assert node_attribution(AtSite("mlp.out", delta), AtSite("mlp.out", at_output)) == pytest.approx(patched)


def test_the_gradient_at_the_input_is_refused_because_it_gives_other_numbers(
    runs: tuple[TinyMlp, np.ndarray, np.ndarray],
) -> None:
    """D2: output differences times input gradients, both of width d_model, so that shapes cannot tell."""
    mlp, clean, corrupt = runs
    delta, at_input = mlp.output(corrupt) - mlp.output(clean), mlp.gradient_at_input(clean)
    assert delta.shape == at_input.shape
    patched = (delta @ mlp.r).sum(axis=1)
    assert np.abs((delta * at_input).sum(axis=(1, 2)) - patched).min() > 0.1
    with pytest.raises(BadInput, match=r"'mlp\.out' was to meet a gradient at 'mlp\.in'"):
        node_attribution(AtSite("mlp.out", delta), AtSite("mlp.in", at_input))


def test_shapes_are_not_broadcast() -> None:
    with pytest.raises(BadInput, match="both need the shape of the site"):
        node_attribution(AtSite("a", np.ones((2, 3, 4))), AtSite("a", np.ones((2, 1, 4))))


def test_the_mean_is_over_examples_at_each_position() -> None:
    """D3: last-token activation over length, then averaged over nodes, knows no position."""
    activations = np.array([[[1.0], [10.0], [100.0]], [[3.0], [30.0], [999.0]]])
    mask = np.array([[True, True, True], [True, True, False]])
    assert position_mean(activations, mask)[:, 0].tolist() == [2.0, 20.0, 100.0]
    assert position_mean(activations)[:, 0].tolist() == [2.0, 20.0, 549.5]


def test_padding_on_the_left_and_positions_that_nothing_reaches() -> None:
    activations = np.array([[[np.nan], [7.0], [1.0]], [[np.nan], [np.inf], [3.0]]])
    mask = np.array([[False, True, True], [False, False, True]])
    found = position_mean(activations, mask)[:, 0]
    assert np.isnan(found[0])
    assert found[1:].tolist() == [7.0, 2.0], "what lies under padding does not matter"


def test_the_mean_does_not_mix_positions_or_units() -> None:
    rng = np.random.default_rng(0)
    activations = rng.normal(size=(6, 4, 5))
    order = rng.permutation(4)
    assert position_mean(activations[:, order]) == pytest.approx(position_mean(activations)[order])
    assert position_mean(np.repeat(activations, 2, axis=0)) == pytest.approx(position_mean(activations))


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(BadInput, match="one mark a token"):
        position_mean(np.ones((2, 3, 4)), np.ones((2, 2), dtype=bool))
