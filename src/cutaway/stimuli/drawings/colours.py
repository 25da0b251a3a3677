"""Colour: uniform fields over hue and saturation, opponent pairs side by side, grey against coloured patterns."""

import numpy as np

from cutaway.stimuli.drawings.core import GREY, Canvas, Drawings, Numbers, Rows, along, coverage, degrees, table
from cutaway.stimuli.drawings.waves import band_noise

# Two directions of unit length at equal sum of channels; hue 0 points to red.
_HUE_AXES = np.array([[2, -1, -1], [0, np.sqrt(3), -np.sqrt(3)]], dtype=np.float32) / np.sqrt(6)
WIDEST = 0.61  # saturation 1: the largest circle around grey that stays inside 0..1


def hue_circle(hue_deg: np.ndarray, saturation: np.ndarray, lightness: float | int = GREY) -> np.ndarray:
    """RGB [..., 3] at equal sum of channels: hue 0 is red, 120 green, 240 blue; saturation 0 is grey."""
    angle = np.deg2rad(hue_deg)[..., None]
    plane = np.cos(angle) * _HUE_AXES[0] + np.sin(angle) * _HUE_AXES[1]
    return lightness + WIDEST * np.asarray(saturation)[..., None] * plane


def colours(size: int, *, hues: int = 12, saturations: Numbers = (0.33, 0.66, 1.0)) -> Drawings:
    """Uniform fields of every hue (0 to 360) and saturation, all with the same sum of channels."""
    columns = table(saturation=saturations, orientation_deg=degrees(hues))
    columns["hue_deg"] = columns.pop("orientation_deg")
    return Drawings("colours", Canvas(size), columns, _field, angle="hue_deg")


def colour_contrast(size: int, *, hues: int = 6, orientations: int = 8) -> Drawings:
    """A hue beside its opponent, the border through the origin; direction points to the hue."""
    columns = table(hue_deg=degrees(hues), orientation_deg=degrees(orientations))
    return Drawings("colour-contrast", Canvas(size), columns, _opponents, angle="orientation_deg")


def bw_versus_colour(size: int, *, hues: int = 6, period_px: float | int = 0, draws: int = 3) -> Drawings:
    """The same blobs drawn in grey (``saturation`` 0) and in each hue against its opponent (``saturation`` 1)."""
    columns = table(
        saturation=(0, 1), draw=range(draws), period_px=(period_px or size / 4,), hue_deg=degrees(hues)
    )  # fmt: skip
    keep = (columns["saturation"] > 0) | (columns["hue_deg"] == 0)
    kept = {name: column[keep] for name, column in columns.items()}
    return Drawings("bw-versus-colour", Canvas(size), kept, _blobs)


def _field(canvas: Canvas, rows: Rows) -> np.ndarray:
    rgb = hue_circle(rows["hue_deg"][:, 0, 0], rows["saturation"][:, 0, 0])
    return np.broadcast_to(rgb[:, :, None, None], (len(rgb), 3, canvas.size, canvas.size))


def _opponents(canvas: Canvas, rows: Rows) -> np.ndarray:
    ahead, _ = along(canvas, rows["orientation_deg"])
    step = 2 * coverage(-ahead) - 1
    hue = rows["hue_deg"][:, 0, 0]
    return GREY + step[:, None] * (hue_circle(hue, np.ones_like(hue)) - GREY)[:, :, None, None]


def _blobs(canvas: Canvas, rows: Rows) -> np.ndarray:
    names = ("draw", "period_px", "saturation", "hue_deg")
    pictures = []
    for draw, period, saturation, hue in zip(*(rows[name].reshape(-1) for name in names)):
        noise = band_noise(canvas.size, float(period), seed=int(draw))
        axis = hue_circle(np.array(hue), np.array(1.0)) - GREY if saturation else np.full(3, WIDEST / np.sqrt(3))
        pictures.append(GREY + noise[None] * axis[:, None, None])
    return np.stack(pictures)
