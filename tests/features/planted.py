"""Small networks whose features are known because they were written by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutaway.networks import Network, wrap
from cutaway.stimuli import Stimulus, StimulusSet, content_id

FAMILIES = ("red", "green", "upright", "level")


class Templates(nn.Module):
    """Four detectors (red, green, upright stripes, level stripes), then units that read them.

    Unit 0 answers to red alone, unit 1 to red or upright stripes, unit 2 is dead, the others mix all four at random.
    """

    def __init__(self, units: int = 30) -> None:
        super().__init__()
        self.detect = nn.Conv2d(3, 4, 4, stride=4)
        self.rect = nn.ReLU()
        self.mix = nn.Conv2d(4, units, 1)
        self.act = nn.ReLU()
        stripes = torch.tensor([1.0, -1.0, 1.0, -1.0])
        with torch.no_grad():
            self.detect.bias.zero_()
            self.detect.weight.zero_()
            self.detect.weight[0] += torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1) / 16
            self.detect.weight[1] += torch.tensor([-1.0, 1.0, -1.0]).view(3, 1, 1) / 16
            self.detect.weight[2] += stripes.expand(4, 4) / 24
            self.detect.weight[3] += stripes.expand(4, 4).T / 24
            mixing = torch.rand(units, 4, generator=torch.Generator().manual_seed(3))
            mixing[0] = torch.tensor([1.0, 0, 0, 0])
            mixing[1] = torch.tensor([1.0, 0, 1.0, 0])
            self.mix.weight.copy_(mixing[:, :, None, None])
            self.mix.weight[2] = -1
            self.mix.bias.zero_()
            self.mix.bias[2] = -1

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.mix(self.rect(self.detect(x))))


def templates(units: int = 30) -> Network:
    """:class:`Templates` as an image network; sites detect, rect, mix, act."""
    module = Templates(units)
    return wrap(module, name="templates", modality="image", example=torch.zeros(1, 3, 16, 16))


def pictures(each: int = 12, seed: int = 0) -> StimulusSet:
    """``each`` noisy 16 x 16 pictures of every family; the source begins with the family's name."""
    generator = torch.Generator().manual_seed(seed)
    stripes = torch.tensor([1.0, -1.0]).repeat(8)
    plain = {
        "red": torch.tensor([0.9, 0.1, 0.1]).view(3, 1, 1).expand(3, 16, 16),
        "green": torch.tensor([0.1, 0.9, 0.1]).view(3, 1, 1).expand(3, 16, 16),
        "upright": (0.5 + 0.4 * stripes.expand(16, 16)).expand(3, 16, 16),
        "level": (0.5 + 0.4 * stripes.expand(16, 16).T).expand(3, 16, 16),
    }
    made = []
    for family in FAMILIES:
        for number in range(each):
            picture = (plain[family] + 0.05 * torch.randn(3, 16, 16, generator=generator)).clamp(0, 1)
            made.append(stimulus(picture, f"{family} {number}"))
    return StimulusSet("planted pictures", made)


def fades(count: int = 40) -> StimulusSet:
    """Red pictures from black to full."""
    red = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).expand(3, 16, 16)
    return StimulusSet("fades", [stimulus(red * step / count, f"red {step}/{count}") for step in range(count + 1)])


def stimulus(tensor: Tensor, source: str) -> Stimulus:
    """A tensor under the id of its content."""
    return Stimulus(content_id(tensor.numpy().tobytes()), "tensor", source, lambda: tensor)


class Words:
    """A tokenizer of four-letter words over a small alphabet of them; unknown words are word 0."""

    words = ("zero", "<b>bold", "cats", "dogs", "runs", "eats", "fish", "tree", "&amp", "last")

    def __call__(self, texts: list[str], **_options: object) -> dict[str, Tensor]:
        rows = [[self.words.index(word) if word in self.words else 0 for word in text.split()] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": mask}

    def decode(self, ids: list[int]) -> str:
        return " " + self.words[ids[0]] if ids[0] < len(self.words) else f" w{ids[0]}"


def language_model(layers: int = 2, **changes: object) -> Network:
    """A tiny random Llama that reads :class:`Words`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
             "intermediate_size": 32, "vocab_size": 40, "max_position_embeddings": 64} | changes  # fmt: skip
    torch.manual_seed(0)
    return wrap(LlamaForCausalLM(LlamaConfig(**sizes)), name="tiny-llama", tokenizer=Words())


def texts(count: int = 24, words: int = 14, seed: int = 0) -> list[str]:
    """Random sentences of :class:`Words`."""
    draw = torch.randint(0, len(Words.words), (count, words), generator=torch.Generator().manual_seed(seed))
    return [" ".join(Words.words[i] for i in row) for row in draw.tolist()]
