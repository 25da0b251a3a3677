"""Gate rates on inputs for which they are known."""

import pytest
import torch
from torch import nn

from cutaway.circuits import gate_rates
from cutaway.errors import BadInput
from tests.circuits.tiny import seeded, wrapped


def _net(act: nn.Module, scale: list[float]) -> nn.Module:
    module = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, len(scale), 1, bias=False), act,
                           nn.Conv2d(len(scale), 1, 1))  # fmt: skip
    seeded(module)
    with torch.no_grad():
        module[0].weight.fill_(1)
        module[1].weight.copy_(torch.tensor(scale).reshape(-1, 1, 1, 1))
    return module


def test_the_rate_of_relu6_and_its_saturated_share():
    # A ramp from -2 to 8 in ten equal steps of one: by hand, positions in (0, 6), and at or above 6.
    ramp = torch.arange(-2, 8).float().repeat(1, 1, 10, 1) + 0.5
    (gate,) = gate_rates(wrapped(_net(nn.ReLU6(), [1.0, -1.0]), 1), "0", "3", stimuli=ramp)
    assert gate.label == "2" and gate.n == 1
    assert gate.rate.tolist() == pytest.approx([0.6, 0.2])
    assert gate.saturated.tolist() == pytest.approx([0.2, 0.0])


def test_relu_in_place_has_no_ceiling_and_a_smooth_activation_its_mean_slope():
    ramp = torch.arange(-2, 8).float().repeat(2, 1, 10, 1) + 0.5
    (gate,) = gate_rates(wrapped(_net(nn.ReLU(inplace=True), [1.0]), 1), "0", "3", stimuli=ramp)
    assert float(gate.rate) == pytest.approx(0.8) and float(gate.saturated) == 0
    (gate,) = gate_rates(wrapped(_net(nn.Softplus(), [1.0]), 1), "0", "3", stimuli=ramp)
    assert float(gate.rate) == pytest.approx(float(torch.sigmoid(ramp).mean()), abs=1e-5)


def test_rates_are_means_over_all_batches_and_need_stimuli():
    x = torch.cat([torch.full((9, 1, 8, 8), 1.0), torch.full((3, 1, 8, 8), -1.0)])
    (gate,) = gate_rates(wrapped(_net(nn.ReLU(), [1.0]), 1), "0", "3", stimuli=x)
    assert float(gate.rate) == pytest.approx(0.75) and gate.n == 12
    with pytest.raises(BadInput, match="No stimuli"):
        gate_rates(wrapped(_net(nn.ReLU(), [1.0]), 1), "0", "3", stimuli=x[:0])
