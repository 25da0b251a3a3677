"""Joint tuning: turning, reading, aligning without making peaks of noise."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.errors import BadInput, NotTestable
from cutaway.features.curve_alignment import aligned, coherence, consistency
from cutaway.features.joint_tuning import JointTuning, joint_tuning, turned
from cutaway.networks import Network, wrap
from cutaway.stimuli import StimulusSet
from tests.features.planted import stimulus

SIDE = 11  # of the planted receptive field


def disc() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, columns = torch.meshgrid(torch.arange(SIDE) - 5.0, torch.arange(SIDE) - 5.0, indexing="ij")
    return rows, columns, (rows**2 + columns**2 <= 25).float()


def family(orientations_deg: tuple[float, ...] = (0.0, 90.0, 200.0)) -> Network:
    """Units that like the side towards their angle (counterclockwise from the right) bright; the last likes grey."""
    rows, columns, inside = disc()
    conv = nn.Conv2d(3, len(orientations_deg) + 1, SIDE, padding=5)
    with torch.no_grad():
        conv.weight.zero_()
        for unit, degrees in enumerate(orientations_deg):
            angle = math.radians(degrees)
            conv.weight[unit] = inside * (columns * math.cos(angle) - rows * math.sin(angle)) / 100
        conv.weight[-1] = inside / inside.sum() / 3
        conv.bias.zero_()  # type: ignore[union-attr]
    return wrap(nn.Sequential(conv, nn.ReLU()), name="sides", modality="image", example=torch.zeros(1, 3, 16, 16))


def edges(count: int = 6, seed: int = 0) -> StimulusSet:
    """Pictures of one straight edge each, in random directions, through the middle."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(48) - 23.5, torch.arange(48) - 23.5, indexing="ij")
    made = []
    for _ in range(count):
        angle = float(torch.rand(1, generator=generator)) * 2 * math.pi
        picture = torch.sigmoid(columns * math.cos(angle) - rows * math.sin(angle)).expand(3, -1, -1).contiguous()
        made.append(stimulus(picture, f"edge towards {math.degrees(angle):.0f}"))
    return StimulusSet("edges", made)


@pytest.fixture(scope="module")
def found() -> JointTuning:
    return joint_tuning(family(), "0:0", edges(), family=[1, 2, 3], step_deg=10, shuffles=199)


# -- turning -------------------------------------------------------------------------------------------------------


def test_a_quarter_turn_is_counterclockwise_and_no_turn_copies() -> None:
    picture = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0))
    angles = torch.tensor([0.0, 90.0, 180.0, 270.0])
    shown = turned(picture, (4.0, 4.0), angles, 9, (4.0, 4.0))
    for quarters in range(4):
        torch.testing.assert_close(shown[quarters], torch.rot90(picture, quarters, (1, 2)), atol=1e-5, rtol=0)


def test_the_centre_stays_and_lands_in_the_middle() -> None:
    picture = torch.zeros(3, 20, 30)
    picture[:, 6, 21] = 1
    shown = turned(picture, (6.0, 21.0), torch.arange(0.0, 360, 30), 7, (3.0, 3.0))
    torch.testing.assert_close(shown[:, :, 3, 3], torch.ones(12, 3), atol=1e-4, rtol=0)


def test_beyond_the_border_the_picture_is_mirrored() -> None:
    picture = torch.arange(5.0).expand(3, 5, 5)
    shown = turned(picture, (2.0, 0.0), torch.zeros(1), 5, (2.0, 2.0))
    torch.testing.assert_close(shown[0, 0, 2], torch.tensor([1.0, 0.0, 0.0, 1.0, 2.0]), atol=1e-5, rtol=0)


def test_unturned_the_unit_does_what_it_did_on_the_whole_picture() -> None:
    exact = joint_tuning(family(), "0:0", edges(), step_deg=45, noise=1e-9, shuffles=19)
    for place, curve in zip(exact.places, exact.curves[:, :, 0], strict=True):
        assert curve[0] == pytest.approx(place.value, abs=1e-4)
        assert place.value > 0.2


# -- the planted family --------------------------------------------------------------------------------------------


def test_every_example_peaks_where_its_edge_faces_the_unit(found: JointTuning) -> None:
    for place, peak in zip(found.places, found.aligned_by, strict=True):
        towards = float(place.source.split()[-1])
        assert abs((towards + peak + 180) % 360 - 180) <= 20, "turned by minus its direction, the edge faces right"


def test_the_family_shares_one_curve_at_its_own_offsets(found: JointTuning) -> None:
    own, quarter, other, grey = found.units
    assert [unit.unit for unit in found.units] == [0, 1, 2, 3]
    assert abs(own.preferred_offset_deg) <= 20
    assert quarter.preferred_offset_deg == pytest.approx(90, abs=20)
    assert other.preferred_offset_deg == pytest.approx(-160, abs=20)
    for unit in (own, quarter, other):
        assert unit.coherence.value > 0.9
        assert unit.coherence.p <= 0.02
        assert unit.coherence.null_mean == pytest.approx(1 / math.sqrt(len(found.places)), abs=0.1)
        assert unit.consistency.value > 0.9
    assert own.average.argmax() in (0, 1, 2, 34, 35)
    assert abs(own.average.argmin() - 18) <= 2
    assert grey.coherence.p > 0.05, "turning does nothing to a unit that likes grey"


