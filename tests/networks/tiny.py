"""Tiny networks with random weights: one for each family."""

import torch
import transformers
from torch import nn

transformers.logging.set_verbosity_error()

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": 50,
}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2}


def _grouped() -> dict:
    return {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, **TOKENS}


def transformer(name: str) -> nn.Module:
    """A random transformer of the named architecture, two layers of width 16."""
    torch.manual_seed(0)
    t = transformers
    made = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, num_key_value_heads=2)),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**SIZES, num_key_value_heads=2)),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**SIZES, num_key_value_heads=2, **TOKENS)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**SIZES, **_grouped())),
        "gemma": lambda: t.GemmaForCausalLM(t.GemmaConfig(**SIZES, **_grouped())),
        "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**SIZES, **_grouped())),
        "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**SIZES, **_grouped())),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(n_embd=16, n_layer=2, n_head=4, vocab_size=50, **TOKENS)),
        "gpt_neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**SIZES)),
        "bert": lambda: t.BertModel(t.BertConfig(**SIZES)),
    }
    return made[name]().eval()


TRANSFORMERS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gpt2", "gpt_neox", "bert")


def vit() -> nn.Module:
    """A random vision transformer on 32x32 images in 8x8 patches."""
    torch.manual_seed(0)
    sizes = {key: value for key, value in SIZES.items() if key != "vocab_size"}
    return transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, image_size=32, patch_size=8)).eval()


def convnet(inplace: bool = False) -> nn.Module:
    """Two convolutions, a pool and a classifier."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=inplace), nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(inplace=inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
    ).eval()  # fmt: skip


def hook_count(module: nn.Module) -> int:
    """All forward hooks on a module and its parts."""
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())
