"""Gratings, high-low frequency pairs, textures, and boundaries between textures of equal luminance."""

import numpy as np

from cutaway.stimuli.drawings.core import GREY, Canvas, Drawings, Numbers, Rows, along, coverage, degrees, table, tinted

CUES = ("frequency", "orientation", "colour", "luminance")
CONTRAST = 0.9  # of the largest that fits


def periods_for(size: int) -> tuple[float, ...]:
    """Periods from 3 pixels to the canvas, half an octave apart."""
    count = int(np.floor(2 * np.log2(size / 3) + 1e-6)) + 1
    return tuple(float(np.round(3 * 2 ** (step / 2), 2)) for step in range(max(count, 1)))


def gratings(
    size: int, *, orientations: int = 12, periods_px: Numbers = (), phases: int = 4, hues: bool = False
) -> Drawings:
    """Cosine gratings of every orientation (0 to 180, of the stripes), period and phase; with ``hues``, red-green and
    blue-yellow ones beside the grey (column ``chroma``: 0 grey, 1 red-green, 2 blue-yellow).
    """
    columns = table(
        chroma=(0, 1, 2) if hues else (0,), period_px=tuple(periods_px) or periods_for(size), phase_deg=degrees(phases),
        orientation_deg=degrees(orientations, 180),
    )  # fmt: skip
    return Drawings("gratings", Canvas(size), columns, _grating, angle="orientation_deg", period=180.0)


def frequency_pairs(
    size: int,
    *,
    orientations: int = 12,
    ratios: Numbers = (1, 2, 4, 8),
    high_px: Numbers = (3, 4.5),
    phases: int = 2,
) -> Drawings:
    """A texture of high frequency beside one of low frequency, the border through the origin.

    Direction (0 to 360) points to the high frequency; ``ratio`` is low over high period (1: no border at all).
    Textures are plaids of two crossed cosines along and across the border, of the same mean and contrast on both
    sides, so that neither luminance nor contrast marks the border.
    """
    columns = table(
        phase_deg=degrees(phases), high_px=high_px, ratio=ratios, orientation_deg=degrees(orientations)
    )  # fmt: skip
    return Drawings("frequency-pairs", Canvas(size), columns, _frequency_pair, angle="orientation_deg")


def textures(size: int, *, periods_px: Numbers = (), draws: int = 3) -> Drawings:
    """Isotropic noise of one octave around each period, and checkerboards of that period (column ``regular``)."""
    columns = table(regular=(0, 1), draw=range(draws), period_px=tuple(periods_px) or periods_for(size))
    return Drawings("textures", Canvas(size), columns, _texture)


def boundaries(size: int, *, orientations: int = 12, period_px: float | int = 5.0, phases: int = 2) -> Drawings:
    """Borders through the origin between two areas that differ in one cue only (column ``cue``, see :data:`CUES`).

    0 frequency (periods p and 3 p), 1 orientation of a grating (along and across the border), 2 colour at equal sum
    of channels, 3 luminance. All but the last have the same mean luminance on both sides.
    """
    columns = table(
        cue=range(len(CUES)), period_px=(period_px,), phase_deg=degrees(phases), orientation_deg=degrees(orientations)
    )  # fmt: skip
    return Drawings("boundaries", Canvas(size), columns, _boundary, angle="orientation_deg")


def _wave(position: np.ndarray, period: np.ndarray, phase_deg: np.ndarray) -> np.ndarray:
    return np.cos(2 * np.pi * position / period + np.deg2rad(phase_deg))


def _grating(canvas: Canvas, rows: Rows) -> np.ndarray:
    _, across = along(canvas, rows["orientation_deg"])
    wave = GREY * CONTRAST * _wave(across, rows["period_px"], rows["phase_deg"])
    return tinted(wave, rows["chroma"])


def _plaid(ahead: np.ndarray, aside: np.ndarray, period: np.ndarray, phase_deg: np.ndarray) -> np.ndarray:
    return 0.5 * (_wave(ahead, period, phase_deg) + _wave(aside, period, phase_deg))


def _frequency_pair(canvas: Canvas, rows: Rows) -> np.ndarray:
    ahead, aside = along(canvas, rows["orientation_deg"])
    high = _plaid(ahead, aside, rows["high_px"], rows["phase_deg"])
    low = _plaid(ahead, aside, rows["high_px"] * rows["ratio"], rows["phase_deg"])
    share = coverage(-ahead)
    return GREY + GREY * CONTRAST * (share * high + (1 - share) * low)


def _texture(canvas: Canvas, rows: Rows) -> np.ndarray:
    x, y = canvas.axes()
    pictures = []
    for regular, draw, period in zip(*(rows[name].reshape(-1) for name in ("regular", "draw", "period_px"))):
        if regular:
            shift = draw * period / 3
            pattern = np.sign(np.sin(2 * np.pi * (x[0] + shift) / period) * np.sin(2 * np.pi * (y[0] + shift) / period))
        else:
            pattern = band_noise(canvas.size, float(period), seed=int(draw))
        pictures.append(GREY + GREY * CONTRAST * pattern)
    return np.stack(pictures)


def band_noise(size: int, period_px: float, *, seed: int) -> np.ndarray:
    """Noise [y x] of random phases and one octave of frequencies around 1 / period, scaled to -1..1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * period_px
    octaves = np.log2(np.maximum(frequency, 1e-9))
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, frequency.shape)
    noise = np.fft.irfft2(np.exp(-0.5 * (octaves / 0.5) ** 2) * np.exp(1j * phases), s=(size, size))
    return (noise / max(float(np.abs(noise).max()), 1e-9)).astype(np.float32)


def _boundary(canvas: Canvas, rows: Rows) -> np.ndarray:
    ahead, aside = along(canvas, rows["orientation_deg"])
    period, phase, cue = rows["period_px"], rows["phase_deg"], rows["cue"]
    share = coverage(-ahead)
    fine, coarse = _plaid(ahead, aside, period, phase), _plaid(ahead, aside, 3 * period, phase)
    by_frequency = share * fine + (1 - share) * coarse
    by_orientation = share * _wave(ahead, period, phase) + (1 - share) * _wave(aside, period, phase)
    step = 2 * share - 1
    amount = np.select([cue == 0, cue == 1, cue == 2], [by_frequency, by_orientation, 0.5 * step], 0.5 * step)
    return tinted(GREY * CONTRAST * amount, np.where(cue == 2, 1, 0))
