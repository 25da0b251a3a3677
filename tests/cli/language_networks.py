"""Small language networks of "a user's own code", for ``module:FILE.py:FUNCTION``."""

import torch
import transformers
from torch import nn

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32, "vocab_size": 50,
}  # fmt: skip


def causal() -> nn.Module:
    """Two random Llama blocks with grouped queries."""
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2)).eval()


def encoder() -> nn.Module:
    """Two random BERT blocks."""
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(**SIZES)).eval()
