"""Drawings show what their table says."""

import numpy as np
import pytest

from cutaway.errors import BadInput, UnknownName
from cutaway.stimuli.drawings import (
    KINDS,
    Canvas,
    boundaries,
    bw_versus_colour,
    centre_surround,
    circles,
    colour_contrast,
    colours,
    corners,
    curves,
    drawings,
    frequency_pairs,
    gratings,
    hue_circle,
    lines,
    radial_curves,
    textures,
)


def ink(picture: np.ndarray) -> np.ndarray:
    """Where a picture [3 y x] is not grey."""
    return np.abs(picture[0] - 0.5) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_paints_pictures_and_repeats_them(kind: str) -> None:
    made = drawings(kind, 32)
    rows = np.linspace(0, len(made) - 1, 5).astype(int)
    first, again = made.paint(rows), drawings(kind, 32).paint(rows)
    assert first.shape == (5, 3, 32, 32) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 1
    assert np.array_equal(first, again)
    assert len({row.tobytes() for row in first}) == 5, "five rows of the table are five pictures"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if drawings(kind, 32).angle])
def test_angles_divide_the_period(kind: str) -> None:
    made = drawings(kind, 32)
    angles = np.unique(made.columns[made.angle])
    assert angles[0] == 0 and np.allclose(np.diff(angles), made.period / len(angles))
    assert len(made) % len(angles) == 0


def test_a_curve_bulges_where_it_is_said_to() -> None:
    made = curves(65, orientations=4, radii_px=(12,), widths_px=(2,), polarities=(1,), filled=False)
    right, up, left, down = (ink(picture) for picture in made.paint())
    _, x = np.nonzero(right)
    assert right[32, 32] and x.max() <= 34 and x.min() < 10, "its middle is at the origin, its arms go left"
    assert np.array_equal(up, np.rot90(right)) and np.array_equal(left, np.rot90(right, 2))
    assert np.array_equal(down, np.rot90(right, 3))


def test_a_curve_has_its_radius() -> None:
    """Every point of the arc lies at the radius from the centre of curvature."""
    radius = 10
    (picture,) = curves(65, orientations=1, radii_px=(radius,), widths_px=(1.5,), polarities=(1,), filled=False).paint()
    y, x = np.nonzero(picture[0] > 0.75)
    near = np.hypot(x - 32, y - 32) < 6  # the arc of 90 degrees reaches 7.7 pixels from its middle
    distance = np.hypot(x[near] - (32 - radius), y[near] - 32)
    assert near.sum() >= 8 and np.abs(distance - radius).max() < 1


def test_the_arms_of_a_curve_meet_at_its_turn() -> None:
    (picture,) = corners(129, orientations=1, turns_deg=(90,)).where(np.array([True] + [False] * 5)).paint()
    y, x = np.nonzero(ink(picture))
    upper = (y < 40) & (x > 0)
    slope = np.polyfit(x[upper], y[upper], 1)[0]
    assert slope == pytest.approx(1.0, abs=0.05), "with a turn of 90 degrees each arm leaves at 45"


def test_a_line_is_a_curve_without_curvature() -> None:
    made = lines(33, orientations=2, widths_px=(2,), polarities=(1,))
    level, upright, below, left, above, right = made.paint()
    assert ink(level)[16].all() and ink(level).sum(0).max() <= 3, "orientation 0 is a horizontal line"
    assert np.allclose(upright, np.rot90(level, axes=(1, 2)), atol=1e-5)
    assert below[0, 32, 16] == 1 and below[0, 0, 16] == 0.5 and above[0, 0, 16] == 1
    assert np.allclose(below + above, 1.5, atol=1e-5) and np.allclose(left + right, 1.5, atol=1e-5)
    assert made.period == 180


def test_polarity_mirrors_luminance_about_grey() -> None:
    light, dark = (curves(32, orientations=1, radii_px=(8,), polarities=(p,)).paint() for p in (1, -1))
    assert np.allclose(light + dark, 1)


def test_coloured_ink_keeps_the_sum_of_channels() -> None:
    made = curves(32, orientations=1, radii_px=(8,), widths_px=(3,), chromas=(0, 1, 2))
    coloured = made.paint(made.columns["chroma"] > 0)
    assert np.allclose(coloured.sum(1), 1.5, atol=1e-5) and coloured.std() > 0.05
    grey = made.paint(made.columns["chroma"] == 0)
    assert np.array_equal(grey, curves(32, orientations=1, radii_px=(8,), widths_px=(3,)).paint())


def test_drawings_are_anti_aliased() -> None:
    """A hundredth of a pixel more radius moves ink by about a hundredth of the circumference."""
    small, large = (circles(64, radii_px=(r,), polarities=(1,)).paint()[-1, 0].sum() for r in (12.0, 12.01))
    assert 2 * (large - small) == pytest.approx(2 * np.pi * 12 * 0.01, rel=0.1)


def test_a_disk_and_its_surround() -> None:
    picture = centre_surround(33, radii_px=(8,), polarities=(1,)).paint()[0, 0]
    assert picture[16, 16] == 1 and picture[0, 0] == 0


