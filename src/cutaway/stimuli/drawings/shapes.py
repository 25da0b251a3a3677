"""Curves, lines, corners, circles, centre-surround: shapes given by their signed distance."""

import numpy as np

from cutaway.stimuli.drawings.core import (
    GREY,
    Canvas,
    Drawings,
    Numbers,
    Rows,
    along,
    coverage,
    degrees,
    inked,
    stacked,
    table,
    tinted,
)

BOTH = (1.0, -1.0)
TURN = 90.0


def curves(
    size: int,
    *,
    orientations: int = 24,
    radii_px: Numbers = (),
    widths_px: Numbers = (),
    polarities: Numbers = BOTH,
    filled: bool = True,
    turns_deg: Numbers = (TURN,),
    chromas: Numbers = (0,),
) -> Drawings:
    """Rounded corners through the origin: an arc of ``turn`` degrees whose tangents go on to the border.

    Orientation is the direction, 0 to 360, from the centre of curvature to the middle of the arc, which lies at the
    origin. A radius of 0 is a corner, so that a row of radii is the morph from curve to angle. ``filled`` adds, for
    every polarity, the region that the curve encloses (width 0 in the table, ``fill`` 1). ``chromas`` says in which ink
    to draw: 0 light or dark, 1 red or green, 2 blue or yellow.
    """
    radii = tuple(radii_px) or radii_for(size)
    widths = tuple(widths_px) or widths_for(size)
    angles = degrees(orientations)
    drawn = table(chroma=chromas, turn_deg=turns_deg, fill=(0,), polarity=polarities, width_px=widths, radius_px=radii,
                  orientation_deg=angles)  # fmt: skip
    solid = table(chroma=chromas, turn_deg=turns_deg, fill=(1,), polarity=polarities, width_px=(0,), radius_px=radii,
                  orientation_deg=angles)  # fmt: skip
    columns = stacked(drawn, solid) if filled else drawn
    return Drawings("curves", Canvas(size), columns, _curve, angle="orientation_deg")


def radial_curves(
    size: int, *, radius_px: float | int, width_px: float | int, polarity: float | int = 1, step_deg: float | int = 1
) -> Drawings:
    """One curve in every direction, 1 degree apart unless told: for a fine tuning curve of chosen units."""
    return curves(
        size, orientations=round(360 / step_deg), radii_px=(radius_px,), widths_px=(width_px,), polarities=(polarity,),
        filled=False,
    )  # fmt: skip


def corners(size: int, *, orientations: int = 24, turns_deg: Numbers = (30, 60, 90, 120)) -> Drawings:
    """Sharp corners of several openings: curves of radius 0. A turn of 30 degrees is nearly a line."""
    made = curves(size, orientations=orientations, radii_px=(0,), turns_deg=turns_deg)
    return Drawings("corners", made.canvas, made.columns, made.painter, made.angle)


def lines(
    size: int,
    *,
    orientations: int = 12,
    widths_px: Numbers = (),
    polarities: Numbers = BOTH,
    edges: bool = True,
    offsets_px: Numbers = (0.0,),
) -> Drawings:
    """Straight lines and, with ``edges``, straight borders between light or dark and grey, across the whole canvas.

    A curve of radius infinity. Orientation (0 to 180) is that of the line itself; an edge is shown with its ink on
    either side (column ``flip``). ``offset_px`` moves the line along its normal.
    """
    widths = tuple(widths_px) or widths_for(size)
    angles = degrees(orientations, 180)
    drawn = table(fill=(0,), flip=(0,), offset_px=offsets_px, polarity=polarities, width_px=widths,
                  orientation_deg=angles)  # fmt: skip
    solid = table(fill=(1,), flip=(0, 1), offset_px=offsets_px, polarity=polarities, width_px=(0,),
                  orientation_deg=angles)  # fmt: skip
    columns = stacked(drawn, solid) if edges else drawn
    return Drawings("lines", Canvas(size), columns, _line, angle="orientation_deg", period=180.0)


def circles(size: int, *, radii_px: Numbers = (), polarities: Numbers = BOTH) -> Drawings:
    """Rings and filled disks around the origin."""
    radii, widths = tuple(radii_px) or radii_for(size), widths_for(size)
    rings = table(fill=(0,), polarity=polarities, width_px=widths, radius_px=radii)
    disks = table(fill=(1,), polarity=polarities, width_px=(0,), radius_px=radii)
    return Drawings("circles", Canvas(size), stacked(rings, disks), _circle)


def centre_surround(size: int, *, radii_px: Numbers = (), polarities: Numbers = BOTH) -> Drawings:
    """A disk and the whole remaining canvas of the opposite polarity."""
    columns = table(polarity=polarities, radius_px=tuple(radii_px) or radii_for(size))
    return Drawings("centre-surround", Canvas(size), columns, _centre_surround)


def radii_for(size: int) -> tuple[float, ...]:
    """Radii from 2 pixels to half the canvas, half an octave apart."""
    count = int(np.floor(2 * np.log2(size / 2 / 2) + 1e-6)) + 1
    return tuple(float(np.round(2 * 2 ** (step / 2), 2)) for step in range(max(count, 1)))


def widths_for(size: int) -> tuple[float, ...]:
    """Two line widths: a thin one and one twice as thick, a 32nd and a 16th of the canvas but at least 1.5 pixels."""
    thin = max(1.5, size / 32)
    return (float(thin), float(2 * thin))


def _curve(canvas: Canvas, rows: Rows) -> np.ndarray:
    """A wedge dilated by the radius is a rounded corner; its signed distance gives stroke and fill alike."""
    ahead, aside = along(canvas, rows["orientation_deg"])
    # From the centre of curvature, along the axis of the wedge, which opens away from the bulge.
    a, b = -(ahead + rows["radius_px"]), np.abs(aside)
    half = np.deg2rad((180 - rows["turn_deg"]) / 2)
    c, s = np.cos(half), np.sin(half)
    before_apex = a * c + b * s < 0
    wedge = np.where(before_apex, np.hypot(a, b), b * c - a * s)
    return _stroke_or_fill(wedge - rows["radius_px"], rows)


def _line(canvas: Canvas, rows: Rows) -> np.ndarray:
    ahead, _ = along(canvas, rows["orientation_deg"] + 90 + 180 * rows["flip"])
    return _stroke_or_fill(ahead - rows["offset_px"], rows)


def _circle(canvas: Canvas, rows: Rows) -> np.ndarray:
    x, y = canvas.axes()
    return _stroke_or_fill(np.hypot(x, y) - rows["radius_px"], rows)


def _centre_surround(canvas: Canvas, rows: Rows) -> np.ndarray:
    x, y = canvas.axes()
    return GREY + GREY * rows["polarity"] * (2 * coverage(np.hypot(x, y) - rows["radius_px"]) - 1)


def _stroke_or_fill(distance: np.ndarray, rows: Rows) -> np.ndarray:
    filled = rows["fill"] > 0
    shape = coverage(np.where(filled, distance, np.abs(distance) - rows["width_px"] / 2))
    if "chroma" in rows and rows["chroma"].any():
        return tinted(GREY * rows["polarity"] * shape, rows["chroma"])
    return inked(shape, rows["polarity"])
