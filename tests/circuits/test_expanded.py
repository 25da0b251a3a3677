"""Expanded weights against arithmetic by hand, brute force over gates, and gradients taken one at a time."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from cutaway.circuits import VERSIONS, expanded_weights, kernel, weight_bounds
from cutaway.errors import BadInput, NotTestable, UnknownName
from cutaway.networks.network import fingerprint_of
from tests.circuits.tiny import Arithmetic, Inverted, jacobian, seeded, wrapped
from tests.networks.tiny import hook_count


def _chain(*parts: nn.Module) -> nn.Sequential:
    return seeded(nn.Sequential(nn.Conv2d(2, 2, 1), *parts)).eval()  # type: ignore[return-value]


def _set(conv: nn.Conv2d, values: list) -> None:
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(values, dtype=torch.float32).reshape(conv.weight.shape))


@pytest.mark.parametrize("version", VERSIONS)
def test_two_linear_convolutions_give_their_convolution_product_in_every_version(version):
    module = _chain(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 3, padding=1))
    stimuli = torch.randn(2, 2, 64, 64)
    found = expanded_weights(wrapped(module), "0", "2", version=version, stimuli=stimuli)
    assert found.shape == (4, 2, 5, 5)
    # The product by hand: out[t, c, i + j] = sum over m of W2[t, m, i] W1[m, c, j].
    first, second = module[1].weight.detach(), module[2].weight.detach()
    by_hand = torch.zeros(4, 2, 5, 5)
    for i, j in itertools.product(range(3), repeat=2):
        by_hand[:, :, i : i + 3, j : j + 3] += torch.einsum("tm,mcyx->tcyx", second[:, :, i, j], first)
    # best splits weights by sign, which one path through both cannot tell from gates; two linear layers have none.
    if version != "best":
        assert torch.allclose(found, by_hand, atol=1e-4)
    else:
        low, high = weight_bounds(wrapped(module), "0", "2")
        assert torch.allclose(high, by_hand, atol=1e-4) and torch.allclose(low, by_hand, atol=1e-4)


def test_a_pool_in_between_is_averaged():
    # One row: weights (1, 2) before a pool of two, weights (3, 5) after it.
    module = _chain(nn.Conv2d(2, 1, (1, 2), bias=False), nn.MaxPool2d((1, 2)), nn.Conv2d(1, 1, (1, 2), bias=False))
    _set(module[1], [1, 2, 0, 0])
    _set(module[3], [3, 5])
    found = expanded_weights(wrapped(module), "0", "3:0", version="average")
    # Halves of 3, 3, 5, 5 after the pool, spread by (1, 2): .5 * (3, 9, 11, 15, 10).
    assert found.shape == (1, 2, 1, 5)
    assert found[0, 0, 0].tolist() == [1.5, 4.5, 5.5, 7.5, 5.0]
    assert found[0, 1].abs().max() == 0


def test_the_best_case_lets_the_pool_choose_its_position():
    module = _chain(nn.MaxPool2d((1, 2)), nn.Conv2d(2, 1, (1, 2), bias=False))
    _set(module[2], [3, -5, 0, 0])
    net = wrapped(module)
    low, high = weight_bounds(net, "0", "2:0")
    assert high[0, 0, 0].tolist() == [3, 3, 0, 0] and low[0, 0, 0].tolist() == [0, 0, -5, -5]
    assert torch.equal(expanded_weights(net, "0", "2:0", version="best"), high)
    assert expanded_weights(net, "0", "2:0", version="average")[0, 0, 0].tolist() == [1.5, 1.5, -2.5, -2.5]


def test_the_best_case_is_attained_by_some_gates_of_one_hidden_layer():
    module = _chain(nn.Conv2d(2, 4, (1, 2)), nn.ReLU(), nn.Conv2d(4, 1, 1))
    low, high = weight_bounds(wrapped(module), "0", "3:0")
    first, second = module[1].weight.detach(), module[3].weight.detach()[0, :, 0, 0]
    tried = torch.stack([
        torch.einsum("m,mcyx->cyx", second * torch.tensor(gates), first)
        for gates in itertools.product((0.0, 1.0), repeat=4)
    ])  # fmt: skip
    assert torch.allclose(high[0], tried.amax(0), atol=1e-6)
    assert torch.allclose(low[0], tried.amin(0), atol=1e-6)


def test_opposite_polarities_cancel_in_the_average_and_not_in_the_best_case():
    module = _chain(nn.Conv2d(2, 2, (1, 2), bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))
    _set(module[1], [1, -1, 0, 0, -1, 1, 0, 0])
    _set(module[3], [1, 1])
    net = wrapped(module)
    rest = {version: expanded_weights(net, "0", "3:0", version=version) for version in ("average", "best")}
    assert rest["average"].shape == (1, 2, 1, 2) and rest["average"].abs().sum() == 0
    assert rest["best"][0, 0, 0].tolist() == [1, 1]


def test_bounds_contain_every_gradient():
    module = _chain(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(),
        nn.Conv2d(4, 3, 1),
    )  # fmt: skip
    net = wrapped(module)
    low, high = weight_bounds(net, "0", "7")
    assert bool((low <= high).all())
    size = 24
    for seed in range(5):
        x = 3 * torch.randn(1, 2, size, size, generator=torch.Generator().manual_seed(seed))
        x.requires_grad_()
        out = module[1:](x)[0, :, 4, 4]
        grads = torch.stack([torch.autograd.grad(each, x, retain_graph=True)[0][0] for each in out])
        top = 4 * 2 - 1
        seen = grads[:, :, top : top + high.shape[2], top : top + high.shape[3]]
        assert float(grads.abs().sum()) == pytest.approx(float(seen.abs().sum()))
        assert bool((seen <= high + 1e-4).all()) and bool((seen >= low - 1e-4).all())
        assert float(seen.abs().max()) > 0


def test_average_weights_equal_the_jacobian_of_the_network_without_nonlinearities():
    parts = [
        nn.Conv2d(2, 4, 3, padding=1),
        nn.MaxPool2d(3, 2, padding=1),
        nn.Conv2d(4, 3, 3, padding=1),
        nn.Conv2d(3, 5, 1),
    ]
    module = _chain(parts[0], nn.ReLU(), parts[1], parts[2], nn.LeakyReLU(), parts[3], nn.ReLU())
    linear = nn.Sequential(parts[0], nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), parts[2], parts[3])
    found = expanded_weights(wrapped(module), "0", "7")
    whole = jacobian(linear, 2, 32, (7, 7))
    rows = whole.abs().amax((0, 1)).amax(1).nonzero().flatten()
    window = whole[..., rows[0] : rows[-1] + 1, rows[0] : rows[-1] + 1]
    assert torch.allclose(found, window, atol=1e-4)


def test_smoothed_weights_are_the_mean_gradient_at_the_strongest_position():
    module = _chain(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    x = torch.randn(3, 2, 96, 96)
    found = expanded_weights(wrapped(module), "0", ["3:2", "3:0"], version="smoothed", stimuli=x)
    total = torch.zeros(2, 2, 5, 5)
    for row, unit in enumerate((2, 0)):
        for picture in x:
            source = module[0](picture[None]).detach().requires_grad_()
            out = module[1:](source)[0, unit]
            # Places that can stand in the middle of a crop of 32 pixels (row 15) inside the picture.
            inner = out[15 : 96 - 16, 15 : 96 - 16]
            y, left = divmod(int(inner.argmax()), inner.shape[1])
            y, left = y + 15, left + 15
            (gradient,) = torch.autograd.grad(out[y, left], source)
            total[row] += gradient[0, :, y - 2 : y + 3, left - 2 : left + 3]
    assert torch.allclose(found, total / 3, atol=1e-4)


def test_the_max_pool_gradient_is_smoothed_by_the_formula():
    module = _chain(nn.MaxPool2d(2), nn.Conv2d(2, 1, 1, bias=False))
    _set(module[2], [1, 0])
    x = torch.rand(1, 2, 64, 64) + 0.1
    found = expanded_weights(wrapped(module), "0", "2:0", version="smoothed", stimuli=x)[0, 0]
    source = module[0](x).detach()
    pooled = functional.max_pool2d(source, 2)[0, 0]
    inner = pooled[7:24, 7:24]
    y, left = divmod(int(inner.argmax()), inner.shape[1])
    window = source[0, 0, 2 * (y + 7) : 2 * (y + 7) + 2, 2 * (left + 7) : 2 * (left + 7) + 2]
    # d/dx of sum(x^2) / sum|x| = 2 x / sum|x| - sign(x) sum(x^2) / sum|x|^2.
    size = window.abs().sum()
    by_hand = 2 * window / size - window.sign() * window.square().sum() / size**2
    assert torch.allclose(found, by_hand, atol=1e-4)


def test_residual_blocks_and_all_units_at_once():
    module = nn.Sequential(nn.Conv2d(2, 3, 1), Inverted(3, 6), Inverted(3, 6), nn.Identity())
    net = wrapped(seeded(module))
    together = expanded_weights(net, "0", "3")
    assert together.shape == (3, 3, 5, 5)
    assert torch.allclose(together[1:2], expanded_weights(net, "0", "3:1"), atol=1e-5)
    assert torch.allclose(together, kernel(net, "0", "3", paths="all").values, atol=1e-3)


def test_the_module_is_left_untouched():
    module = _chain(
        nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)
    )
    net = wrapped(module)
    before = net.fingerprint
    x = torch.randn(1, 2, 32, 32)
    answer = module(x)
    for version in VERSIONS:
        expanded_weights(net, "0", "5:1", version=version, stimuli=torch.randn(2, 2, 64, 64))
    assert hook_count(module) == 0
    assert fingerprint_of(module) == before
    assert torch.equal(module(x), answer)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def test_bad_input_is_one_sentence():
    net = wrapped(_chain(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3)))
    with pytest.raises(BadInput, match="Unit 4 of 3 was asked for; it has units 0 to 3"):
        expanded_weights(net, "0", "3:4")
    with pytest.raises(BadInput, match="several sites"):
        expanded_weights(net, "0", ["3:1", "1:1"])
    with pytest.raises(BadInput, match="no unit"):
        expanded_weights(net, "0", [])
    with pytest.raises(UnknownName, match="did you mean average"):
        expanded_weights(net, "0", "3:1", version="averag")
    with pytest.raises(BadInput, match="no path"):
        expanded_weights(net, "3", "0:1")
    with pytest.raises(NotTestable, match="needs pictures of 32 pixels a side; they have 16"):
        expanded_weights(net, "0", "3:1", version="smoothed", stimuli=torch.randn(1, 2, 16, 16))
    with pytest.raises(BadInput, match="No stimuli"):
        expanded_weights(net, "0", "3:1", version="smoothed", stimuli=[])
    pooled = wrapped(_chain(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1)))
    with pytest.raises(NotTestable, match="sees the whole map"):
        expanded_weights(pooled, "0", "3:1")


def test_maps_that_multiply_each_other_are_not_linearized():
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.end = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            return self.end(x * torch.sigmoid(x))

    net = wrapped(seeded(Gated()))
    with pytest.raises(NotTestable, match="multiplied with each other"):
        expanded_weights(net, "stem", "end:0")
    with pytest.raises(NotTestable, match="multiplies maps with each other"):
        expanded_weights(net, "stem", "end:0", version="best")
    found = expanded_weights(net, "stem", "end:0", version="smoothed", stimuli=torch.randn(2, 2, 64, 64))
    assert found.shape == (1, 2, 1, 1)


def test_arithmetic_outside_of_modules_keeps_its_signs():
    net = wrapped(seeded(Arithmetic()))
    exact = kernel(net, "stem", "end").values
    low, high = weight_bounds(net, "stem", "end")
    assert torch.allclose(low, exact, atol=1e-5) and torch.allclose(high, exact, atol=1e-5)
    assert torch.allclose(expanded_weights(net, "stem", "end"), exact, atol=1e-5)
