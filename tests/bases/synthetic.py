"""Rows made of known features: what a dictionary ought to find."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Planted:
    """``rows = codes @ features + offset``: unit features, codes 0 or 0.5 to 1.5, each active with ``share``."""

    features: Tensor
    codes: Tensor
    rows: Tensor
    offset: Tensor


def planted(
    count: int = 20_000, *, features: int = 256, d: int = 64, share: float = 0.05, noise: float = 0.0, seed: int = 0
) -> Planted:
    """Independent features in random directions; ``noise`` is added to each unit of each row."""
    chance = torch.Generator().manual_seed(seed)
    truth = torch.randn(features, d, generator=chance)
    truth /= truth.norm(dim=1, keepdim=True)
    offset = 0.3 * torch.randn(d, generator=chance)
    active = torch.rand(count, features, generator=chance) < share
    codes = active * (0.5 + torch.rand(count, features, generator=chance))
    rows = codes @ truth + offset + noise * torch.randn(count, d, generator=chance)
    return Planted(truth, codes, rows, offset)
