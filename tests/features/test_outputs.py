"""What features do downstream: hand-computed cases, conservation, and agreement of two ways to the same number."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.errors import NotTestable
from cutaway.features import decompose_edges
from cutaway.features.ablation import ablation_effect
from cutaway.features.collect import as_stimulus_set, collect, prepared
from cutaway.features.direct import direct_effect, excess_kurtosis, through_norm, token_effects, write_vectors
from cutaway.features.edges import contribution_means, readout_sites
from cutaway.features.outputs import Downstream
from cutaway.networks import Ablate, Steer, wrap
from cutaway.networks.zoo.hed import VGG16HED
from cutaway.stimuli import StimulusSet
from tests.features.planted import language_model, pictures, stimulus, templates, texts


@pytest.fixture(scope="module")
def detector():
    """A real-size edge detector with random weights, and pictures that have both kinds of pixels."""
    torch.manual_seed(0)
    module = VGG16HED()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
                nn.init.kaiming_normal_(part.weight)
            elif isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, std=0.3)
    network = wrap(module, name="random-hed", modality="image")
    generator = torch.Generator().manual_seed(1)
    made = [stimulus(torch.randn(3, 37, 44, generator=generator), f"noise {i}") for i in range(3)]
    with torch.no_grad():  # the median picture's median logit becomes the threshold
        module.fuse.bias -= network.run(prepared(network, made)).logits.median()
    return network, StimulusSet("noise", made)


def test_channels_and_biases_add_up_to_the_logit(detector):
    network, stimuli = detector
    decision = decompose_edges(network, list(stimuli))
    assert (
        list(decision.edge) == list(readout_sites(network)) == ["conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"]
    )
    for contributions, logit in ((decision.edge, decision.logit_edge), (decision.elsewhere, decision.logit_elsewhere)):
        total = sum(each.sum(axis=1) for each in contributions.values()) + decision.bias
        np.testing.assert_allclose(total, logit, rtol=1e-4, atol=1e-4)
    assert sum(decision.shares(site).sum() for site in decision.edge) == pytest.approx(1, abs=1e-4)


def test_contribution_equals_the_map_that_is_upsampled_and_weighed(detector):
    network, stimuli = detector
    run = network.run(prepared(network, list(stimuli)[:1]), capture=["conv3_3"])
    pixels = run.logits[0, 0] > 0
    fast = contribution_means(network, 3, run["conv3_3"][0], pixels)
    module = network.module
    for channel in (0, 81, 255):
        upsampled = module.side3_up(run["conv3_3"][:, channel : channel + 1], pixels.shape)[0, 0]
        weight = module.fuse.weight[0, 2, 0, 0] * module.side3.weight[0, channel, 0, 0]
        slow = float((weight * upsampled)[pixels].mean().detach())
        assert fast[channel] == pytest.approx(slow, rel=1e-3, abs=1e-6)


def test_a_card_of_a_read_out_channel_is_exact_and_of_another_is_by_ablation(detector):
    network, stimuli = detector
    readout = collect(network, network.site("conv2_2"), [3], stimuli)
    outputs = Downstream(network, readout).of(3, [])
    assert outputs.method == "exact" and "edge decision" in outputs.summary
    share = outputs.measures[0][1]
    whole = decompose_edges(network, list(stimuli)).shares("conv2_2")
    assert share.value == pytest.approx(whole[3]) and share.n == 3
    assert share.null_mean == pytest.approx(np.delete(whole, 3).mean())
    inner = collect(network, network.site("conv2_1"), [3, 4], stimuli)
    assert Downstream(network, inner).of(3, [4]).method == "ablation"


def test_networks_without_side_outputs_say_so():
    with pytest.raises(NotTestable, match="no side outputs"):
        decompose_edges(templates(), list(pictures(1)))


def test_excess_kurtosis_by_hand():
    # Two values of equal weight: fourth moment 1, variance 1. One of four: deviations 3 and -1.
    values = torch.tensor([[-1.0, 1, -1, 1], [3.0, -1, -1, -1]])
    assert excess_kurtosis(values).tolist() == pytest.approx([1 - 3, ((81 + 3) / 4) / 9 - 3])


def test_the_norms_linear_part():
    vector = torch.tensor([1.0, 2.0, 6.0])
    layer = nn.LayerNorm(3)
    rms = nn.RMSNorm(3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 1, 2]))
        rms.weight.copy_(torch.tensor([1.0, 1, 2]))
    assert through_norm(layer, vector).tolist() == [-2, -1, 6]
    assert through_norm(rms, vector).tolist() == [1, 2, 12]


def test_direct_effect_is_what_a_small_push_of_the_last_stream_does():
    """With one layer and RMS norm, moving the stream along a unit's write vector moves the logits as predicted."""
    network = language_model(layers=1)
    write = write_vectors(network, network.site("layers.0.mlp"))[5]
    batch = network.prepare(texts(1))
    base = network.run(batch, capture=["layers.0.resid"])
    pushed = network.run(batch, edits=[Steer("layers.0.resid", write, 1e-2)])
    stream = base["layers.0.resid"][0, -1]
    scale = stream.square().mean().sqrt()
    # A push also changes the scale; its part along the stream drops out, so only the rest is compared.
    along = (write @ stream) / stream.square().sum() * stream
    change = (pushed.logits - base.logits)[0, -1] / 1e-2
    predicted = token_effects(network, (write - along)[None])[0] / scale
    actual = change - change.mean()
    assert torch.allclose(actual, predicted, atol=0.02 * float(predicted.abs().max()))


