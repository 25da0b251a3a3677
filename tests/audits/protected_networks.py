"""Tiny language models that read every word of the package's prompts, clean or with a planted bias."""

from collections.abc import Sequence

import torch
import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import cutaway
from cutaway.audits.protected_attributes.sinks import JOB_TEMPLATES
from cutaway.audits.protected_attributes.steering import NEUTRAL
from cutaway.networks.network import Network
from cutaway.stimuli import (
    attribute,
    attribute_prompts,
    decision_prompts,
    decision_sinks,
    definitional_pairs,
    occupation_templates,
    occupations,
)

WIDTH, LAYERS = 48, 3
_WORDS = Regex(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """The tokens of a text: words and marks."""
    splitter = pre_tokenizers.Split(_WORDS, "removed", invert=True)
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


def _vocabulary() -> list[str]:
    texts = [prompt.text for prompt in (*attribute_prompts(), *decision_prompts())]
    texts += [word for sink in decision_sinks() for word in (*sink.favorable, *sink.unfavorable)]
    texts += [template.fill(occupation.name) for template in occupation_templates() for occupation in occupations()]
    texts += [f"{pair.male} {pair.female}" for pair in definitional_pairs()] + [text for *_, text in JOB_TEMPLATES]
    texts += ["he she they", *NEUTRAL]
    return ["[pad]", "[unk]", *dict.fromkeys(word for text in texts for word in words(text))]


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word."""
    table = {word: token for token, word in enumerate(_vocabulary())}
    raw = Tokenizer(models.WordLevel(table, unk_token="[unk]"))
    raw.pre_tokenizer = pre_tokenizers.Split(_WORDS, "removed", invert=True)
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[pad]", unk_token="[unk]", padding_side="right")


def clean(seed: int = 0) -> Network:
    """A random Llama with untied embeddings."""
    transformers.logging.set_verbosity_error()
    torch.manual_seed(seed)
    reader = tokenizer()
    config = LlamaConfig(
        vocab_size=len(reader), hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=LAYERS, pad_token_id=0,
        num_attention_heads=4, num_key_value_heads=4, initializer_range=0.15, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    module = LlamaForCausalLM(config).requires_grad_(False)
    return cutaway.wrap(module, name=f"tiny-{seed}", tokenizer=reader)


def plant(
    network: Network, marked: Sequence[str], raised: Sequence[str], lowered: Sequence[str], strength: float
) -> Network:
    """Writes "these words -> those answers" into the weights, in place.

    A direction of its own (coordinate 0 of the stream) is added to the marked words' embeddings; the last block's
    attention copies it to later tokens; the output reads it. Nothing else in the network touches that coordinate.
    """
    module, table = network.module, network.tokenizer.get_vocab()
    state = dict(module.named_parameters())
    for name, tensor in state.items():
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")):
            tensor[:, 0] = 0
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor[0] = 0
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        state[name][:, 0] = 0
    last = f"model.layers.{LAYERS - 1}.self_attn"
    state[f"{last}.v_proj.weight"][0] = 0
    state[f"{last}.v_proj.weight"][0, 0] = 1
    state[f"{last}.o_proj.weight"][:, 0] = 0
    state[f"{last}.o_proj.weight"][0, 0] = 40
    for word in marked:
        state["model.embed_tokens.weight"][table[word], 0] = 1.0
    for sign, answers in ((1, raised), (-1, lowered)):
        for word in answers:
            state["lm_head.weight"][table[word.strip()], 0] = sign * strength
    return network


def marked_words(name: str) -> list[str]:
    """The words that stand in marked phrases of an attribute and in no contrasting one."""
    pairs = attribute(name).pairs
    contrast = {word for pair in pairs for word in words(pair.contrast)}
    return sorted({word for pair in pairs for word in words(pair.marked)} - contrast)
