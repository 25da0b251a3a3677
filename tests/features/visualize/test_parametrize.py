"""Parametrizations: their formulas, their ranges, their seeds; the spectrum of photographs."""

from __future__ import annotations

import math

import pytest
import torch

from cutaway.errors import BadInput, UnknownName
from cutaway.features.visualize import (
    Image,
    ImageSpec,
    fourier,
    natural_spectrum,
    phase,
    pixels,
    seeds_for,
    spectrum_of,
)
from cutaway.features.visualize.colours import COLOURS, from_rgb, to_rgb
from cutaway.features.visualize.parametrize import frequency_scale, parametrization

CANVAS = ImageSpec((8, 6), (1, 2))


def test_frequencies_are_scaled_by_their_length() -> None:
    scale = frequency_scale((8, 6))
    assert scale.shape == (8, 4)
    assert scale[0, 0].item() == pytest.approx(math.sqrt(48) * 8)  # the mean: at most 1 / max(w, h)
    assert scale[0, 1].item() == pytest.approx(math.sqrt(48) * 6)  # 1/6 cycle a pixel
    assert scale[2, 1].item() == pytest.approx(math.sqrt(48) / math.hypot(2 / 8, 1 / 6))


def test_a_single_frequency_is_a_wave() -> None:
    image = fourier(ImageSpec((8, 8), (0,), gray=True))
    (theta,) = image.parameters
    with torch.no_grad():
        theta.zero_()
        theta[0, 0, 0, 1, 0] = 1.0  # the cosine of one period over x
    amplitude = 2 / 64 * 64 / 4  # irfft2 divides by 64 and counts the conjugate too; s = 8 / (1/8) = 64; then / 4
    wave = amplitude * torch.cos(2 * math.pi * torch.arange(8) / 8)
    assert torch.allclose(image.rgb()[0, 1, 3], torch.sigmoid(wave), atol=1e-6)


def test_colours_are_lucids_and_invert() -> None:
    assert COLOURS.norm(dim=0).max().item() == pytest.approx(1)
    assert (COLOURS[0] / COLOURS[0, 0]).tolist() == pytest.approx([1, 9 / 26, 2 / 26])
    planes = torch.randn(2, 3, 4, 4)
    assert torch.allclose(from_rgb(to_rgb(planes)), planes, atol=1e-4)
    assert torch.equal(to_rgb(planes[:, :1])[:, 2], planes[:, 0])


@pytest.mark.parametrize("make", [fourier, phase, pixels])
def test_images_are_in_range_and_reachable(make) -> None:
    image: Image = make(ImageSpec((16, 12), (1, 2, 3), alpha=True))
    rgb, alpha = image.rgb(), image.alpha()
    assert rgb.shape == (3, 3, 16, 12) and alpha.shape == (3, 1, 16, 12) and len(image) == 3
    assert rgb.min() >= 0 and rgb.max() <= 1
    gradients = torch.autograd.grad(rgb.square().sum() + alpha.sum(), image.parameters)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert torch.isfinite(torch.cat([gradient.flatten() for gradient in gradients])).all()


@pytest.mark.parametrize("make", [fourier, pixels])
def test_the_start_is_nearly_gray(make) -> None:
    assert (make(CANVAS).rgb() - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("make", [fourier, phase, pixels])
def test_a_start_depends_on_its_own_seed_alone(make) -> None:
    together = make(ImageSpec((8, 8), (5, 6))).rgb()
    assert torch.equal(together[1:], make(ImageSpec((8, 8), (6,))).rgb())
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("make", [fourier, phase, pixels])
def test_gray_images_have_no_colour(make) -> None:
    rgb = make(ImageSpec((8, 8), (5,), gray=True)).rgb()
    assert torch.equal(rgb[:, 0], rgb[:, 1]) and torch.equal(rgb[:, 0], rgb[:, 2])


def magnitudes(image: Image) -> torch.Tensor:
    """Of the decorrelated planes before the sigmoid; columns that irfft2 does not symmetrise."""
    planes = from_rgb(torch.logit(image.rgb().double()) / 4)
    return torch.fft.rfft2(planes).abs()[..., 1:-1]


def test_phases_change_and_magnitudes_do_not() -> None:
    spectrum = natural_spectrum((16, 16))
    image = phase(ImageSpec((16, 16), (1,)), spectrum=spectrum)
    before, picture = magnitudes(image), image.rgb()
    with torch.no_grad():
        image.parameters[0].add_(torch.randn(image.parameters[0].shape))
    assert not torch.allclose(image.rgb(), picture, atol=0.01)
    assert torch.allclose(magnitudes(image), before, rtol=1e-3, atol=1e-4)
    assert torch.allclose(before[0], spectrum.magnitude[..., 1:-1].double(), rtol=1e-3, atol=1e-4)


def test_the_spectrum_of_a_wave() -> None:
    wave = 0.5 + 0.1 * torch.cos(2 * math.pi * torch.arange(8) / 4).expand(1, 3, 8, 8)
    magnitude = spectrum_of(wave).magnitude
    grays = from_rgb(torch.full((1, 3, 1, 1), 0.1))[0, :, 0, 0]  # what an amplitude of 0.1 in gray is, plane by plane
    assert torch.allclose(magnitude[:, 0, 2], grays.abs() * 64 / 2, atol=1e-4)
    magnitude[:, 0, 2] = 0
    assert magnitude.max() < 1e-4
    with pytest.raises(BadInput, match="no pictures"):
        spectrum_of(torch.zeros(0, 3, 8, 8))


def test_photographs_have_most_energy_in_low_frequencies() -> None:
    magnitude = natural_spectrum((32, 32)).magnitude[0]
    along = magnitude[0]
    assert along[1] > 2 * along[4] > 4 * along[12]


def test_a_spectrum_at_another_size_keeps_the_contrast() -> None:
    spectrum = natural_spectrum((32, 32))
    bigger = spectrum.resized((48, 40))
    assert bigger.shape == (3, 48, 21)

    def contrast(magnitude: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        planes = torch.fft.irfft2(magnitude.to(torch.complex64), s=size)
        return planes.std((1, 2), unbiased=False)

    assert torch.allclose(contrast(bigger, (48, 40)), contrast(spectrum.magnitude, (32, 32)), rtol=1e-3)


def test_seeds_are_for_each_address_and_occurrence() -> None:
    alone, more = seeds_for(["a:1"], 0), seeds_for(["b:2", "a:1", "a:1"], 0)
    assert more[1] == alone[0] and len(set(more)) == 3
    assert seeds_for(["a:1"], 1) != alone


def test_an_unknown_parametrization() -> None:
    assert parametrization(fourier) is fourier
    with pytest.raises(UnknownName, match="did you mean fourier"):
        parametrization("furier")
