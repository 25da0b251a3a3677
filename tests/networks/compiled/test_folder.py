"""Folders: given networks answer as their programs do, ours come back as they went, hostile ones are one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import cutaway
from cutaway.errors import BadFile, UnknownName
from cutaway.networks.compiled import PROGRAMS, CompiledTransformer, save
from tests.networks.compiled.helpers import answers, random_module

GIVEN = ("frac_prevs", "hist", "reverse")


@pytest.mark.data
@pytest.mark.parametrize("name", GIVEN)
def test_given_networks_load_and_answer_as_recorded(name: str, data_dir: Path) -> None:
    folder = data_dir / "compiled" / name
    network = cutaway.load(str(folder))
    assert (network.name, network.family, network.task, network.modality) == (name, "compiled", "compiled", "text")
    module = network.module
    assert isinstance(module, CompiledTransformer)
    examples = json.loads((folder / "io.json").read_text())["examples"]
    found = answers(module, [example["tokens"] for example in examples])
    for example, row in zip(examples, found):
        assert network.tokenizer.encode(example["tokens"]) == example["ids"]
        assert all(module.spec.output.agrees(a, b) for a, b in zip(row, example["expected"]))
        assert row == pytest.approx(example["network"], abs=1e-5)
    assert sum(len(row) for row in found) > 100


def test_a_network_comes_back_from_its_folder_bit_for_bit(tmp_path: Path) -> None:
    for place, changes in enumerate(({}, {"layer_norm": True}, {"mlp_hidden": 0, "layer_norm": True, "causal": False})):
        module = random_module(**changes)
        save(module, tmp_path / str(place))
        back = cutaway.load(tmp_path / str(place))
        assert back.module.spec == module.spec
        ids = torch.tensor([[3, 0, 1, 2]])
        assert torch.equal(back.run(ids).logits, module(ids))
        assert not any(parameter.requires_grad for parameter in back.module.parameters())


def test_numbers_may_be_words_and_mlps_may_be_empty(tmp_path: Path) -> None:
    """Programs over numbers have numbers in their vocabulary; exporters write an MLP of no neurons as empty tensors."""
    save(random_module(mlp_hidden=0), tmp_path)
    reconfigure(tmp_path, vocab=[1, 2, 3, "<bos>"])
    empty = {"linear_1.weight": (0, 12), "linear_1.bias": (0,), "linear_2.weight": (12, 0), "linear_2.bias": (12,)}
    added = {f"layers.{layer}.mlp.{name}": torch.zeros(shape) for layer in (0, 1) for name, shape in empty.items()}
    spoil(tmp_path, lambda tensors: tensors.update(added))
    network = cutaway.load(tmp_path)
    assert network.tokenizer.encode([1, 3]) == network.tokenizer.encode("1 3") == [3, 0, 2]
    assert torch.equal(network.run(["1 3"]).logits, random_module(mlp_hidden=0)(torch.tensor([[3, 0, 2]])))
    spoil(tmp_path, lambda tensors: tensors["layers.1.mlp.linear_2.bias"].fill_(1.0))
    with pytest.raises(BadFile, match=r"holds layers\.1\.mlp\.linear_2\.bias"):
        cutaway.load(tmp_path)


def test_weights_beside_their_configuration_are_enough(tmp_path: Path) -> None:
    save(random_module(), tmp_path / "net", torch.float16)
    network = cutaway.load(tmp_path / "net" / "weights.safetensors")
    assert network.family == "compiled"
    assert next(network.module.parameters()).dtype == torch.float32


def test_programs_are_loaded_by_name() -> None:
    network = cutaway.load("compiled:reverse")
    assert network.source == "compiled:reverse"
    run = network.run(["a b c"], capture=["layers.0.attn.pattern"])
    assert network.module.spec.output.decode(run.logits[0, 1:]) == ["c", "b", "a"]
    with torch.no_grad():
        network.module.unembed.weight.zero_()
    assert cutaway.load("compiled:reverse").module.answer("a b c") == ["c", "b", "a"], "each load has its own weights"
    with pytest.raises(UnknownName, match="compiled network named 'revers'; did you mean reverse"):
        cutaway.load("compiled:revers")
    assert len(PROGRAMS) >= 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(random_module(), tmp_path / "net")
    return tmp_path / "net"


def reconfigure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no size": ({"d_model": "12"}, "d_model = '12'; it must be a whole number"),
    "true as a size": ({"num_heads": True}, "num_heads = True"),
    "a size below nothing": ({"key_size": -4}, "key_size = -4"),
    "a size beyond all": ({"mlp_hidden": 10**18}, "mlp_hidden = 1000000000000000000"),
    "more layers than weights": ({"num_layers": 10**6}, "asks for the tensor layers.2.attn.query.weight"),
    "fewer layers than weights": ({"num_layers": 1}, "holds layers.1"),
    "a width that is not there": ({"d_model": 13}, "token_embed.weight of shape"),
    "other heads": ({"num_heads": 6}, "attn.query.weight of shape"),
    "a word twice": ({"vocab": ["a", "a", "b", "<bos>"]}, "the words must be different"),
    "lists as words": ({"vocab": [[1], 2, 3, 4]}, "vocab = .*it must be a list of texts or numbers"),
    "BOS outside": ({"bos_id": 4}, "bos_id = 4; it must be a whole number from 0 to 3"),
    "another activation": ({"activation": "gelu"}, "activation = 'gelu'; only 'relu' can be run"),
    "another scale": ({"attention_scale": "1"}, "only '1/sqrt"),
    "no output": ({"output": None}, "output = None; its kind must be"),
    "an unknown output": ({"output": {"kind": "picture"}}, "its kind must be"),
    "outputs that are no words": ({"output": {"kind": "categorical", "values": [[]]}}, "words and numbers"),
    "too few outputs": ({"output": {"kind": "categorical", "values": ["a"]}, "num_outputs": 1}, "unembed.weight"),
    "outputs miscounted": ({"num_outputs": 3}, "contradicts itself: 3 outputs for 4"),
    "labels miscounted": ({"residual_labels": ["a"]}, "1 residual labels for 12 dimensions"),
    "a tolerance without bound": ({"output": {"kind": "numerical", "tolerance": "inf"}}, "tolerance must be a number"),
    "an unknown task": ({"task": "chess"}, "it must be one of compiled, causal-lm"),
    "causal by hearsay": ({"causal": "yes"}, "it must be true or false"),
    "norms that are not there": ({"layer_norm": True}, "layers.0.norm1.weight"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_configuration_is_one_sentence(case: str, folder: Path) -> None:
    changes, message = HOSTILE[case]
    reconfigure(folder, **changes)
    with pytest.raises(BadFile, match=message):
        cutaway.load(folder)


def spoil(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "weights.safetensors")
    change(tensors)
    save_file(tensors, folder / "weights.safetensors")


def test_weights_that_do_not_belong_are_one_sentence(folder: Path) -> None:
    spoil(folder, lambda tensors: tensors.update(extra=torch.zeros(3)))
    with pytest.raises(BadFile, match=r"holds extra, which config\.json does not ask for"):
        cutaway.load(folder)
    spoil(folder, lambda tensors: tensors.pop("extra"))
    spoil(folder, lambda tensors: tensors["unembed.weight"].fill_(float("nan")))
    with pytest.raises(BadFile, match=r"unembed\.weight that are no finite numbers"):
        cutaway.load(folder)
    (folder / "weights.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(BadFile):
        cutaway.load(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(BadFile, match=r"holds no weights\.safetensors"):
        cutaway.load(folder)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", '{"architecture": ["TracrTransformer"]}', "\xff"])
def test_a_broken_configuration_is_an_error_of_ours(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(BadFile):
        cutaway.load(folder)
