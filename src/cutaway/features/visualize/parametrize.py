"""What is varied when an image is optimized: Fourier coefficients, phases alone, or pixels; always RGB in 0..1.

Every item draws its start from a seed of its own, so that it does not depend on the rest of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.errors import UnknownName
from cutaway.features.visualize.colours import to_rgb
from cutaway.features.visualize.spectrum import Spectrum, natural_spectrum

START = 0.01
"""Standard deviation of the first coefficients (Lucid)."""
ALPHA_START = 0.0
"""Of the opacity before its sigmoid: half transparent everywhere."""


@dataclass(frozen=True, eq=False)
class Image:
    """A batch of images as a function of ``parameters``: ``rgb()`` and, where asked for, ``alpha()``, in 0..1."""

    parameters: tuple[Tensor, ...]
    rgb: Callable[[], Float[Tensor, "batch 3 y x"]]
    alpha: Callable[[], Float[Tensor, "batch 1 y x"]] | None = None

    def __len__(self) -> int:
        return len(self.parameters[0])


@dataclass(frozen=True)
class ImageSpec:
    """What is to be made: images of ``size`` (rows, columns), one for each of ``seeds``; gray and alpha or not."""

    size: tuple[int, int]
    seeds: tuple[int, ...]
    gray: bool = False
    alpha: bool = False
    device: torch.device | str = "cpu"

    def noise(self, channels: int, *shape: int, deviation: float = START, stream: int = 0) -> Tensor:
        """Normal numbers [batch channels *shape] that require gradients; ``stream`` tells draws of one seed apart."""
        rows = [_normal(seed, stream, (channels, *shape)) for seed in self.seeds]
        return (deviation * torch.stack(rows)).to(self.device).requires_grad_()


def fourier(spec: ImageSpec) -> Image:
    """Decorrelated Fourier coefficients: ``x = sigmoid(C irfft2(s * theta) / 4)``.

    ``s = sqrt(wh) / max(f, 1 / max(w, h))`` gives every frequency f the energy that it has in photographs, C
    decorrelates colours (Olah et al. 2017, "Feature Visualization", "preconditioning"). theta starts from
    N(0, 0.01 ** 2).
    """
    rows, columns = spec.size
    theta = _coefficients(spec, 1 if spec.gray else 3)
    scale = frequency_scale(spec.size).to(spec.device)

    def rgb() -> Tensor:
        return torch.sigmoid(to_rgb(_real(theta, scale, (rows, columns)) / 4))

    return _with_alpha(spec, (theta,), rgb)


def phase(spec: ImageSpec, *, spectrum: Spectrum | None = None) -> Image:
    """Phases alone, under the magnitudes of natural images: ``x = sigmoid(4 C irfft2(M exp(i phi)))``.

    M is the mean magnitude of each frequency in photographs, in decorrelated colours (Fel et al. 2023, MACO,
    arXiv:2306.06805). Images cannot gain energy where photographs have none: more natural, weaker activations. The
    sigmoid, of slope 1 at gray, keeps pixels in range.
    """
    magnitude = (spectrum or natural_spectrum(spec.size)).resized(spec.size).to(spec.device)
    magnitude = magnitude[:1] if spec.gray else magnitude
    shape = magnitude.shape[1:]
    phi = spec.noise(len(magnitude), *shape, deviation=math.pi)

    def rgb() -> Tensor:
        pixels = torch.fft.irfft2(torch.polar(magnitude.expand_as(phi), phi), s=spec.size)
        return torch.sigmoid(4 * to_rgb(pixels))

    return _with_alpha(spec, (phi,), rgb)


def pixels(spec: ImageSpec) -> Image:
    """Plain pixels before a sigmoid: ``x = sigmoid(theta)``; what happens without any of the above."""
    theta = spec.noise(1 if spec.gray else 3, *spec.size)

    def rgb() -> Tensor:
        return torch.sigmoid(theta).expand(-1, 3, -1, -1)

    return _with_alpha(spec, (theta,), rgb)


PARAMETRIZATIONS: dict[str, Callable[[ImageSpec], Image]] = {"fourier": fourier, "phase": phase, "pixels": pixels}


def parametrization(name: str | Callable[[ImageSpec], Image]) -> Callable[[ImageSpec], Image]:
    """The parametrization of that name; a function is passed on."""
    if callable(name):
        return name
    if name not in PARAMETRIZATIONS:
        raise UnknownName("parametrization", name, PARAMETRIZATIONS, f"Choose {', '.join(PARAMETRIZATIONS)}.")
    return PARAMETRIZATIONS[name]


def frequency_scale(size: tuple[int, int]) -> Float[Tensor, "fy fx"]:
    """``sqrt(wh) / max(f, 1 / max(w, h))`` for the frequencies f (cycles per pixel) of ``rfft2``."""
    rows, columns = size
    lengths = torch.hypot(torch.fft.fftfreq(rows)[:, None], torch.fft.rfftfreq(columns)[None])
    return math.sqrt(rows * columns) / lengths.clamp(min=1 / max(rows, columns))


def background(canvas_size: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "1 3 y x"]:
    """A random smooth picture to lay a transparent image on: Fourier noise of deviation 0.2 (Lucid)."""
    scale = frequency_scale(canvas_size)
    theta = torch.view_as_complex(torch.randn(1, 3, *scale.shape, 2, generator=generator) * 0.2)
    return torch.sigmoid(torch.fft.irfft2(theta * scale, s=canvas_size) / 4)


def _normal(seed: int, stream: int, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed((seed + stream * 1_000_003) % 2**63)
    return torch.randn(shape, generator=generator)


def _coefficients(spec: ImageSpec, channels: int, stream: int = 0) -> Tensor:
    rows, columns = spec.size
    return spec.noise(channels, rows, columns // 2 + 1, 2, stream=stream)


def _real(theta: Tensor, scale: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.fft.irfft2(torch.view_as_complex(theta) * scale, s=size)


def _with_alpha(spec: ImageSpec, parameters: tuple[Tensor, ...], rgb: Callable[[], Tensor]) -> Image:
    if not spec.alpha:
        return Image(parameters, rgb)
    theta = _coefficients(spec, 1, stream=1)
    scale = frequency_scale(spec.size).to(spec.device)
    return Image((*parameters, theta), rgb, partial(_opacity, theta, scale, spec.size))


def _opacity(theta: Tensor, scale: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.sigmoid(ALPHA_START + _real(theta, scale, size) / 4)


def seeds_for(texts: Sequence[str], seed: int) -> tuple[int, ...]:
    """A seed for each text, from ``seed``, the text, and how often it came before: company does not change it."""
    import hashlib

    found, met = [], dict.fromkeys(texts, 0)
    for text in texts:
        digest = hashlib.sha256(f"{seed}|{text}|{met[text]}".encode()).digest()
        found.append(int.from_bytes(digest[:7], "big"))
        met[text] += 1
    return tuple(found)
