"""Groups of picture transformations under which units may form families."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cutaway.errors import UnknownName

ROTATIONS, SCALES, HUES = 24, 9, 12
GREY = 0.5


@dataclass(frozen=True)
class Group:
    """Transformations of pictures with an order: ``apply(pictures, index)`` for index 0 (identity) to ``size - 1``.

    ``cyclic``: index + index is taken modulo ``size`` (rotations, hues); otherwise indices add up and end (scales).
    ``step`` says what one index is: degrees of rotation, octaves of scale, degrees of hue.
    """

    name: str
    size: int
    cyclic: bool
    step: float
    apply: Callable[[Tensor, int], Tensor]
    spatial: bool = True

    @property
    def period(self) -> float:
        """A full turn in ``step``'s unit."""
        return self.size * self.step


def group(name: str) -> Group:
    """``rotation`` (24 steps of 15 degrees, counter-clockwise), ``scale`` (9 quarter octaves) or ``hue`` (12 steps)."""
    made = {"rotation": rotations, "scale": scales, "hue": hues}
    if name not in made:
        raise UnknownName("group of transformations", name, made)
    return made[name]()


def rotations(steps: int = ROTATIONS) -> Group:
    """Rotations about the middle, counter-clockwise as seen."""
    return Group("rotation", steps, True, 360 / steps, lambda pictures, index: rotated(pictures, index * 360 / steps))


def scales(steps: int = SCALES) -> Group:
    """Magnifications about the middle, a quarter octave apart; index 0 is the picture as it is."""
    return Group("scale", steps, False, 0.25, lambda pictures, index: _warped(pictures, 0.0, 2 ** (index / 4)))


def hues(steps: int = HUES) -> Group:
    """Rotations of colour about the grey axis (1, 1, 1)."""
    return Group("hue", steps, True, 360 / steps, lambda p, index: hue_turned(p, index * 360 / steps), spatial=False)


def rotated(pictures: Float[Tensor, "n channel y x"], degrees: float) -> Float[Tensor, "n channel y x"]:
    """Pictures turned counter-clockwise about their middle, bilinear; what comes from outside is reflected."""
    quarter = round(degrees / 90)
    if abs(degrees - 90 * quarter) < 1e-9 and pictures.shape[-1] == pictures.shape[-2]:
        return torch.rot90(pictures, quarter % 4, (-2, -1))
    return _warped(pictures, degrees, 1.0)


def mirrored(pictures: Float[Tensor, "n channel y x"]) -> Float[Tensor, "n channel y x"]:
    """Pictures with left and right exchanged."""
    return pictures.flip(-1)


def _warped(pictures: Tensor, degrees: float, magnify: float) -> Tensor:
    angle = np.deg2rad(degrees)
    c, s = float(np.cos(angle)) / magnify, float(np.sin(angle)) / magnify
    # affine_grid maps output to input coordinates with y downwards: turning the picture one way reads it the other.
    matrix = torch.tensor([[c, -s, 0.0], [s, c, 0.0]], dtype=pictures.dtype, device=pictures.device)
    grid = functional.affine_grid(matrix.expand(len(pictures), 2, 3), list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def hue_turned(pictures: Float[Tensor, "n 3 y x"], degrees: float) -> Float[Tensor, "n 3 y x"]:
    """Colours turned about the grey axis by Rodrigues' formula, saturation halved so that none leaves the RGB cube."""
    axis = torch.full((3,), 3**-0.5, dtype=pictures.dtype)
    cross = torch.tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.deg2rad(degrees)
    outer = axis[:, None] * axis
    turn = float(np.cos(angle)) * torch.eye(3) + float(np.sin(angle)) * cross + (1 - float(np.cos(angle))) * outer
    grey = pictures.mean(1, keepdim=True)
    muted = grey + 0.5 * (pictures - grey)
    return torch.einsum("oc,ncyx->noyx", turn.to(pictures), muted).clamp(0, 1)
