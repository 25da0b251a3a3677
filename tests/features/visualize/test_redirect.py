"""Redirected gradients: outputs stay, dead items wake, and nothing is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cutaway.features.visualize import redirected
from tests.networks.tiny import convnet, hook_count

VALUES = [[-2.0, -1.0], [3.0, -1.0]]


def gradient(part: nn.Module, values: list[list[float]], wish: list[float], *, redirect: bool = True) -> list:
    """The gradient at the input where the loss pulls the outputs by ``wish``."""
    given = torch.tensor(values, requires_grad=True)
    module = nn.Sequential(nn.Identity(), part)
    shown = given * 1  # an in-place rectifier may not overwrite a leaf
    if redirect:
        with redirected(module):
            out = module(shown)
    else:
        out = module(shown)
    (found,) = torch.autograd.grad((out * torch.tensor(wish)).sum(), given)
    return found.tolist()


@pytest.mark.parametrize("inplace", [False, True])
def test_a_silent_item_gets_the_gradient_that_opens_it(inplace: bool) -> None:
    # The loss wants more of unit 0 (negative gradient) and less of unit 1: only the first opens a rectifier.
    assert gradient(nn.ReLU(inplace), VALUES, [-1.0, 1.0]) == [[-1.0, 0.0], [-1.0, 0.0]]
    # Without redirection item 0 gets nothing.
    assert gradient(nn.ReLU(inplace), VALUES, [-1.0, 1.0], redirect=False) == [[0.0, 0.0], [-1.0, 0.0]]


def test_an_item_with_any_gradient_keeps_it() -> None:
    # Item 1 is open in unit 0, so its shut unit 1 gets nothing although the loss wants it.
    assert gradient(nn.ReLU(), VALUES, [-1.0, -1.0]) == [[-1.0, -1.0], [-1.0, 0.0]]


def test_relu6_is_opened_from_both_sides() -> None:
    values = [[-1.0, 7.0], [8.0, 9.0], [3.0, 7.0]]
    assert gradient(nn.ReLU6(), values, [-1.0, 1.0]) == [[-1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]
    assert gradient(nn.ReLU6(), values, [-1.0, 1.0], redirect=False) == [[0.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]


@pytest.mark.parametrize("inplace", [False, True])
def test_outputs_are_the_same_to_the_last_bit(inplace: bool) -> None:
    module = convnet(inplace)
    pixels = torch.randn(2, 3, 8, 8)
    plain = module(pixels)
    with redirected(module):
        assert torch.equal(module(pixels), plain)
    six = nn.ReLU6(inplace)
    with redirected(six):
        assert torch.equal(six(100 * pixels.clone()), (100 * pixels).clamp(0, 6))


def leftovers(module: nn.Module) -> tuple[int, list[set[str]]]:
    return hook_count(module), [set(vars(part)) for part in module.modules()]


@pytest.mark.parametrize("inplace", [False, True])
def test_nothing_is_left_behind(inplace: bool) -> None:
    module = convnet(inplace)
    before = leftovers(module)
    with redirected(module):
        assert leftovers(module)[0] > before[0], "or the next lines would show nothing"
        module(torch.randn(1, 3, 8, 8))
    assert leftovers(module) == before
    with pytest.raises(RuntimeError, match="expected input"), redirected(module):
        module(torch.randn(1, 5, 8, 8))
    assert leftovers(module) == before


def test_a_dead_start_is_left() -> None:
    class Shut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(x - 1)

    module, value = Shut(), torch.zeros(1, 1, requires_grad=True)
    for _ in range(8):
        with redirected(module):
            (gradient,) = torch.autograd.grad(-module(value).sum(), value)
        with torch.no_grad():
            value -= 0.3 * gradient
    assert module(value).item() > 0
