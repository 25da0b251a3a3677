from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import (
    control_labels,
    random_directions,
    random_sets,
    shuffled_labels,
    shuffled_weights,
    untrained_twin,
)

ENTITIES = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 1, 2, 3, 4, 5])
LABELS = (ENTITIES % 2).astype(bool)


def test_all_rows_of_an_entity_share_their_label():
    for draws in (
        shuffled_labels(LABELS, ENTITIES, count=50),
        control_labels(LABELS, ENTITIES, count=50),
    ):
        assert draws.shape == (50, 30)
        for entity in range(10):
            mine = draws[:, entity == ENTITIES]
            assert (mine == mine[:, :1]).all()
        assert not (draws == LABELS).all()


def test_shuffles_keep_the_number_of_positive_entities_in_each_stratum():
    strata = ENTITIES // 5
    first = np.unique(ENTITIES, return_index=True)[1]
    draws = shuffled_labels(LABELS, ENTITIES, count=200, strata=strata)[:, first]
    assert (draws[:, :5].sum(axis=1) == 2).all()
    assert (draws[:, 5:].sum(axis=1) == 3).all()
    assert draws.mean(axis=0) == pytest.approx([0.4] * 5 + [0.6] * 5, abs=0.12)


def test_rows_move_within_entities_that_hold_both_labels():
    labels, entities = np.tile([0, 1, 1], 5), np.repeat(np.arange(5), 3)
    draws = shuffled_labels(labels, entities, count=100)
    assert (draws.reshape(100, 5, 3).sum(axis=2) == 2).all()
    assert draws.mean(axis=0) == pytest.approx([2 / 3] * 15, abs=0.2)


def test_entity_across_strata():
    with pytest.raises(BadInput, match="more than one stratum"):
        shuffled_labels([0, 0, 1], ["a", "a", "b"], count=1, strata=[0, 1, 1])


def test_control_labels_keep_class_shares():
    labels = np.repeat([0, 1], [80, 20])
    assert control_labels(labels, count=400).mean() == pytest.approx(0.2, abs=0.02)


def test_directions_have_the_covariance_of_the_activations():
    mixing = torch.tensor([[3.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    acts = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) @ mixing + 7
    drawn = random_directions(acts, 20000)
    assert drawn.mean(dim=0).abs().max() < 0.1
    assert torch.allclose(torch.cov(drawn.T), torch.cov(acts.T), atol=0.25)
    assert (drawn[:, 2].abs() < 1e-4).all()  # no variance, no direction


def test_directions_can_be_scaled_and_repeated():
    acts = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    drawn = random_directions(acts, 8, norm=2.5, seed=1)
    assert torch.allclose(drawn.norm(dim=1), torch.full((8,), 2.5))
    assert torch.equal(drawn, random_directions(acts, 8, norm=2.5, seed=1))
    assert not torch.equal(drawn, random_directions(acts, 8, norm=2.5, seed=2))


def test_directions_of_constant_activations():
    with pytest.raises(BadInput, match="constant"):
        random_directions(torch.ones(4, 3), 2, norm=1.0)
    with pytest.raises(BadInput, match="two rows"):
        random_directions(torch.ones(1, 3), 2)


def test_random_sets_match_strata_and_avoid_the_chosen():
    pool = [(site, unit) for site in "abc" for unit in range(10)]
    chosen = [("a", 0), ("a", 1), ("b", 5)]
    sets = random_sets(chosen, pool, 100, stratum=lambda address: address[0])
    for drawn in sets:
        assert sorted(site for site, _ in drawn) == ["a", "a", "b"]
        assert len(set(drawn)) == 3
        assert not set(drawn) & set(chosen)
    assert len({member for drawn in sets for member in drawn}) == 8 + 9


def test_random_sets_without_room():
    with pytest.raises(BadInput, match="needs 2 members of the pool, only 1"):
        random_sets([1, 2], [1, 2, 3], 1)


class Small(nn.Module):
    """Convolution with batch norm, a tied embedding, a scalar and a buffer: one of everything that has a rule."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)
        self.embed, self.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
        self.head.weight = self.embed.weight
        self.temperature = nn.Parameter(torch.tensor(0.7))
        self.register_buffer("offset", torch.arange(3.0)[:, None, None])

    def forward(self, image):
        channels = self.norm(self.conv(image - self.offset)).relu().mean(dim=(2, 3))
        return self.head(channels @ self.embed.weight) * self.temperature


def trained():
    torch.manual_seed(0)
    net = Small()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.rand_like(parameter) ** 3)
        net.norm.running_mean.copy_(torch.randn(16))
        net.norm.running_var.copy_(torch.rand(16) + 0.1)
    return net.eval()


@pytest.mark.parametrize("make", [untrained_twin, shuffled_weights])
def test_twin_keeps_architecture_and_statistics(make):
    net = trained()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    twin = make(net, seed=3)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())  # never mutates
    assert {n: (t.shape, t.dtype) for n, t in twin.state_dict().items()} == {
        n: (t.shape, t.dtype) for n, t in before.items()
    }
    assert [type(part) for part in twin.modules()] == [type(part) for part in net.modules()]
    assert twin.head.weight is twin.embed.weight
    for name, tensor in twin.named_parameters():
        old_std, old_mean = torch.std_mean(before[name], correction=0)
        std, mean = torch.std_mean(tensor, correction=0)
        assert torch.allclose(mean, old_mean, atol=1e-5)
        assert torch.allclose(std, old_std, atol=1e-5)
        assert torch.equal(tensor, before[name]) == (name == "temperature")
    assert torch.equal(twin.offset, net.offset)
    images = torch.randn(64, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    outputs = torch.stack([net(images).flatten(), twin(images).flatten()])
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-2)


@pytest.mark.parametrize("make", [untrained_twin, shuffled_weights])
def test_twin_forgets_what_was_learned(make):
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()

    def accuracy(network):
        return (network.eval()(images).argmax(dim=1) == labels).float().mean()

    assert accuracy(net) > 0.95
    assert accuracy(make(net)) < 0.35


def test_vectors_of_a_normalisation_move_together():
    net = trained()
    twin = untrained_twin(net, seed=3)
    columns = [torch.stack([n.norm.weight, n.norm.bias, n.norm.running_mean, n.norm.running_var]) for n in (net, twin)]
    assert not torch.equal(columns[0], columns[1])
    assert sorted(columns[0].T.tolist()) == sorted(columns[1].T.tolist())


def test_shuffled_weights_keep_every_value():
    net = trained()
    twin = shuffled_weights(net, seed=0)
    assert torch.equal(net.conv.weight.flatten().sort().values, twin.conv.weight.flatten().sort().values)


def test_twins_repeat_and_differ_by_seed():
    net = trained()
    weights = [untrained_twin(net, seed=seed).conv.weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@dataclass(frozen=True)
class Holder:
    module: nn.Module
    name: str = "net"

    def with_module(self, module, suffix):
        return Holder(module, f"{self.name}+{suffix}")


def test_a_network_gives_a_network():
    twin = untrained_twin(Holder(trained()), seed=5)
    assert isinstance(twin, Holder)
    assert twin.name == "net+untrained-twin(5)"
    assert shuffled_weights(Holder(trained())).name == "net+shuffled-weights(0)"


def test_integer_parameters_have_no_twin():
    net = nn.Linear(2, 2)
    net.weight = nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(NotTestable, match=r"weight is torch\.int8"):
        untrained_twin(net)


def test_half_precision_stays_half_precision():
    twin = untrained_twin(nn.Linear(64, 64).bfloat16())
    assert twin.weight.dtype == torch.bfloat16
