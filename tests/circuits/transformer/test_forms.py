"""QK and OV forms, rotation by offset, composition, readings in tokens."""

import numpy as np
import pytest
import torch

from cutaway.circuits.quadratic import Quadratic
from cutaway.circuits.transformer import (
    composition_score,
    compositions,
    haar_null,
    head_names,
    ov_directions,
    ov_form,
    parse_head,
    qk_directions,
    qk_form,
    rotations,
)
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.anatomy import anatomy
from cutaway.networks.folded import head_maps, inverse_scale, token_embeddings, unembedding
from tests.networks.test_anatomy import IDS, NAMES, made

ROTARY = [name for name in NAMES if name not in ("gpt2", "bert")]


@pytest.mark.parametrize("name", ROTARY)
def test_rotation_depends_on_the_offset_alone(name: str) -> None:
    turns = rotations(made(name), 1, 12)
    assert turns is not None and turns.shape[0] == 12
    torch.testing.assert_close(turns[2].T @ turns[9], turns[0].T @ turns[7], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(turns[5] @ turns[5].T, torch.eye(turns.shape[1]), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(turns[1], turns[0], atol=1e-2)


def test_networks_without_rotation() -> None:
    assert rotations(made("gpt2"), 0, 5) is None
    assert rotations(made("bert"), 1, 5) is None


def test_attention_that_is_not_understood_is_refused() -> None:
    network = made("llama")
    network.module.get_submodule("model.layers.0.self_attn.q_proj").register_forward_hook(lambda _m, _i, out: out + 1)
    with pytest.raises(NotTestable, match="does something that this analysis does not know"):
        rotations(network, 0, 4)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama", "gemma", "qwen2", "phi3"])
def test_the_qk_form_at_an_offset_is_the_networks_score(name: str) -> None:
    """Scores between all positions, from forms per offset and the scales of the stream's norm."""
    network = made(name)
    layer = anatomy(network).layers[1]
    run = network.run(IDS, capture=["layers.0.resid", "layers.1.attn.q", "layers.1.attn.k"])
    maps = head_maps(network, 1)
    stream = run["layers.0.resid"][0]
    x = stream * inverse_scale(maps.norm, stream)[:, None]
    keys = run["layers.1.attn.k"][0].repeat_interleave(layer.group, 0)
    for head in (0, 3):
        scores = maps.scale * run["layers.1.attn.q"][0, head] @ keys[head].T
        for i, j in ((5, 5), (5, 2), (4, 0)):
            form = qk_form(network, 1, head, offset=i - j)
            torch.testing.assert_close(form.value(x[i], x[j]), scores[i, j], atol=1e-5, rtol=1e-4)


def test_the_ov_form_is_what_the_head_writes() -> None:
    network = made("gpt2")
    maps, form = head_maps(network, 0), ov_form(network, 0, 2)
    source, direction = torch.randn(16), torch.randn(16)
    expected = direction @ (maps.out[2] @ (maps.value[2] @ source + maps.value_bias[2]))
    torch.testing.assert_close(form.value(direction, source), expected, atol=1e-5, rtol=1e-4)


def test_composition_by_hand() -> None:
    """The writer writes e0 from e1; readers that look along e0, along e1, and halfway."""
    e0, e1 = torch.eye(4)[:1], torch.eye(4)[1:2]
    writer = Quadratic.of_readings(e0, e1)  # W_OV = e0 e1'
    for key, expected in ((e0, 1.0), (e1, 0.0), ((e0 + e1) / 2**0.5, 0.5**0.5)):
        reader = Quadratic.of_readings(e1, key)
        assert composition_score(reader, writer, "K") == pytest.approx(expected)
        assert composition_score(Quadratic.of_readings(key, e1), writer, "Q") == pytest.approx(expected)
        assert composition_score(reader, writer, "V") == pytest.approx(expected)
    assert composition_score(Quadratic.of_readings(e0 * 0, e0), writer, "K") == 0.0


def test_composition_is_the_ratio_of_full_norms() -> None:
    network = made("llama")
    writer, reader, values = ov_form(network, 0, 1), qk_form(network, 1, 2), ov_form(network, 1, 2)
    full = {name: form.left.T @ form.right for name, form in (("w", writer), ("qk", reader), ("ov", values))}
    for kind, product, own in (
        ("Q", full["qk"].T @ full["w"], "qk"), ("K", full["qk"] @ full["w"], "qk"), ("V", full["ov"] @ full["w"], "ov"),
    ):  # fmt: skip
        expected = float(product.norm() / full[own].norm() / full["w"].norm())
        found = composition_score(values if kind == "V" else reader, writer, kind)  # type: ignore[arg-type]
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_baseline_has_mean_square_one_over_width() -> None:
    energies = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    null = haar_null(torch.tensor([0.5, 0.5]), energies, 32, draws=2000, seed=0)
    assert null.shape == (2000, 2)
    assert np.allclose((null**2).mean(0), 1 / 32, rtol=0.06)
    assert np.array_equal(null[:5], haar_null(torch.tensor([0.5, 0.5]), energies, 32, draws=5, seed=0))


def test_a_planted_composition_comes_first() -> None:
    network = made("gpt2")
    out = network.module.get_submodule("transformer.h.0.attn.c_proj")
    qkv = network.module.get_submodule("transformer.h.1.attn.c_attn")
    with (
        torch.no_grad()
    ):  # head 1.2 reads with its keys what head 0.1 writes (less its mean, which no norm lets through)
        written = out.weight[4:8] - out.weight[4:8].mean(1, keepdim=True)
        qkv.weight[:, 16 + 8 : 16 + 12] = (
            written.T / network.module.get_submodule("transformer.h.1.ln_1").weight[:, None]
        )
    best = compositions(network, 1, 2, draws=99)[0]
    assert (best.writer, best.kind) == ((0, 1), "K")
    assert best.score.p <= 0.01 and best.score.value > best.score.null_mean + 3 * best.score.null_std


def test_composition_needs_an_earlier_layer_and_a_plain_stream() -> None:
    with pytest.raises(NotTestable, match="no head writes before"):
        compositions(made("llama"), 0, 0)
    with pytest.raises(NotTestable, match="after each sum"):
        compositions(made("bert"), 1, 0)
    with pytest.raises(BadInput, match="at least 19"):
        compositions(made("llama"), 1, 0, draws=3)


def test_directions_name_the_tokens_that_a_head_copies() -> None:
    """A head that writes token 7's unembedding wherever it sees token 5."""
    network = made("gpt2")
    weight, table = unembedding(network)[0], token_embeddings(network)
    value, out = (network.module.get_submodule(f"transformer.h.0.attn.{name}") for name in ("c_attn", "c_proj"))
    with torch.no_grad():
        seen = table[5] / network.module.get_submodule("transformer.h.0.ln_1").weight
        value.weight[:, 32:36] = 0
        value.weight[:, 32] = 100 * (seen - seen.mean())
        out.weight[0] = weight[7]
    network = type(network)(**{**vars(network), "_cache": {}})
    (direction,) = ov_directions(network, 0, 0, count=1, tokens=4)
    assert direction.share > 0.99
    ends = (direction.left_high[0], direction.left_low[0])
    assert "<7>" in ends
    assert len(qk_directions(network, 0, 0, offset=1, count=2, tokens=3)) == 2


def test_heads_are_named_and_checked() -> None:
    network = made("llama")
    assert head_names(network)[:5] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert parse_head(network, "1.3") == parse_head(network, "L1H3") == (1, 3)
    for text, said in (("x", "LAYER.HEAD"), ("1.4", "heads 0 to 3"), ("2.0", "layers 0 to 1")):
        with pytest.raises(BadInput, match=said):
            parse_head(network, text)
    with pytest.raises(BadInput, match="0 or more"):
        qk_form(network, 0, 0, offset=-1)
