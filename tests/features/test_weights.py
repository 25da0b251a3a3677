"""Weights by name: each row against the tensor that it was read from."""

import pytest
import torch
from torch import nn

from cutaway.features.direct import write_vectors
from cutaway.features.weights import strongest_weights
from cutaway.networks import wrap
from tests.features.planted import language_model, pictures, templates, texts


def _tables(network, site, unit, stimuli):
    return strongest_weights(network, network.site(site), unit, network.prepare(stimuli))


def test_convolutions_name_the_channels_at_both_ends():
    network = templates()
    weights = _tables(network, "rect", 2, [pictures(1)[0]])
    (inputs,), (outputs,) = weights.inputs, weights.outputs
    kernel = network.module.detect.weight[2].detach()
    assert inputs.title == "input weights (detect)" and {row.name for row in inputs.rows} == {
        f"input:{c}" for c in range(3)
    }
    assert inputs.rows[0].norm == pytest.approx(float(kernel[0].norm())) and inputs.rows[0].value == pytest.approx(
        0, abs=1e-6
    )
    mixing = network.module.mix.weight[:, 2, 0, 0].detach()
    assert outputs.rows[0].name == f"mix:{int(mixing.abs().argmax())}"
    assert outputs.rows[0].value == pytest.approx(float(mixing[mixing.abs().argmax()]))
    deeper = _tables(network, "act", 5, [pictures(1)[0]])
    assert {row.name for row in deeper.inputs[0].rows} == {f"rect:{c}" for c in range(4)}
    assert "no convolution or linear map reads it" in deeper.outputs[0].reason


def test_grouped_convolutions_only_connect_their_group():
    torch.manual_seed(0)
    network = wrap(
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=4), nn.ReLU(inplace=True)),
        modality="image", example=torch.zeros(1, 3, 8, 8),
    )  # fmt: skip
    inputs = _tables(network, "2", 9, torch.zeros(1, 3, 8, 8)).inputs[0]
    assert {row.name for row in inputs.rows} == {"0:4", "0:5"}
    outputs = _tables(network, "0", 5, torch.zeros(1, 3, 8, 8)).outputs[0]
    assert {row.name for row in outputs.rows} == {f"1:{c}" for c in range(8, 12)}
    expected = network.module[1].weight.detach()[8:12, 1].flatten(1).norm(dim=1).max()
    assert outputs.rows[0].norm == pytest.approx(float(expected))


def test_what_lies_behind_a_function_is_not_guessed():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x):
            return self.act(self.conv(x) + x)

    network = wrap(Residual(), modality="image", example=torch.zeros(1, 3, 8, 8))
    assert "not the plain output" in _tables(network, "act", 0, torch.zeros(1, 3, 8, 8)).inputs[0].reason


def test_mlp_units_read_tokens_and_earlier_units_and_are_read_by_later_ones():
    network = language_model(layers=3)
    layer = network.module.model.layers[1]
    with torch.no_grad():
        layer.post_attention_layernorm.weight.uniform_(0.5, 2)
        layer.mlp.gate_proj.weight[4] = (
            network.module.model.embed_tokens.weight[6] / layer.post_attention_layernorm.weight
        )
    weights = _tables(network, "layers.1.mlp", 4, texts(1))
    titles = [table.title for table in weights.inputs]
    assert titles[0].startswith("tokens whose embedding gate_proj reads")
    assert weights.inputs[0].rows[0].name == " fish" and weights.inputs[0].rows[0].value == pytest.approx(1, abs=1e-5)
    earlier = next(table for table in weights.inputs if table.title.startswith("earlier MLP units that up_proj"))
    gain = layer.post_attention_layernorm.weight
    virtual = write_vectors(network, network.site("layers.0.mlp")) @ (layer.mlp.up_proj.weight[4] * gain).detach()
    best = int(virtual.abs().argmax())
    assert earlier.rows[0].name == f"layers.0.mlp:{best}" and earlier.rows[0].value == pytest.approx(
        float(virtual[best]), rel=1e-5
    )
    assert all(row.name.startswith("layers.2.mlp:") for row in weights.outputs[0].rows)
    after = network.module.model.layers[2]
    read = (after.mlp.gate_proj.weight * after.post_attention_layernorm.weight) @ layer.mlp.down_proj.weight[:, 4]
    read = read.detach()
    assert weights.outputs[0].rows[0].value == pytest.approx(float(read[read.abs().argmax()]), rel=1e-5)


def test_heads_have_norms_of_their_own_matrices():
    network = language_model()
    attention = network.module.model.layers[0].self_attn.requires_grad_(False)
    weights = _tables(network, "layers.0.attn.heads", 3, texts(1))
    norms = {row.name.split()[0]: row.value for row in weights.inputs[0].rows}
    assert norms["q"] == pytest.approx(float(attention.q_proj.weight[12:16].norm()))
    assert norms["k"] == pytest.approx(float(attention.k_proj.weight[4:8].norm()))  # heads 2 and 3 share group 1
    assert weights.outputs[0].rows[0].value == pytest.approx(float(attention.o_proj.weight[:, 12:16].norm()))


def test_stream_coordinates_have_no_weights_of_their_own():
    weights = _tables(language_model(), "layers.0.resid", 3, texts(1))
    assert "no weights of its own" in weights.inputs[0].reason
