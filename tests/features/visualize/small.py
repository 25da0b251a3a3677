"""Small networks for which the best image is known, and random ones."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn

from cutaway.networks import Network, wrap
from cutaway.networks.preprocess import ImagePreprocess
from cutaway.stimuli import Stimulus, StimulusSet, content_id

COLOURS = ("red", "green", "blue", "bright", "never")


class ColourUnits(nn.Module):
    """Units that answer to red, green, blue (against the other two) and brightness; the last one never does."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.act = nn.ReLU(inplace)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Conv2d(5, 2, 1)
        mixes = [[2, -1, -1], [-1, 2, -1], [-1, -1, 2], [1, 1, 1], [0, 0, 0]]
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(mixes)[:, :, None, None].expand(-1, -1, 3, 3) / 27)
            self.conv.bias.zero_()
            self.conv.bias[4] = -1.0
            self.last.weight.fill_(0.1)

    def forward(self, x):
        return self.last(self.pool(self.act(self.conv(x))))


def colours(inplace: bool = False) -> Network:
    """:class:`ColourUnits` as an image network that sees 24 x 24 pixels in 0..1; sites conv, act, pool, last."""
    shown = ImagePreprocess(size=24)
    module = ColourUnits(inplace)
    return wrap(module, name="colours", preprocess=shown, example=torch.zeros(1, 3, 24, 24))


def deep() -> Network:
    """Three random convolutions with ReLU6 and a classifier, for 32 x 32 pixels."""
    torch.manual_seed(1)
    layers = [
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU6(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ]  # fmt: skip
    return wrap(nn.Sequential(*layers), name="deep", modality="image", example=torch.zeros(1, 3, 32, 32))


def flat(colour: tuple[int, int, int]) -> Stimulus:
    """A picture of one colour."""
    picture = Image.fromarray(np.full((24, 24, 3), colour, dtype=np.uint8))
    return Stimulus(content_id(repr(colour)), "image", f"{colour}", lambda: picture)


def pictures() -> StimulusSet:
    """Reds of five strengths, and one green and one blue picture."""
    reds = [flat((level, 0, 0)) for level in (51, 102, 153, 179, 204)]
    return StimulusSet("flat", [*reds, flat((0, 128, 0)), flat((0, 0, 128))])
