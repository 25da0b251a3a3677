"""Small networks with bases of their sites."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from cutaway.bases import Linear, Origin, neurons, random_directions
from cutaway.networks import Network, wrap

BOS = 1


class Words:
    """``"w7 w8"`` is tokens 7 and 8 behind a first token 1; padding (0) is on ``side``."""

    pad_token_id = 0

    def __init__(self, side: str = "right") -> None:
        self.side = side

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [BOS] * add_special_tokens + [int(word[1:]) for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        return f" {'abcdefgh'[ids[0] % 8]}word"

    def __call__(self, texts: list[str], **_: Any) -> dict[str, Tensor]:
        rows = [self.encode(text) for text in texts]
        most = max(map(len, rows))
        ids, mask = [], []
        for row in rows:
            gap = [0] * (most - len(row))
            ids.append(gap + row if self.side == "left" else row + gap)
            mask.append(gap + [1] * len(row) if self.side == "left" else [1] * len(row) + gap)
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def language(side: str = "right", seed: int = 0) -> Network:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32, vocab_size=60,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.4,
    )  # fmt: skip
    return wrap(transformers.LlamaForCausalLM(config).eval(), name="words", tokenizer=Words(side))


def texts(count: int = 10, words: int = 7) -> list[str]:
    rng = torch.Generator().manual_seed(4)
    return [
        " ".join(f"w{token}" for token in torch.randint(3, 60, (words + row % 3,), generator=rng).tolist())
        for row in range(count)
    ]


class Maps(nn.Module):
    """A convolution, a ReLU, and a readout that is linear in it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.late = nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.late(self.relu(self.first(images)))


def vision(task: str = "edges") -> Network:
    torch.manual_seed(0)
    return wrap(Maps(), name="maps", modality="tensor", task=task, example=torch.zeros(1, 3, 8, 8))


def pictures(count: int = 6, side: int = 8) -> list[Tensor]:
    return list(torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3)))


def origin(network: Network, reads: str, writes: str | None = None) -> Origin:
    return Origin(network.name, network.fingerprint, reads, writes or reads)


def rough(network: Network, site: str, width: int = 24, *, name: str = "rough", seed: int = 0) -> Linear:
    """A basis that misses something: rectified random directions."""
    d = network.site(site).width or 0
    made = random_directions(d, width, seed=seed, origin=origin(network, site))
    return dataclasses.replace(made, positive=True, name=name)


def perfect(network: Network, site: str, name: str = "perfect") -> Linear:
    """The neurons themselves."""
    return dataclasses.replace(neurons(network.site(site).width or 0, origin(network, site)), name=name)


class Coder:
    """A transcoder: reads one site, writes another, with or without a linear by-pass."""

    def __init__(self, network: Network, reads: str, writes: str, *, width: int = 12, bypass: bool = True) -> None:
        rng = torch.Generator().manual_seed(7)
        d = [network.site(name).width or 0 for name in (reads, writes)]
        self.name, self.origin, self.width = "coder", origin(network, reads, writes), width
        self.read, self.write = (torch.randn(d[0], width, generator=rng), torch.randn(width, d[1], generator=rng))
        self.skip = 0.3 * torch.randn(d[0], d[1], generator=rng) if bypass else None

    def encode(self, acts: Tensor) -> Tensor:
        return (acts @ self.read).clamp(min=0)

    def decode(self, codes: Tensor) -> Tensor:
        return codes @ self.write + 0.5

    def directions(self) -> Tensor:
        return self.write

    def reconstruct(self, acts: Tensor) -> Tensor:
        made = self.decode(self.encode(acts))
        return made if self.skip is None else made + acts @ self.skip
