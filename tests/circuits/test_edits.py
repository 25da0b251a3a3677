"""Edits do what they say, exact predictions are exact, and coarse ones can fail."""

import numpy as np
import pytest
import torch
from torch import nn

import cutaway
from cutaway.circuits.edits import (
    ablate_sources,
    activations,
    apply_edit,
    convolution_into,
    drop_negatives,
    edit_test,
    keep_only,
    random_groups,
    recovered,
    transplant,
)
from cutaway.errors import BadInput, NotTestable
from cutaway.stimuli.drawings import curves
from tests.networks.tiny import convnet


@pytest.fixture(scope="module")
def network() -> cutaway.Network:
    torch.manual_seed(2)
    layers = [nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 3, padding=1), nn.ReLU()]
    return cutaway.wrap(nn.Sequential(*layers), example=torch.zeros(1, 3, 32, 32))


@pytest.fixture(scope="module")
def shown():
    return curves(32, orientations=8, radii_px=(4, 8), widths_px=(2,))


def weight_of(network: cutaway.Network) -> torch.Tensor:
    return convolution_into(network, "4")[1].weight.detach()


def test_edits_of_kernels_by_hand(network) -> None:
    before = weight_of(network).clone()
    kept = weight_of(apply_edit(network, "4", keep_only([1], [2, 5])))
    assert torch.equal(kept[1, [2, 5]], before[1, [2, 5]]) and kept[1, [0, 1, 3, 4, 6, 7]].abs().sum() == 0
    cut = weight_of(apply_edit(network, "4", ablate_sources([1, 2], [0])))
    assert cut[[1, 2], 0].abs().sum() == 0 and torch.equal(cut[[1, 2], 1:], before[[1, 2], 1:])
    positive = weight_of(apply_edit(network, "4", drop_negatives([3], [4])))
    assert torch.equal(positive[3, 4], before[3, 4].clamp_min(0)) and torch.equal(positive[3, 5], before[3, 5])
    moved = weight_of(apply_edit(network, "4", transplant([0], before[5])))
    assert torch.equal(moved[0], before[5])
    for edited in (kept, positive, moved):
        assert torch.equal(edited[4], before[4])
    assert torch.equal(weight_of(network), before), "the network itself is as it was"


@pytest.mark.parametrize("site", ["3", "4"])
def test_the_fine_account_is_exact(network, shown, site: str) -> None:
    edits = [keep_only([0, 3], [1, 2, 3]), drop_negatives([0, 3])]
    for result in edit_test(network, "2", site, edits, shown, coarse=False):
        assert np.abs(result.measured).max() > 0.01
        assert result.predicted == pytest.approx(result.measured, abs=1e-4)


def test_the_coarse_account_can_fail(network, shown) -> None:
    (coarse,) = edit_test(network, "2", "3", [ablate_sources([0], [1, 4])], shown)
    assert np.abs(coarse.predicted - coarse.measured).max() > 1e-3
    assert coarse.agreement.value < 1


def test_no_hook_stays(network, shown) -> None:
    edit_test(network, "2", "4", [ablate_sources([0], [1])], shown)
    assert not any(part._forward_hooks for part in network.module.modules())


def test_recovered_by_hand(network, shown) -> None:
    original = activations(network, "4", shown)[2]
    silent = activations(apply_edit(network, "4", keep_only([2], [])), "4", shown)[2]
    shares = recovered(network, "4", 2, {"all": range(8), "none": ()}, shown)
    assert shares["all"] == pytest.approx(1)
    assert shares["none"] == pytest.approx(1 - np.linalg.norm(original - silent) / np.linalg.norm(original), abs=1e-6)


def test_random_groups_match_in_size() -> None:
    groups = random_groups(5, 3, 8)
    assert len(groups) == 5 and all(len(set(group)) == 3 and max(group) < 8 for group in groups)
    assert groups == random_groups(5, 3, 8) and groups != random_groups(5, 3, 8, seed=1)
    with pytest.raises(BadInput, match="1 to 8"):
        random_groups(1, 9, 8)


def test_hed_predictions_before_the_nonlinearity(zoo) -> None:
    network = zoo("vgg16-hed")
    shown = curves(32, orientations=4, radii_px=(6,), widths_px=(2,), filled=False)
    (result,) = edit_test(network, "conv2_1", "conv2_2", [drop_negatives([5, 9])], shown, coarse=False)
    assert result.predicted == pytest.approx(result.measured, rel=1e-3, abs=0.01 * float(np.abs(result.measured).max()))


def test_what_cannot_be_edited(network, shown) -> None:
    with pytest.raises(BadInput, match="source 8 of 8"):
        apply_edit(network, "4", ablate_sources([0], [8]))
    with pytest.raises(BadInput, match="unit 6 of 4"):
        apply_edit(network, "4", ablate_sources([6], [0]))
    with pytest.raises(BadInput, match="reads 8 channels"):
        edit_test(network, "4", "4", [ablate_sources([0], [0])], shown)
    with pytest.raises(NotTestable, match="no full convolution"):
        other = cutaway.wrap(convnet(), example=torch.zeros(1, 3, 32, 32))
        convolution_into(other, "7")
