"""Folders as their libraries write them, by hand: the codes that follow from the library's own formula."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cutaway.bases import Origin
from cutaway.bases.dictionaries import Dictionary
from cutaway.bases.formats import load
from cutaway.errors import BadFile
from tests.bases.formats.kinds import OUT, WIDTH, D, K, acts, drawn

W_ENC, W_DEC = drawn(D, WIDTH), drawn(WIDTH, D, seed=8)
B_ENC, B_DEC = 0.2 * drawn(WIDTH, seed=1), drawn(D, seed=2)
THETA = drawn(WIDTH, seed=5).abs()


def saelens(folder: Path, config: dict[str, Any], **tensors: torch.Tensor) -> Dictionary:
    base = {"W_enc": W_ENC, "b_enc": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC} | tensors
    save_file(
        {name: value.contiguous() for name, value in base.items() if value.numel()}, folder / "sae_weights.safetensors"
    )
    head = {"d_in": D, "d_sae": WIDTH, "apply_b_dec_to_input": True, "normalize_activations": "none"}
    metadata = {"sae_lens_version": "6.1.0", "model_name": "gpt2-small", "hook_name": "blocks.8.hook_resid_pre"}
    (folder / "cfg.json").write_text(json.dumps(head | {"metadata": metadata} | config))
    found = load(folder)
    assert isinstance(found, Dictionary)
    return found


def kept(pre: torch.Tensor, k: int = K) -> torch.Tensor:
    top = pre.topk(k)
    return torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())


def test_saelens_standard_with_and_without_the_decoder_bias(tmp_path: Path) -> None:
    x = acts()
    found = saelens(tmp_path, {"architecture": "standard"})
    codes = ((x - B_DEC) @ W_ENC + B_ENC).relu()
    assert torch.allclose(found.encode(x), codes, atol=1e-5)
    assert torch.allclose(found.reconstruct(x), codes @ W_DEC + B_DEC, atol=1e-5)
    assert found.origin == Origin("gpt2-small", "", "layers.7.resid", "layers.7.resid")
    plain = saelens(tmp_path, {"architecture": "standard", "apply_b_dec_to_input": False})
    assert torch.allclose(plain.encode(x), (x @ W_ENC + B_ENC).relu(), atol=1e-5)


def test_saelens_gated(tmp_path: Path) -> None:
    gate, magnitude, scale = drawn(WIDTH, seed=6), drawn(WIDTH, seed=7), 0.3 * drawn(WIDTH, seed=10)
    parts = {"b_gate": gate, "b_mag": magnitude, "r_mag": scale, "b_enc": torch.empty(0)}
    found = saelens(tmp_path, {"architecture": "gated"}, **parts)
    raw = (acts() - B_DEC) @ W_ENC
    wanted = (raw + gate > 0) * (raw * scale.exp() + magnitude).relu()
    assert torch.allclose(found.encode(acts()), wanted, atol=1e-5)


def test_saelens_topk_chooses_by_decoder_norm_where_it_says_so(tmp_path: Path) -> None:
    pre = (acts() - B_DEC) @ W_ENC + B_ENC
    found = saelens(tmp_path, {"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": False})
    assert torch.allclose(found.encode(acts()), kept(pre), atol=1e-5)
    rescaled = saelens(tmp_path, {"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True})
    norms = W_DEC.norm(dim=1)
    codes = kept(pre * norms)
    assert torch.allclose(rescaled.encode(acts()), codes, atol=1e-5)
    assert torch.allclose(rescaled.reconstruct(acts()), (codes / norms) @ W_DEC + B_DEC, atol=1e-5)
    assert bool(((codes > 0) != (kept(pre) > 0)).any())


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_saelens_checkpoints_of_training_encode_as_what_they_are_exported_to(tmp_path: Path, architecture: str) -> None:
    config = {"architecture": architecture, "k": 2.5, "matryoshka_widths": [4, WIDTH]}
    found = saelens(tmp_path, config, topk_threshold=torch.tensor(0.8, dtype=torch.float64))
    pre = ((acts() - B_DEC) @ W_ENC + B_ENC) * W_DEC.norm(dim=1)
    assert torch.allclose(found.encode(acts()), pre * (pre > 0.8), atol=1e-5)
    assert found.kind == {"batchtopk": "batchtopk"}.get(architecture, "matryoshka")


@pytest.mark.parametrize("prefix", ["", "skip_", "jumprelu_", "jumprelu_skip_"])
def test_saelens_transcoders(tmp_path: Path, prefix: str) -> None:
    skip, decoder, bias = drawn(OUT, D, seed=4), drawn(WIDTH, OUT, seed=8), drawn(OUT, seed=2)
    parts = {"W_dec": decoder, "b_dec": bias}
    parts |= {"W_skip": skip} if "skip" in prefix else {}
    parts |= {"threshold": THETA} if "jump" in prefix else {}
    metadata = {"model_name": "m", "hook_name": "blocks.2.mlp.hook_in", "hook_name_out": "blocks.2.hook_mlp_out"}
    config = {"architecture": f"{prefix}transcoder", "d_out": OUT, "apply_b_dec_to_input": False, "metadata": metadata}
    found = saelens(tmp_path, config, **parts)
    pre = acts() @ W_ENC + B_ENC
    codes = pre.relu() * (pre > THETA) if "jump" in prefix else pre.relu()
    out = codes @ decoder + bias + (acts() @ skip.T if "skip" in prefix else 0)
    assert torch.allclose(found.encode(acts()), codes, atol=1e-5)
    assert torch.allclose(found.reconstruct(acts()), out, atol=1e-5)
    assert found.origin == Origin("m", "", "layers.2.mlp_in", "layers.2.mlp_out")


def test_saelens_before_version_6(tmp_path: Path) -> None:
    old = {
        "metadata": None, "model_name": "gpt2-small", "hook_point": "blocks.0.hook_resid_pre",
        "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "normalize_activations": None,
    }  # fmt: skip
    path = tmp_path / "cfg.json"
    with pytest.raises(BadFile):
        saelens(tmp_path, old | {"metadata": 3})
    saelens_config = {key: value for key, value in old.items() if key != "metadata"}
    path.write_text(json.dumps({"d_in": D, "d_sae": WIDTH} | saelens_config))
    tensors = {"W_enc": W_ENC, "b_enc": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC, "scaling_factor": torch.ones(WIDTH)}
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    found = load(tmp_path)
    assert torch.allclose(found.encode(acts()), kept((acts() - B_DEC) @ W_ENC + B_ENC), atol=1e-5)
    assert found.origin is not None
    assert found.origin.reads == "embed"
    save_file(tensors | {"scaling_factor": torch.full((WIDTH,), 2.0)}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(BadFile, match="scaling_factor of its own"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architecture": "temporal"}, "architecture 'temporal'.*convert it to one of standard"),
        ({"architecture": "standard", "normalize_activations": "layer_norm"}, "rescales activations.*as they are"),
        ({"architecture": "standard", "normalize_activations": "expected_average_only_in"}, "fold the factor"),
        ({"architecture": "transcoder", "d_out": D, "apply_b_dec_to_input": True}, "input of a transcoder"),
        ({"architecture": "topk"}, "gives k as 'None'"),
        ({"architecture": "topk", "k": WIDTH + 1}, f"k = {WIDTH + 1} active latents"),
    ],
)
def test_saelens_says_what_it_cannot_be(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(BadFile, match=said):
        saelens(tmp_path, config)


# -- dictionary_learning ---------------------------------------------------------------------------------------


def learned(folder: Path, trainer: dict[str, Any], state: dict[str, torch.Tensor]) -> Dictionary:
    torch.save(state, folder / "ae.pt")
    head = {"activation_dim": D, "dict_size": WIDTH, "lm_name": "EleutherAI/pythia-70m-deduped", "layer": 3,
            "submodule_name": "resid_post_layer_3"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"trainer": head | trainer, "buffer": {"ctx_len": 128}}))
    found = load(folder)
    assert isinstance(found, Dictionary)
    return found


LINEAR = {"encoder.weight": W_ENC.T.contiguous(), "encoder.bias": B_ENC, "decoder.weight": W_DEC.T.contiguous()}
BUFFERS = {"k": torch.tensor(K, dtype=torch.int32), "threshold": torch.tensor(0.9)}
PLAIN = {"W_enc": W_ENC, "b_enc": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC}
PRE, BARE = (acts() - B_DEC) @ W_ENC + B_ENC, acts() @ W_ENC + B_ENC
CLASSES: dict[str, tuple[dict[str, torch.Tensor], dict[str, Any], torch.Tensor]] = {
    "AutoEncoder": (LINEAR | {"bias": B_DEC}, {}, PRE.relu()),
    "AutoEncoderNew": (LINEAR | {"decoder.bias": B_DEC}, {}, BARE.relu()),
    "AutoEncoderTopK": (LINEAR | {"b_dec": B_DEC} | BUFFERS, {"k": K}, kept(PRE)),
    "BatchTopKSAE": (LINEAR | {"b_dec": B_DEC} | BUFFERS, {"k": K}, PRE * (PRE > 0.9)),
    "MatryoshkaBatchTopKSAE": (PLAIN | BUFFERS | {"group_sizes": torch.tensor([4, 6])}, {"k": K}, PRE * (PRE > 0.9)),
    "JumpReluAutoEncoder": (PLAIN | {"threshold": THETA}, {}, (BARE * (BARE > THETA)).relu()),
}


@pytest.mark.parametrize("name", CLASSES)
def test_dictionary_learning_classes(tmp_path: Path, name: str) -> None:
    state, trainer, codes = CLASSES[name]
    found = learned(tmp_path, trainer | {"dict_class": name}, state)
    assert torch.allclose(found.encode(acts()), codes, atol=1e-5)
    assert torch.allclose(found.reconstruct(acts()), codes @ W_DEC + B_DEC, atol=1e-5)
    site = "layers.3.resid"
    assert found.origin == Origin("EleutherAI/pythia-70m-deduped", "", site, site)


def test_dictionary_learning_gated(tmp_path: Path) -> None:
    gate, magnitude, scale = drawn(WIDTH, seed=6), drawn(WIDTH, seed=7), 0.3 * drawn(WIDTH, seed=10)
    state = {"decoder_bias": B_DEC, "gate_bias": gate, "mag_bias": magnitude, "r_mag": scale}
    state |= {name: LINEAR[name] for name in ("encoder.weight", "decoder.weight")}
    found = learned(tmp_path, {"dict_class": "GatedAutoEncoder"}, state)
    raw = (acts() - B_DEC) @ W_ENC
    assert torch.allclose(found.encode(acts()), (raw + gate > 0) * (scale.exp() * raw + magnitude).relu(), atol=1e-5)


def test_a_threshold_that_was_never_set_is_a_relu(tmp_path: Path) -> None:
    state = LINEAR | {"b_dec": B_DEC} | BUFFERS | {"threshold": torch.tensor(-1.0)}
    found = learned(tmp_path, {"dict_class": "BatchTopKSAE", "k": K}, state)
    assert torch.allclose(found.encode(acts()), PRE.relu(), atol=1e-5)


@pytest.mark.parametrize(
    ("trainer", "change", "said"),
    [
        ({"dict_class": "Odd"}, {}, "names the class 'Odd'"),
        ({"k": K + 1}, {}, f"k = {K + 1} where ae.pt holds k = {K}"),
        ({"dict_size": 11}, {}, "10 latents of 6 units where config.json says 11 of 6"),
        ({}, {"extra": torch.ones(2)}, "holds 'extra', which nothing announced"),
        ({}, {"b_dec": torch.ones(7)}, r"'b_dec' of shape \[7\]"),
        ({}, {"b_dec": torch.full((D,), float("nan"))}, "NaN or infinite numbers in 'b_dec'"),
        ({}, {"k": torch.tensor([1, 2])}, r"'k' of shape \[2\]"),
        ({}, {"encoder.weight": torch.ones(3)}, r"encoder of shape \[3\]"),
        ({}, {"decoder.weight": W_DEC}, r"'decoder.weight' of shape \[10, 6\]"),
    ],
)
def test_dictionary_learning_says_what_does_not_fit(
    tmp_path: Path, trainer: dict[str, Any], change: dict[str, torch.Tensor], said: str
) -> None:
    with pytest.raises(BadFile, match=said):
        learned(
            tmp_path, {"dict_class": "BatchTopKSAE", "k": K} | trainer, LINEAR | {"b_dec": B_DEC} | BUFFERS | change
        )


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoder"}}))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "ae.pt")
    with pytest.raises(BadFile, match="nothing was run"):
        load(tmp_path)


# -- sparsify --------------------------------------------------------------------------------------------------


def sparsified(folder: Path, config: dict[str, Any], **tensors: torch.Tensor) -> Dictionary:
    folder.mkdir()
    base = {"encoder.weight": W_ENC.T.contiguous(), "encoder.bias": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC} | tensors
    save_file(base, folder / "sae.safetensors")
    head = {"activation": "topk", "expansion_factor": 32, "num_latents": WIDTH, "k": K, "d_in": D, "multi_topk": False}
    (folder / "cfg.json").write_text(json.dumps(head | config))
    found = load(folder)
    assert isinstance(found, Dictionary)
    return found


def test_sparsify_sae(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model": "HuggingFaceTB/SmolLM2-135M"}))
    found = sparsified(tmp_path / "layers.5", {"normalize_decoder": True})
    assert torch.allclose(found.encode(acts()), kept(PRE), atol=1e-5)
    assert torch.allclose(found.reconstruct(acts()), kept(PRE) @ W_DEC + B_DEC, atol=1e-5)
    assert found.origin == Origin("HuggingFaceTB/SmolLM2-135M", "", "layers.5.resid", "layers.5.resid")


def test_sparsify_skip_transcoder(tmp_path: Path) -> None:
    skip = drawn(D, D, seed=4)
    found = sparsified(tmp_path / "layers.5.mlp", {"transcode": True, "skip_connection": True}, W_skip=skip)
    assert torch.allclose(found.reconstruct(acts()), kept(BARE) @ W_DEC + B_DEC + acts() @ skip.T, atol=1e-5)
    assert found.origin is not None
    assert (found.origin.reads, found.origin.writes) == ("layers.5.mlp_in", "layers.5.mlp_out")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"activation": "groupmax"}, "groupmax"),
        ({"gram_lookup": True}, "uses 'gram_lookup'"),
        ({"num_latents": 0, "expansion_factor": 2}, r"where \[12, 6\]"),
        ({"skip_connection": True}, "lacks 'W_skip'"),
        ({"transcode": "yes"}, "neither true nor false"),
        ({"num_latents": 2**40}, "no size"),
    ],
)
def test_sparsify_says_what_does_not_fit(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(BadFile, match=said):
        sparsified(tmp_path / "layers.0", config)
