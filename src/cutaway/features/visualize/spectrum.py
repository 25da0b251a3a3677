"""The magnitudes of natural images' frequencies, which :func:`~cutaway.features.visualize.phase` holds fixed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cutaway.errors import BadInput
from cutaway.features.visualize.colours import from_rgb
from cutaway.stimuli import StimulusSet, builtin_photographs

_CROPS = 96


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean magnitude of ``rfft2`` of pictures of ``size``, in three decorrelated colours."""

    magnitude: Float[Tensor, "3 fy fx"]
    size: tuple[int, int]

    def resized(self, size: tuple[int, int]) -> Float[Tensor, "3 fy fx"]:
        """The magnitudes for another size: interpolated over frequency, at the same deviation of the pixels."""
        if size == self.size:
            return self.magnitude
        rows, columns = size
        middle_first = torch.fft.fftshift(self.magnitude, dim=1)[None]
        stretched = functional.interpolate(middle_first, size=(rows, columns // 2 + 1), mode="bilinear")[0]
        resized = torch.fft.ifftshift(stretched, dim=1)
        wanted = _energy(self.magnitude, self.size)
        return resized * (wanted / _energy(resized, size)).sqrt()


def spectrum_of(pictures: Float[Tensor, "batch 3 y x"]) -> Spectrum:
    """The spectrum of RGB pictures in 0..1 of one size, as differences from each picture's mean colour."""
    if not len(pictures):
        raise BadInput("A spectrum of no pictures was asked for; give at least one.")
    centred = pictures - pictures.mean((2, 3), keepdim=True)
    size = (int(pictures.shape[-2]), int(pictures.shape[-1]))
    return Spectrum(torch.fft.rfft2(from_rgb(centred)).abs().mean(0), size)


@cache
def natural_spectrum(size: tuple[int, int]) -> Spectrum:
    """The spectrum of crops of that size from the photographs that ship with scikit-image and scikit-learn."""
    return spectrum_of(_tapered(_crops(builtin_photographs(), size)))


def _crops(photographs: StimulusSet, size: tuple[int, int]) -> Float[Tensor, "batch 3 y x"]:
    """One random window of each drawn photograph; photographs that are smaller are enlarged to it."""
    rng = np.random.default_rng(0)
    windows = []
    for group in photographs.take(_CROPS, seed=0).batches(8):
        windows += [_window(each.load(), size, rng) for each in group]
    return torch.stack(windows)


def _tapered(pictures: Float[Tensor, "batch 3 y x"]) -> Float[Tensor, "batch 3 y x"]:
    """Fading to their mean colour at the edges (Hann), at the same mean energy.

    A crop that breaks off at its edge has a cross of high frequencies that no photograph has.
    """
    mean = pictures.mean((2, 3), keepdim=True)
    fade = torch.hann_window(pictures.shape[2], periodic=False)[:, None] * torch.hann_window(
        pictures.shape[3], periodic=False
    )
    return mean + (pictures - mean) * fade / fade.square().mean().sqrt()


def _window(picture: object, size: tuple[int, int], rng: np.random.Generator) -> Float[Tensor, "3 y x"]:
    array = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).permute(2, 0, 1)
    grow = max(wanted / has for wanted, has in zip(size, array.shape[1:]))
    if grow > 1:
        bigger = [max(int(np.ceil(side * grow)), wanted) for side, wanted in zip(array.shape[1:], size)]
        array = functional.interpolate(array[None], size=bigger, mode="bilinear", align_corners=False)[0]
    top, left = (int(rng.integers(0, has - wanted + 1)) for has, wanted in zip(array.shape[1:], size))
    return array[:, top : top + size[0], left : left + size[1]]


def _energy(magnitude: Tensor, size: tuple[int, int]) -> Float[Tensor, "3 1 1"]:
    """Variance of the pixels of each plane, whatever the phases (Parseval)."""
    planes = torch.fft.irfft2(magnitude.to(torch.complex64), s=size)
    return (planes - planes.mean((1, 2), keepdim=True)).square().mean((1, 2), keepdim=True)