def test_promoted_tokens_are_those_that_are_written(monkeypatch):
    network = language_model()
    unembedding = network.module.lm_head.weight
    with torch.no_grad():
        network.module.model.layers[1].mlp.down_proj.weight[:, 7] = unembedding[3] * 5
    outputs = direct_effect(network, network.site("layers.1.mlp"), 7)
    assert outputs.raised[0].name == " dogs" and outputs.raised[0].value > outputs.raised[1].value
    assert outputs.method == "direct" and outputs.measures[0][1].null_mean == outputs.measures[0][1].null_mean
    values = [effect.value for effect in outputs.lowered]
    assert values == sorted(values) and values[0] < 0


def test_a_token_specific_write_stands_out_and_random_writes_have_uniform_p():
    torch.manual_seed(0)
    network = language_model(vocab_size=400, hidden_size=64, intermediate_size=64)
    with torch.no_grad():
        network.module.lm_head.weight.normal_()
        direction = network.module.lm_head.weight[:20].mean(0)
        network.module.lm_head.weight[20:] -= (
            0.9 * torch.outer(network.module.lm_head.weight[20:] @ direction, direction) / direction.square().sum()
        )
        writer = network.module.model.layers[0].mlp.down_proj.weight
        writer.normal_()
        writer[:, 0] = direction
    site = network.site("layers.0.mlp")
    assert direct_effect(network, site, 0).measures[0][1].p == pytest.approx(0.01)
    ps = [direct_effect(network, site, unit, seed=unit).measures[0][1].p for unit in range(1, 41)]
    assert np.mean(np.array(ps) <= 0.1) < 0.3 and 0.3 < np.mean(ps) < 0.7


def test_heads_are_measured_by_ablation_to_their_mean():
    network = language_model()
    stimuli = as_stimulus_set(texts(8))
    site = network.site("layers.0.attn.heads")
    activity = collect(network, site, [1, 0, 2, 3], stimuli)
    outputs = ablation_effect(network, activity, 1, [0, 2, 3])
    rows = np.argsort(-activity.highest[:, 0], kind="stable")[:3]
    batch = prepared(network, [stimuli[int(row)] for row in rows])
    base = network.run(batch).logits.log_softmax(-1)
    cut = network.run(batch, edits=[Ablate(site.name, [1], reference=activity.mean)]).logits.log_softmax(-1)
    kl = (base.exp() * (base - cut)).sum(-1).mean()
    assert outputs.measures[0][1].value == pytest.approx(float(kl), rel=1e-3)
    assert outputs.measures[0][1].n == 3 and not math.isnan(outputs.measures[0][1].null_std)


def test_classes_that_a_pooled_channel_raises_are_its_weights():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 6, 3), nn.ReLU()
            self.pool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 4)

        def forward(self, x):
            return self.classifier(self.pool(self.act(self.conv(x))).flatten(1))

    torch.manual_seed(0)
    module = Classifier()
    labels = ("ant", "bee", "cat", "dog")
    network = wrap(module, modality="image", task="classifier", labels=labels, example=torch.zeros(1, 3, 16, 16))
    activity = collect(network, network.site("act"), [2, 3], pictures(3))
    outputs = Downstream(network, activity).of(2, [3])
    column = module.classifier.weight[:, 2].detach()
    assert outputs.method == "exact" and outputs.raised[0].name == labels[int(column.argmax())]
    assert outputs.raised[0].value == pytest.approx(float(column.max() - column.mean()), abs=1e-6)
    before = collect(network, network.site("conv"), [2, 3], pictures(3))
    ablated = Downstream(network, before).of(2, [3])
    assert ablated.method == "ablation" and len(ablated.measures) == 2


def test_other_networks_are_measured_by_the_change_of_their_output():
    network = templates()
    activity = collect(network, network.site("detect"), [0, 1, 2, 3], pictures(3))
    outputs = ablation_effect(network, activity, 0, [1, 2, 3])
    assert outputs.measures[0][1].value > 0 and "relative to its norm" in outputs.measures[0][0]


def test_the_output_itself_has_nothing_downstream(detector):
    network, stimuli = detector
    activity = collect(network, network.site("edges"), [0], stimuli)
    assert Downstream(network, activity).of(0, []).method == "none"
