"""Numbers that describe a tuning curve over angles. Curves are [angle] or [unit angle], at equally spaced angles.

Negative responses count as none (0): a tuning curve is how much a unit is excited.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

ECHO_HALF_WIDTH = 45.0  # degrees around the antipode


def distance(a: np.ndarray | float, b: np.ndarray | float, period: float | int = 360) -> np.ndarray:
    """The smaller angle between two angles, in degrees, 0 to half the period."""
    gap = np.abs(np.asarray(a) - np.asarray(b)) % period
    return np.asarray(np.minimum(gap, period - gap))


def preferred(curves: Float[np.ndarray, "unit angle"], period: float | int = 360) -> Float[np.ndarray, " unit"]:
    """The angle of the peak in degrees, refined by a parabola through its neighbours; NaN for a silent unit."""
    excited = np.maximum(curves, 0)
    steps = excited.shape[1]
    peak = excited.argmax(1)
    rows = np.arange(len(excited))
    before, at, after = (excited[rows, (peak + shift) % steps] for shift in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1), 0.0)
    angle = (peak + np.clip(shift, -0.5, 0.5)) * period / steps % period
    return np.where(at > 0, angle, np.nan)


def fwhm(curves: Float[np.ndarray, "unit angle"], period: float | int = 360) -> Float[np.ndarray, " unit"]:
    """Full width at half maximum in degrees around the peak, interpolated; the period if it never falls to half.

    NaN for a silent unit.
    """
    excited = np.maximum(curves, 0)
    steps = excited.shape[1]
    peak = excited.argmax(1)
    half = excited[np.arange(len(excited)), peak] / 2
    widths = np.full(len(excited), np.nan)
    for unit in np.flatnonzero(half > 0):
        turned = np.roll(excited[unit], -peak[unit])
        sides = [_crossing(turned, half[unit]), _crossing(np.roll(turned[::-1], 1), half[unit])]
        widths[unit] = min(sum(sides) * period / steps, period)
    return widths


def _crossing(curve: np.ndarray, half: np.floating) -> float:
    """Steps from the peak at index 0 to where the curve first falls to half; all steps if it never does."""
    below = np.flatnonzero(curve <= half)
    if not len(below):
        return float(len(curve))
    index = int(below[0])
    high, low = curve[index - 1], curve[index]
    return index - 1 + float((high - half) / (high - low))


def echo(curves: Float[np.ndarray, "unit angle"]) -> Float[np.ndarray, " unit"]:
    """The strongest response within 45 degrees of the antipode of the peak, as a share of the peak; NaN if silent.

    0 for a pure direction detector, 1 for one that does not tell a direction from its opposite.
    """
    excited = np.maximum(curves, 0)
    steps = excited.shape[1]
    peak = excited.argmax(1)
    offsets = np.arange(steps)
    near = np.abs(offsets * 360 / steps - 180) <= ECHO_HALF_WIDTH + 1e-6
    columns = (peak[:, None] + offsets[near]) % steps
    top = excited[np.arange(len(excited)), peak]
    there = np.take_along_axis(excited, columns, 1).max(1)
    return np.divide(there, top, out=np.full(len(excited), np.nan), where=top > 0)


def circular_variance(curves: Float[np.ndarray, "unit angle"]) -> Float[np.ndarray, " unit"]:
    """1 - |sum r e^(i a)| / sum r, with angles stretched so that the period is a full turn: 0 sharp, 1 flat.

    NaN for a silent unit. (Ringach, Shapley, Hawken: J. Neuroscience 2002, for orientation.)
    """
    excited = np.maximum(curves, 0)
    total = excited.sum(1)
    turn = np.exp(2j * np.pi * np.arange(excited.shape[1]) / excited.shape[1])
    length = np.abs(excited @ turn)
    return 1 - np.divide(length, total, out=np.full(len(excited), np.nan), where=total > 0)


def harmonic(curves: Float[np.ndarray, "... angle"], order: int = 1) -> np.ndarray:
    """The complex amplitude of one harmonic, [...]: its modulus is half its peak-to-peak, its phase where it peaks."""
    steps = curves.shape[-1]
    return 2 / steps * (curves @ np.exp(1j * 2 * np.pi * order * np.arange(steps) / steps))


def tiling_gap(angles: Sequence[float | int] | np.ndarray, period: float | int = 360) -> float:
    """The widest gap in degrees that a family's preferred angles leave on the circle; the period for fewer than two."""
    known = np.sort(np.asarray(angles, dtype=float) % period)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return float(period)
    return float(np.diff(known, append=known[0] + period).max())
