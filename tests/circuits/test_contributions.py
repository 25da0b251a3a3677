"""Contributions, orders and angle profiles, by hand."""

import pytest
import torch

from cutaway.circuits import (
    Kernel,
    inputs_of,
    negative_share,
    outputs_of,
    principal_order,
    reduced,
    relative_angle_profile,
    sorted_matrix,
)
from cutaway.errors import BadInput


def _kernel(values: list) -> Kernel:
    tensor = torch.tensor(values, dtype=torch.float32)[:, :, None, :]
    return Kernel("a", "b", tensor, torch.zeros(len(tensor)), "direct", True)


def test_inputs_by_norm_with_shares_by_hand():
    # Kernels (3, 4), (0, -12), (0, 0): norms 5, 12, 0; energies 25, 144, 0.
    found = inputs_of(_kernel([[[3, 4], [0, -12], [0, 0]]]), 0)
    assert [each.address for each in found] == ["a:1", "a:0", "a:2"]
    assert [each.norm for each in found] == [12, 5, 0]
    assert [each.total for each in found] == [-12, 7, 0]
    assert found[0].share == pytest.approx(144 / 169) and found[1].share == pytest.approx(25 / 169)
    assert [each.negative for each in found] == [1, 0, 0]
    assert [each.of_strongest for each in found] == [1, pytest.approx(5 / 12), 0]
    assert len(inputs_of(_kernel([[[3, 4], [0, -12], [0, 0]]]), 0, top=1)) == 1
    assert found[0].to_json()["negative_share"] == 1


def test_outputs_read_the_other_axis():
    found = outputs_of(_kernel([[[1, 0], [2, 0]], [[0, 3], [0, 0]]]), 0)
    assert [(each.address, each.norm) for each in found] == [("b:1", 3), ("b:0", 1)]


def test_negative_share_of_energy():
    values = torch.tensor([[[[3.0, -4.0]]], [[[0.0, 0.0]]]])
    assert negative_share(values).tolist() == pytest.approx([16 / 25, 0])


def test_a_kernel_as_one_number():
    values = torch.tensor([[[[3.0, -4.0]]]])
    assert [float(reduced(values, how)) for how in ("sum", "norm", "strongest")] == [-1, 5, -4]


def test_a_sorted_matrix_has_chosen_units_in_chosen_orders():
    kernel = _kernel([[[1, 0], [2, 0]], [[3, 0], [4, 0]]])
    assert sorted_matrix(kernel, [1, 0], [1]).tolist() == [[4, 3]]
    with pytest.raises(BadInput, match="Unit 2 of a was asked for; it has units 0 to 1"):
        sorted_matrix(kernel, [2], [0])
    with pytest.raises(BadInput, match="Unit 5 of b"):
        inputs_of(kernel, 5)


def test_units_are_ordered_along_the_first_principal_component():
    hidden = torch.tensor([3.0, -1.0, 2.0, 0.0])
    matrix = hidden[:, None] * torch.tensor([1.0, 0.5]) + 0.01 * torch.randn(4, 2)
    assert principal_order(matrix) == [1, 3, 2, 0]


def test_weights_by_relative_angle():
    angles = [0.0, 90.0, 180.0, 270.0]
    matrix = torch.tensor([[1.0 if i == j else -1.0 if (i - j) % 4 == 2 else 0.0 for j in range(4)] for i in range(4)])
    profile = relative_angle_profile(matrix, angles, angles, bins=4)
    assert profile.centres.tolist() == [-180, -90, 0, 90]
    assert profile.means.tolist() == [-1, 0, 1, 0]
    assert profile.counts == (4, 4, 4, 4)
    # Lines: the antipode is the same line.
    lines = relative_angle_profile(matrix, angles, angles, period=180, bins=2)
    assert lines.centres.tolist() == [-90, 0] and lines.means.tolist() == [0, 0]
    with pytest.raises(BadInput, match="one for each row"):
        relative_angle_profile(matrix, angles[:3], angles)


def test_an_angle_goes_to_the_bin_with_the_nearest_centre():
    near = [relative_angle_profile(torch.ones(1, 1), [0.0], [angle], bins=4).counts for angle in (-40.0, 40.0, 50.0)]
    assert near == [(0, 0, 1, 0), (0, 0, 1, 0), (0, 0, 0, 1)]


def test_an_empty_angle_bin_is_not_a_number():
    profile = relative_angle_profile(torch.ones(1, 1), [0.0], [40.0], bins=4)
    assert profile.counts == (0, 0, 1, 0)
    assert [mean != mean for mean in profile.means] == [True, True, False, True]
