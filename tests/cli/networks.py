"""Networks of "a user's own code", for ``module:FILE.py:FUNCTION``."""

import dataclasses
import time

import numpy as np
import torch
from torch import nn

from cutaway.networks import Network, wrap


def pixels(image: object) -> torch.Tensor:
    """An RGB image as a tensor of 16 by 16 pixels in [0, 1]."""
    small = image.convert("RGB").resize((16, 16))  # type: ignore[attr-defined]
    return torch.from_numpy(np.asarray(small, dtype="float32").copy() / 255).permute(2, 0, 1)


def image() -> Network:
    """Two convolutions and four classes, with random weights."""
    print("a line that somebody else's code prints")
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12 * 12, 4))
    return wrap(
        nn.Sequential(*layers), name="tiny", preprocess=pixels, task="classifier", example=torch.zeros(1, 3, 16, 16)
    )


def slow() -> Network:
    """The same, for which every image takes a tenth of a second."""

    def slowly(image: object) -> torch.Tensor:
        time.sleep(0.1)
        return pixels(image)

    return dataclasses.replace(image(), preprocess=slowly)


def tensors() -> nn.Module:
    """A module that takes tensors only."""
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def fails() -> nn.Module:
    """The user's own mistake."""
    raise ValueError("two and two is five")
