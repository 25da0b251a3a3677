"""Between RGB and colours that are uncorrelated in photographs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_ROOT = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
#: Square root of the covariance of ImageNet's colours, its longest column scaled to 1 (Lucid's constants).
COLOURS = _ROOT / _ROOT.norm(dim=0).max()


def to_rgb(planes: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch 3 y x"]:
    """RGB differences from gray of three uncorrelated planes; a single plane is luminance, the same in all three."""
    if planes.shape[1] == 1:
        return planes.expand(-1, 3, -1, -1)
    return torch.einsum("rc,bcyx->bryx", COLOURS.to(planes), planes)


def from_rgb(differences: Float[Tensor, "batch 3 y x"]) -> Float[Tensor, "batch 3 y x"]:
    """The inverse of :func:`to_rgb`."""
    return torch.einsum("cr,bryx->bcyx", torch.linalg.inv(COLOURS.double()).to(differences), differences)
