"""Numbers of tuning curves, by hand."""

import numpy as np
import pytest

from cutaway.features.tuning import circular_variance, distance, echo, fwhm, harmonic, preferred, tiling_gap


def triangle(peak: int, half_width: float, steps: int = 36) -> np.ndarray:
    """A triangular tuning curve of height 1 that reaches 0 after ``half_width`` degrees."""
    angles = np.arange(steps) * 360 / steps
    return np.maximum(1 - distance(angles, np.array(peak * 360 / steps)) / half_width, 0)


def test_distance_goes_the_short_way() -> None:
    assert distance(np.array([350.0, 10, 90]), np.array([10.0, 350, 270])).tolist() == [20, 20, 180]
    assert distance(np.array([170.0]), np.array([10.0]), 180.0).tolist() == [20]


def test_full_width_at_half_maximum() -> None:
    curves = np.stack([triangle(0, 60), triangle(35, 40), np.ones(36)])
    assert fwhm(curves) == pytest.approx([60, 40, 360])
    assert fwhm(curves, 180.0) == pytest.approx([30, 20, 180]), "angles of half the period"


def test_width_of_an_asymmetric_peak() -> None:
    curve = np.array([[1.0, 0.75, 0.5, 0, 0, 0, 0, 0.25]])  # 45 degrees a step: half after 2 steps, and after 2/3
    assert fwhm(curve) == pytest.approx([45 * (2 + 2 / 3)])


def test_preferred_angle_between_steps() -> None:
    curve = np.array([[0.0, 1, 1, 0], [0, 2, 1, 0], [-1, -2, -3, -1]])
    assert preferred(curve)[0] == pytest.approx(135)  # half a step of 90 degrees beyond 90
    assert preferred(curve)[1] == pytest.approx(90 + 90 / 6)  # parabola through 0, 2, 1: 0.5 * (0 - 1) / (0 - 4 + 1)
    assert np.isnan(preferred(curve)[2]), "never excited"


def test_echo() -> None:
    both = triangle(0, 60) + 0.3 * triangle(18, 30)
    sideways = triangle(0, 30) + 0.8 * triangle(9, 30)  # 90 degrees away is no echo
    assert echo(np.stack([both, sideways, triangle(0, 60)])) == pytest.approx([0.3, 0, 0])
    assert echo(np.stack([triangle(0, 20) + 0.5 * triangle(14, 10)])) == pytest.approx([0.5]), "140 is within 45 of 180"


def test_circular_variance() -> None:
    one = np.eye(8)[:1]
    two = (np.eye(8)[:1] + np.eye(8)[2:3]) / 2  # two equal responses 90 degrees apart: length cos 45
    assert circular_variance(np.concatenate([one, np.ones((1, 8)), two])) == pytest.approx([0, 1, 1 - np.sqrt(0.5)])
    assert np.isnan(circular_variance(-np.ones((1, 4)))[0])


def test_harmonic_is_the_amplitude() -> None:
    angles = np.deg2rad(np.arange(24) * 15)
    curve = 5 + 3 * np.cos(angles - np.deg2rad(40)) + 2 * np.cos(2 * angles)
    found = harmonic(curve[None])[0]
    assert abs(found) == pytest.approx(3) and np.rad2deg(np.angle(found)) == pytest.approx(40)
    assert abs(harmonic(curve[None], 2)[0]) == pytest.approx(2)


def test_tiling_gap() -> None:
    assert tiling_gap([0, 90, 180, 300]) == 120
    assert tiling_gap([350, 10, 100, 200]) == 150
    assert tiling_gap([0, 60, 120], 180.0) == 60
    assert tiling_gap([5]) == 360 and tiling_gap([]) == 360 and tiling_gap([1, float("nan")]) == 360
