"""Small random movements that an image must survive while it is optimized.

Without them an image collects high-frequency patterns that only work at one place (Olah et al. 2017, "Feature
Visualization", "transformation robustness"). Pad, jitter, scale, rotate, jitter: all five are affine, so one matrix
holds them and the image is resampled once, for the whole batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cutaway.errors import BadInput

GRAY = 0.5
"""What lies outside the image."""


@dataclass(frozen=True)
class Transforms:
    """How far an image is moved: pixels of gray border, pixels of jitter before and after, scales, degrees.

    Jitter moves by up to half of its pixels each way and costs as many pixels of the border, so that the network sees
    ``side + 2 * pad - jitter - jitter_after`` pixels a side.
    """

    pad: int = 12
    jitter: int = 8
    scales: tuple[float, float] = (0.9, 1.1)
    degrees: float | int = 10.0
    jitter_after: int = 4

    def __post_init__(self) -> None:
        low, high = self.scales
        if min(self.pad, self.jitter, self.jitter_after, self.degrees) < 0 or not 0 < low <= high:
            raise BadInput(f"{self} was asked for; give pixels and degrees from 0 and scales (low, high) above 0.")

    def seen(self, side: int) -> int:
        """Pixels a side that the network sees of an image of ``side`` pixels; never less than half of them."""
        border = self.pad - math.ceil((self.jitter + self.jitter_after) / 2)
        return side + 2 * max(border, -(side // 4))

    def draw(self, generator: torch.Generator) -> Warp:
        """One random movement; the same generator state gives the same one."""
        before, after = (_shift(pixels, generator) for pixels in (self.jitter, self.jitter_after))
        scale, turn = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        low, high = self.scales
        return Warp(before, after, low + scale * (high - low), math.radians(self.degrees * (2 * turn - 1)), self)


NONE = Transforms(pad=0, jitter=0, scales=(1.0, 1.0), degrees=0.0, jitter_after=0)
WEAK = Transforms(pad=2, jitter=2, scales=(1.0, 1.0), degrees=0.0, jitter_after=2)
MODERATE = Transforms(pad=8, jitter=8, scales=(0.95, 1.05), degrees=5.0, jitter_after=8)
#: Lucid's amounts, but seen through a window of the image's own size: a wider gray border costs and shows nothing.
STRONG = Transforms(pad=6)
LUCID = Transforms()


def for_field(field: int | None) -> Transforms:
    """The default for a receptive field of so many pixels a side: small fields cannot bear much; None: a large one."""
    if field is None or field > 64:
        return STRONG
    return WEAK if field <= 16 else MODERATE


@dataclass(frozen=True)
class Warp:
    """One movement: ``warp(pixels)`` is what the network is shown."""

    before: tuple[int, int]  # right and down, pixels
    after: tuple[int, int]
    scale: float
    radians: float
    transforms: Transforms

    def matrix(self) -> Float[Tensor, "2 3"]:
        """From places in what is seen to places in the image, both in pixels from the middle (x right, y down)."""
        cos, sin = math.cos(self.radians) / self.scale, math.sin(self.radians) / self.scale
        turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
        shift = turn @ torch.tensor(self.after, dtype=torch.float64) + torch.tensor(self.before, dtype=torch.float64)
        return torch.cat([turn, shift[:, None]], dim=1)

    def __call__(self, pixels: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel yy xx"]:
        """The moved images; gray where they do not reach."""
        rows, columns = pixels.shape[-2:]
        seen = (self.transforms.seen(rows), self.transforms.seen(columns))
        # affine_grid counts in halves of a side; our matrix counts in pixels.
        inner = torch.tensor([2 / columns, 2 / rows], dtype=torch.float64)
        outer = torch.tensor([seen[1] / 2, seen[0] / 2, 1.0], dtype=torch.float64)
        theta = (inner[:, None] * self.matrix() * outer).to(pixels)
        grid = functional.affine_grid(theta[None], [1, 1, *seen], align_corners=False)
        grid = grid.expand(len(pixels), -1, -1, -1)
        return functional.grid_sample(pixels - GRAY, grid, padding_mode="zeros", align_corners=False) + GRAY


def _shift(pixels: int, generator: torch.Generator) -> tuple[int, int]:
    most = pixels // 2
    right, down = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
    return int(right), int(down)