def test_a_twin_is_shown_the_same_places(found: JointTuning) -> None:
    turned_about = joint_tuning(family((45.0,)), "0:0", places=found.places, step_deg=10, shuffles=19)
    assert turned_about.places == found.places
    differences = (turned_about.aligned_by - found.aligned_by + 180) % 360 - 180
    assert np.abs(differences - 45).max() <= 20


def test_the_same_seed_gives_the_same_numbers() -> None:
    one, two, three = (
        joint_tuning(family(), "0:0", edges(), step_deg=45, shuffles=19, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.curves, two.curves)
    assert one.units[0].coherence == two.units[0].coherence
    assert not np.array_equal(one.curves, three.curves)


# -- aligning ------------------------------------------------------------------------------------------------------


def test_coherence_by_hand() -> None:
    curves = np.array([[4.0, 0, 0, 0], [0, 4.0, 0, 0]])
    np.testing.assert_array_equal(aligned(curves, np.array([0, 1])), [[4, 0, 0, 0], [4, 0, 0, 0]])
    assert coherence(curves, np.array([0, 1]), shuffles=9).value == pytest.approx(1)
    # unaligned the mean is 2 2 0 0 with deviation 1; single curves have sqrt(3)
    assert coherence(curves, np.array([0, 0]), shuffles=9).value == pytest.approx(1 / math.sqrt(3))


def noise_curves(seed: int, copies: int, examples: int = 8, angles: int = 72) -> np.ndarray:
    """Smooth random curves, independent between copies."""
    drawn = np.random.default_rng(seed).normal(size=(copies, examples, angles))
    spectrum = np.fft.rfft(drawn, axis=2) * np.exp(-((np.arange(angles // 2 + 1) / 4) ** 2))
    return np.fft.irfft(spectrum, n=angles, axis=2)


def test_alignment_by_one_copy_makes_no_peak_of_noise_in_the_other() -> None:
    peaks, trapped, ps = [], [], []
    for seed in range(40):
        one, other = noise_curves(seed, 2)
        scale = other.std()
        peaks.append(aligned(other, one.argmax(1)).mean(0)[0] / scale)
        trapped.append(aligned(one, one.argmax(1)).mean(0)[0] / scale)
        ps.append(coherence(other, one.argmax(1), shuffles=99).p)
    assert abs(np.mean(peaks)) < 0.15, "flat: nothing at the aligned angle"
    assert np.mean(trapped) > 1.2, "a curve's own maximum makes a peak out of nothing"
    assert 0.3 < np.mean(ps) < 0.7
    assert np.mean(np.array(ps) <= 0.05) <= 0.15


def test_consistency_has_the_peak_of_alignment_in_its_null() -> None:
    values, nulls, ps = [], [], []
    for seed in range(30):
        (curves,) = noise_curves(100 + seed, 1)
        measured = consistency(curves, curves, shuffles=79)  # the worst case: both copies are the same
        values.append(measured.value)
        nulls.append(measured.null_mean)
        ps.append(measured.p)
    assert np.mean(values) > 0.2, "own maxima do make random curves agree"
    assert np.mean(values) == pytest.approx(np.mean(nulls), abs=0.05)
    assert np.mean(np.array(ps) <= 0.05) <= 0.2


def test_one_curve_for_all_is_consistent_and_one_for_each_is_only_coherent() -> None:
    angles = np.arange(72)
    same = np.exp(-(((angles - 36) / 6) ** 2)) + 0.6 * np.exp(-(((angles - 50) / 4) ** 2))
    shifts = np.random.default_rng(0).integers(72, size=8)
    family_curves = np.stack([np.roll(same, shift) for shift in shifts])
    assert consistency(family_curves, family_curves, shuffles=199).p <= 0.02
    (different,) = noise_curves(7, 1)
    assert coherence(different, different.argmax(1), shuffles=199).p <= 0.02
    assert consistency(different, different, shuffles=199).p > 0.05


# -- bad input -----------------------------------------------------------------------------------------------------


def test_bad_requests_are_one_sentence() -> None:
    with pytest.raises(BadInput, match="divisor of 360"):
        joint_tuning(family(), "0:0", edges(), step_deg=7)
    with pytest.raises(BadInput, match="noise of 0"):
        joint_tuning(family(), "0:0", edges(), noise=0)
    with pytest.raises(BadInput, match="Neither stimuli nor places"):
        joint_tuning(family(), "0:0")
    with pytest.raises(BadInput, match="units 0 to 3"):
        joint_tuning(family(), "0:0", edges(), family=[9])
    with pytest.raises(NotTestable, match="needs three examples"):
        joint_tuning(family(), "0:0", edges(2))
    flat = wrap(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), name="flat", example=torch.zeros(1, 3, 4, 4))
    with pytest.raises(NotTestable, match="not a feature map"):
        joint_tuning(flat, "1:0", edges())
