"""The prepared folders of the text networks load with transformers alone, and say what they should."""

import json

import pytest
import torch
from safetensors import safe_open

from cutaway.networks.files import validate_gguf
from cutaway.networks.files.gguf_file import _values
from cutaway.networks.files.reading import mapped
from cutaway.networks.zoo.cache import source_folder
from cutaway.networks.zoo.catalogue import entry
from tests.networks.zoo.fetched import folder

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_smollm2_loads_as_an_ordinary_folder_and_knows_paris():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = folder("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True)
    assert next(model.parameters()).dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    with torch.inference_mode():
        logits = model(**tokenizer("The capital of France is", return_tensors="pt")).logits[0, -1]
    best = int(logits.argmax())
    assert tokenizer.decode([best]) == " Paris"
    assert logits.softmax(0)[best] > 0.7
    text = "Hello  world's\n café 123 🙂"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert "<|im_start|>" in tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)


def test_smollm2_weights_are_those_of_the_gguf():
    """Two matrices through our own reader: one as it is, one up to llama.cpp's order of rows."""
    with safe_open(folder("smollm2-135m") / "model.safetensors", "pt") as prepared:
        up = prepared.get_tensor("model.layers.3.mlp.up_proj.weight")
        query = prepared.get_tensor("model.layers.0.self_attn.q_proj.weight")
    path = source_folder(entry("smollm2-135m")) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    stored = {tensor.name: tensor for tensor in validate_gguf(path).tensors}
    with mapped(path) as view:
        assert torch.equal(up, _values(view, stored["blk.3.ffn_up.weight"]))
        # llama.cpp interleaves the two halves of each head's rotary pairs: 9 heads of 64 rows.
        interleaved = _values(view, stored["blk.0.attn_q.weight"]).reshape(9, 32, 2, 576)
    assert torch.equal(query, interleaved.transpose(1, 2).reshape(576, 576))


def test_minilm_folder_is_complete_and_pools_by_the_mean():
    from transformers import AutoModel, AutoTokenizer

    path = folder("minilm-l6")
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModel.from_pretrained(path, local_files_only=True).eval()
    assert json.loads((path / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"]
    texts = ["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell sharply."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    similar = vectors @ vectors.T
    assert similar[0, 1] > 0.5 > 0.2 > similar[0, 2]
