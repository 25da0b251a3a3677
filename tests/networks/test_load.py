"""Loading: what a name may be, what each kind gives, and one clear sentence for everything that is none of them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

import cutaway
from cutaway.errors import BadFile, BadInput, Unavailable, UnknownName
from tests.networks.tiny import SIZES, convnet, transformer, vit


def saved(module: torch.nn.Module, folder: Path, **options: object) -> Path:
    module.save_pretrained(folder, **options)  # type: ignore[operator]
    return folder


def word_tokenizer(folder: Path) -> None:
    """A tokenizer of fifty whole words, in the folder's files."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<unk>": 0, "<pad>": 1, "the": 2, "cat": 3, "sat": 4, **{f"w{i}": i for i in range(5, 50)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")
    fast.save_pretrained(folder)


@pytest.fixture
def language_folder(tmp_path: Path) -> Path:
    folder = saved(transformer("llama"), tmp_path / "little")
    word_tokenizer(folder)
    return folder


def test_a_local_language_model_runs_on_texts(language_folder: Path) -> None:
    network = cutaway.load(str(language_folder))
    run = network.run(["the cat sat", "the cat"], logits="last")
    assert (network.name, network.family, network.task, network.modality) == ("little", "llama", "causal-lm", "text")
    assert run.logits.shape == (2, 1, 50)
    assert run.batch.mask is not None and run.batch.mask.sum(1).tolist() == [3, 2]
    assert torch.equal(run.logits[0, 0], network.run(["the cat sat"]).logits[0, -1])


def test_a_single_weight_file_beside_its_configuration(language_folder: Path) -> None:
    assert cutaway.load(language_folder / "model.safetensors").task == "causal-lm"


def test_a_local_encoder_and_an_image_classifier(tmp_path: Path) -> None:
    encoder = cutaway.load(saved(transformer("bert"), tmp_path / "encoder"))
    assert (encoder.task, encoder.family) == ("encoder", "bert")
    folder = saved(vit(), tmp_path / "classifier")
    size = {"height": 32, "width": 32}
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {"do_resize": True, "size": size, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_rescale": True}
        )
    )
    classifier = cutaway.load(folder)
    from PIL import Image

    assert (classifier.task, len(classifier.labels)) == ("classifier", 2)
    assert classifier.run([Image.new("RGB", (80, 60))]).logits.shape == (1, 2)


def test_weights_that_do_not_fill_the_network(language_folder: Path) -> None:
    weights = language_folder / "model.safetensors"
    from safetensors.torch import load_file

    tensors = load_file(weights)
    tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, weights)
    with pytest.raises(BadFile, match="1 missing"):
        cutaway.load(language_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 10**9}, "parameters"),
        ({"vocab_size": 10**12}, "parameters"),
        ({"num_hidden_layers": 10**9}, "layers"),
        ({"num_hidden_layers": "many"}, "config.json"),
        ({"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"}, "run code of its own"),
        ({"model_type": "nothing-known"}, "cannot be read"),
    ],
)
def test_hostile_configurations(language_folder: Path, change: dict, message: str) -> None:
    path = language_folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadFile, match=message):
        cutaway.load(language_folder)


def test_truncated_weights(language_folder: Path) -> None:
    weights = language_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BadFile, match=r"model\.safetensors"):
        cutaway.load(language_folder)


def test_a_pickle_that_wants_to_execute(language_folder: Path, tmp_path: Path) -> None:
    import os
    import pickle

    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    (language_folder / "model.safetensors").unlink()
    (language_folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Evil()}))
    with pytest.raises(BadFile):
        cutaway.load(language_folder)
    assert not (tmp_path / "executed").exists()


def test_folders_without_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no config\.json"):
        cutaway.load(tmp_path)
    transformers.LlamaConfig(**SIZES).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="no weights"):
        cutaway.load(tmp_path)


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(UnknownName, match="vgg16-hed"):
        cutaway.load("vgg16-hde")
    with pytest.raises(UnknownName, match="smollm2-135m"):
        cutaway.load("smollm2")


def test_a_hub_id_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Unavailable, match="nobody/nothing"):
        cutaway.load("nobody/nothing")


def test_a_state_dict_of_a_known_architecture(tmp_path: Path) -> None:
    from cutaway.networks.zoo.hed import VGG16HED

    torch.manual_seed(0)
    module = VGG16HED().eval()
    save_file(module.state_dict(), tmp_path / "mine.safetensors")
    network = cutaway.load(tmp_path / "mine.safetensors")
    images = torch.zeros(1, 3, 32, 32)
    assert network.family == "hed" and torch.equal(network.run(images).logits, module(images))


def test_weights_without_an_architecture(tmp_path: Path) -> None:
    save_file(convnet().state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(BadInput, match="no architecture"):
        cutaway.load(tmp_path / "weights.safetensors")


CODE = """
from torch import nn
def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
def wrong():
    return 3
def fails():
    raise ValueError("my own mistake")
"""


def test_local_code_is_run_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    said: list[str] = []
    network = cutaway.load(f"module:{path}:build", progress=said.append)
    assert [site.name for site in network.sites()] == ["0", "1"]
    assert any("your own code" in sentence for sentence in said) and "local code" in network.notes[0]
    with pytest.raises(BadInput, match="returned int"):
        cutaway.load(f"module:{path}:wrong")
    with pytest.raises(BadInput, match="my own mistake"):
        cutaway.load(f"module:{path}:fails")
    with pytest.raises(UnknownName, match="did you mean build"):
        cutaway.load(f"module:{path}:biuld")
    with pytest.raises(BadInput, match="not there"):
        cutaway.load("module:nowhere.py:build")
    with pytest.raises(BadInput, match="FUNCTION"):
        cutaway.load("module:nowhere.py")


def test_devices_and_types() -> None:
    network = cutaway.load(convnet(), dtype="bfloat16")
    assert next(network.module.parameters()).dtype is torch.bfloat16
    assert network.run(torch.zeros(1, 3, 8, 8)).logits.dtype is torch.bfloat16
    with pytest.raises(BadInput, match="use cpu"):
        cutaway.load(convnet(), device="warp-drive")
    with pytest.raises(BadInput, match="use float32"):
        cutaway.load(convnet(), dtype="float3")


@pytest.mark.slow  # dequantizes 135 M parameters into the cache: half a minute
def test_a_gguf_file_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded network's own GGUF file under another name loads to the same weights as the zoo's."""
    from cutaway.networks.zoo.cache import source_folder
    from cutaway.networks.zoo.catalogue import ZOO

    source = next(iter(source_folder(ZOO["smollm2-135m"]).glob("*.gguf")), None)
    if source is None:
        pytest.skip("the embedded language model is not in the cache")
    shutil.copy(source, tmp_path / "other-name.gguf")
    network = cutaway.load(tmp_path / "other-name.gguf")
    assert network.fingerprint == cutaway.load("smollm2-135m").fingerprint
    assert any("GGUF" in note for note in network.notes)
