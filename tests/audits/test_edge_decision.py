"""The split of the edge decision: exact, blind to nothing, and right on a planted channel."""

import dataclasses

import pytest
import torch
from torch import Tensor

import cutaway
from cutaway.atlas import Atlas
from cutaway.audits.edge_decision import EdgeDecision
from cutaway.audits.edge_split import decision_split
from cutaway.audits.rules import PROFILES, AuditContext
from cutaway.errors import BadInput
from cutaway.features.edges import readout_sites, up_transpose
from cutaway.networks.zoo.hed import VGG16HED, Upsample
from cutaway.stimuli import Stimulus, StimulusSet, content_id

PROFILE = dataclasses.replace(PROFILES["quick"], stimuli=12, permutations=200, random_units=20)


def images(count: int = 12, seed: int = 0) -> StimulusSet:
    """Pictures with one bright rectangle each, so that masks of different pictures differ."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for row in range(count):
        picture = torch.zeros(3, 32, 32)
        y, x = torch.randint(2, 18, (2,), generator=generator).tolist()
        picture[:, y : y + 12, x : x + 10] = 100.0 + 20 * torch.rand(1, generator=generator)
        made.append(Stimulus(content_id(picture.numpy().tobytes()), "tensor", f"rectangle {row}", lambda p=picture: p))
    return StimulusSet("rectangles", made)


def hed(planted: int | None = None) -> cutaway.Network:
    """A random edge detector; with ``planted``, only that channel of conv1_2 is read out."""
    torch.manual_seed(0)
    module = VGG16HED()
    with torch.no_grad():
        for index in range(1, 6):
            side = module.get_submodule(f"side{index}")
            assert isinstance(side.weight, Tensor) and isinstance(side.bias, Tensor)
            side.bias.zero_()
            if planted is not None:
                side.weight.zero_()
                if index == 1:
                    side.weight[0, planted] = 5.0
        module.fuse.weight.fill_(0.2)
        module.fuse.bias.zero_()
        network = cutaway.wrap(module, name="hed", modality="image")
        logits = network.run(torch.stack([s.load() for s in images()])).logits
        module.fuse.bias.fill_(-float(logits.median()))
    return network


def check(network: cutaway.Network, stimuli: StimulusSet, tmp_path) -> cutaway.audits.RuleResult:
    context = AuditContext(network, Atlas(tmp_path / "atlas"), stimuli, PROFILE, command="cutaway audit hed")
    return EdgeDecision().check(context)


def test_transpose_of_the_upsampling() -> None:
    up, generator = Upsample(), torch.Generator().manual_seed(0)
    small = torch.randn(3, 1, 5, 6, generator=generator)
    masks = torch.randn(3, 17, 23, generator=generator)
    forward = (up(small, (17, 23))[:, 0] * masks).flatten(1).sum(1)
    backward = (small[:, 0] * up_transpose(hed(), 1, masks, (5, 6))).flatten(1).sum(1)
    torch.testing.assert_close(forward, backward, rtol=1e-4, atol=1e-4)


def test_the_parts_add_up_to_the_decision() -> None:
    network = hed()
    batch = network.prepare([s.load() for s in images(6)])
    split = decision_split(network, [batch], list(batch.ids))
    logits = network.run(batch).logits[:, 0]
    for row in range(len(split.decision)):
        edge = logits[row] > 0
        by_hand = float(logits[row][edge].mean() - logits[row][~edge].mean())
        assert split.decision[row] == pytest.approx(by_hand, rel=1e-4)
    assert split.gap < 1e-4
    assert len(split.addresses) == 64 + 128 + 256 + 512 + 512


def test_a_dropped_channel_is_a_gap_in_the_sum() -> None:
    network = hed()
    batch = network.prepare([s.load() for s in images(6)])
    split = decision_split(network, [batch], list(batch.ids))
    strongest = abs(split.shares.mean(0)).argmax()
    rest = split.shares.sum(1) - split.shares[:, strongest]
    assert (abs(rest - split.decision) > 1e-4 * abs(split.decision)).all()


def test_a_planted_channel_is_found(tmp_path) -> None:
    result = check(hed(planted=7), images(), tmp_path)
    (finding,) = result.findings
    assert finding.location[0] == "conv1_2:7"
    assert finding.effect is not None and finding.effect.value == pytest.approx(1.0, abs=1e-3)
    assert all(control.passed for control in finding.controls if "conservation" in control.name)
    assert "--rules edge-decision" in finding.reproduce
    assert result.figures[0].svg.startswith("<svg")


def test_the_rule_says_where_it_cannot_be_asked() -> None:
    from tests.networks.tiny import convnet

    reason = EdgeDecision().applicable(cutaway.wrap(convnet()))
    assert reason is not None and "linear" in reason
    assert EdgeDecision().applicable(hed()) is None


def test_too_few_images(tmp_path) -> None:
    with pytest.raises(BadInput, match="at least six"):
        check(hed(), images(4), tmp_path)


def test_readouts_read_the_last_convolution_of_each_block() -> None:
    assert list(readout_sites(hed())) == ["conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"]