def test_a_grating_has_its_period_and_orientation() -> None:
    (picture,) = gratings(64, orientations=1, periods_px=(8,), phases=1).paint()
    rows = picture[0].mean(1)
    assert np.allclose(picture[0], rows[:, None], atol=1e-6), "stripes of orientation 0 are horizontal"
    assert np.abs(np.fft.rfft(rows - rows.mean())).argmax() == 8


def test_chroma_keeps_the_sum_of_channels() -> None:
    made = gratings(32, orientations=2, periods_px=(8,), phases=2, hues=True)
    coloured = made.paint(made.columns["chroma"] > 0)
    assert np.allclose(coloured.sum(1), 1.5, atol=1e-5) and coloured.std(1).max() > 0.1


def test_frequency_pairs_differ_in_frequency_only() -> None:
    made = frequency_pairs(96, orientations=1, ratios=(4,), high_px=(4,), phases=1)
    (picture,) = made.paint()
    right, left = picture[0][:, 52:], picture[0][:, :44]
    assert right.mean() == pytest.approx(left.mean(), abs=0.03) and right.std() == pytest.approx(left.std(), rel=0.15)
    changes = [np.abs(np.diff(side, axis=1)).mean() for side in (right, left)]
    assert changes[0] > 2 * changes[1], "direction 0 has the high frequency on the right"


def test_a_ratio_of_one_is_no_border() -> None:
    made = frequency_pairs(32, orientations=4, ratios=(1,), high_px=(4,), phases=1)
    upright, _, turned, _ = made.paint()
    assert np.allclose(upright, turned[:, ::-1, ::-1], atol=1e-5)


@pytest.mark.parametrize(("cue", "equal"), [(0, True), (1, True), (2, True), (3, False)])
def test_only_the_luminance_cue_changes_luminance(cue: int, equal: bool) -> None:
    made = boundaries(96, orientations=1, period_px=6, phases=1)
    picture = made.paint(made.columns["cue"] == cue)[0].mean(0)
    gap = abs(picture[:90, 60:].mean() - picture[:90, :36].mean())  # whole periods
    assert gap < 0.02 if equal else gap > 0.2


def test_hues_have_one_sum_and_point_where_they_should() -> None:
    rgb = hue_circle(np.array([0.0, 120.0, 240.0, 77.0]), np.ones(4))
    assert np.allclose(rgb.sum(1), 1.5, atol=1e-6) and rgb[:3].argmax(1).tolist() == [0, 1, 2]
    assert hue_circle(np.arange(360.0), np.ones(360)).min() >= 0
    field = colours(16, hues=3, saturations=(1,)).paint()
    assert np.allclose(field[:, :, 0, 0], hue_circle(np.array([0.0, 120.0, 240.0]), np.ones(3)), atol=1e-6)


def test_opponents_lie_side_by_side() -> None:
    (picture,) = colour_contrast(32, hues=1, orientations=1).paint()
    assert picture[0, 16, 31] > 0.9 > 0.2 > picture[0, 16, 0] and np.allclose(picture.sum(0), 1.5, atol=1e-5)


def test_grey_and_coloured_blobs_have_one_shape() -> None:
    made = bw_versus_colour(32, hues=2, draws=1)
    grey, red, _ = made.paint()
    shape = np.corrcoef((grey - 0.5)[0].ravel(), (red - 0.5)[0].ravel())[0, 1]
    assert shape > 0.999 and np.ptp(grey, axis=0).max() < 1e-6 < np.ptp(red, axis=0).max()


def test_textures_live_at_their_period() -> None:
    made = textures(64, periods_px=(8,), draws=1)
    noise = made.paint(made.columns["regular"] == 0)[0, 0]
    power = np.abs(np.fft.fft2(noise - noise.mean())) ** 2
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(64) * 64] * 2))
    assert power[(radius > 4) & (radius < 16)].sum() > 0.9 * power.sum()


def test_radial_curves_are_fine() -> None:
    assert len(radial_curves(32, radius_px=8, width_px=2)) == 360


def test_an_origin_off_the_middle() -> None:
    made = circles(32, radii_px=(4,), polarities=(1,))
    moved = made.on(Canvas(32, (10.0, 20.0))).paint()[-1, 0]
    y, x = np.nonzero(moved > 0.9)
    assert (y.mean(), x.mean()) == pytest.approx((10, 20), abs=0.1)


def test_as_stimuli() -> None:
    made = curves(16, orientations=2, radii_px=(4,))
    stimuli = made.stimuli()
    assert len(stimuli) == len(made) and stimuli[0].load().size == (16, 16)
    assert stimuli.fingerprint == curves(16, orientations=2, radii_px=(4,)).stimuli().fingerprint
    assert "radius_px=4" in stimuli[0].source


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(BadInput, match="4 pixels"):
        curves(4)
    with pytest.raises(BadInput, match="at least one"):
        curves(32, orientations=0)
    with pytest.raises(BadInput, match="without any value of polarity"):
        curves(32, polarities=())
    with pytest.raises(UnknownName, match="curves"):
        drawings("curvs", 32)
