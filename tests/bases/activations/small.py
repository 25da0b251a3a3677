"""A language model with a word for each token, and a convnet: small enough to count their rows by hand."""

from typing import Any

import torch
from torch import Tensor, nn

from cutaway.networks import Network, wrap

BOS, EOS = 1, 2
SITE, DEEP = "layers.0.mlp_out", "layers.1.resid"


class Words:
    """``"w7 w8"`` is tokens 7 and 8; a text begins with BOS (unless ``bos=False``) and padding is token 0."""

    bos_token_id, eos_token_id, pad_token_id = BOS, EOS, 0

    def __init__(self, bos: bool = True) -> None:
        self.bos = bos

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [BOS] * (self.bos and add_special_tokens) + [int(word[1:]) for word in text.split()]

    def __call__(self, texts: list[str], **_: Any) -> dict[str, Tensor]:
        rows = [self.encode(text) for text in texts]
        longest = max(map(len, rows))
        ids = [row + [0] * (longest - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def language(bos: bool = True, seed: int = 0) -> Network:
    import transformers  # slow to load, and processes that only see pictures need it not

    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    config = transformers.LlamaConfig(
        **sizes, vocab_size=60, num_key_value_heads=2, max_position_embeddings=64, bos_token_id=BOS, eos_token_id=EOS
    )
    return wrap(transformers.LlamaForCausalLM(config).eval(), name="words", tokenizer=Words(bos))


def texts(count: int = 12, words: int = 9) -> list[str]:
    """Texts of different lengths, no two alike."""
    rng = torch.Generator().manual_seed(0)
    return [
        " ".join(f"w{token}" for token in torch.randint(3, 60, (words + row % 4,), generator=rng).tolist())
        for row in range(count)
    ]


class Maps(nn.Module):
    """Two convolutions; the second sees the first through a ReLU and a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu = nn.Conv2d(3, 5, 3, padding=1), nn.ReLU()
        self.same, self.pool = nn.Conv2d(5, 4, 1), nn.MaxPool2d(2)
        self.late = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.late(self.pool(self.same(self.relu(self.first(images)))))


def vision() -> Network:
    torch.manual_seed(0)
    return wrap(Maps(), name="maps", modality="tensor", example=torch.zeros(1, 3, 8, 8))


def pictures(count: int = 10, side: int = 8) -> list[Tensor]:
    return list(torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3)))
