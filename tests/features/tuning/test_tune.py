"""Tuning finds what was planted, and nothing in noise."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import cutaway
from cutaway.errors import BadInput, NotTestable, UnknownName
from cutaway.features.tuning import (
    CurveCriterion,
    Grid,
    UnitTuning,
    distance,
    natural_scale,
    radial_tuning,
    respond,
    summarise,
    tune,
    view_of,
)
from cutaway.stimuli import StimulusSet, builtin_photographs
from cutaway.stimuli.drawings import curves, gratings, lines
from tests.networks.tiny import convnet, transformer

SIDE = 21


def template_network(directions: tuple[float, ...], radius: float = 5.0) -> cutaway.Network:
    """Each unit is the picture of a curve as a kernel, without its mean, behind a threshold; the last is a blur."""
    drawn = curves(SIDE, orientations=360, radii_px=(radius,), widths_px=(3,), polarities=(1,), filled=False)
    kernels = [drawn.paint(np.array([int(d)]))[0, 0] - 0.5 for d in directions]
    kernels = [(k - k.mean()) / np.abs(k).sum() for k in kernels] + [np.full((SIDE, SIDE), 1 / SIDE**2)]
    conv = nn.Conv2d(3, len(kernels), SIDE, stride=2, padding=SIDE // 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(np.stack(kernels), dtype=torch.float32)[:, None].expand(-1, 3, -1, -1) / 3)
        conv.bias.zero_()
    return cutaway.wrap(nn.Sequential(conv, nn.ReLU()), example=torch.zeros(1, 3, 64, 64))


@pytest.fixture(scope="module")
def planted():
    network = template_network((0, 45, 130, 200, 290))
    return network, tune(network, "1", nulls=1)


def test_planted_directions_come_back(planted) -> None:
    _, tuning = planted
    found = np.array([row.orientation_deg for row in tuning.rows[:5]])
    assert distance(found, np.array([0.0, 45, 130, 200, 290])).max() < 10
    assert all(row.peak_sigma > 2 and row.echo < 0.5 for row in tuning.rows[:5])
    assert tuning.rows[5].coherence < 0.2 * min(row.coherence for row in tuning.rows[:5]), "a blur has no direction"


def test_a_template_of_one_polarity_is_not_steady(planted) -> None:
    """It answers to light curves only, so that its directions for dark ones cannot agree: the criterion says no."""
    _, tuning = planted
    assert all(row.steady < 1 and not row.passes for row in tuning.rows[:5])


def test_a_template_of_both_polarities_passes(planted) -> None:
    """Curve energy: the larger of a template's and its negative's answers, read by a second layer."""
    network, _ = planted
    first = network.module[0]
    both = nn.Conv2d(3, 10, SIDE, stride=2, padding=SIDE // 2)
    second = nn.Conv2d(10, 5, 1)
    with torch.no_grad():
        both.weight.copy_(torch.cat([first.weight[:5], -first.weight[:5]]))
        both.bias.fill_(-0.05)
        second.weight.copy_(torch.cat([torch.eye(5), torch.eye(5)], 1)[:, :, None, None])
        second.bias.zero_()
    module = nn.Sequential(both, nn.ReLU(), second, nn.ReLU())
    tuning = tune(cutaway.wrap(module, example=torch.zeros(1, 3, 64, 64)), "3", nulls=1)
    kept = [row for row in tuning.rows if row.peak_sigma > 2 and row.echo < 0.6]
    assert len(kept) == 5
    assert distance(np.array([r.orientation_deg for r in kept]), np.array([0.0, 45, 130, 200, 290])).max() < 10
    assert [null.passing for null in tuning.nulls] == [0, 0]


def test_json_holds_what_the_contract_names(planted) -> None:
    _, tuning = planted
    document = json.loads(json.dumps(tuning.to_json(), allow_nan=False))
    names = {"unit", "kind", "orientation_deg", "radius_px", "fwhm_deg", "echo", "line_ratio", "peak_sigma", "p"}
    assert names <= document["units"][0].keys() and len(document["units"]) == 6
    assert document["nulls"][0]["kind"] == "untrained twin"
    assert document["natural_pictures"] == 32, "the embedded ones that set the scale"


def test_p_is_against_all_units_of_all_nulls(planted) -> None:
    _, tuning = planted
    pooled = np.concatenate([null.statistic for null in tuning.nulls])
    row = tuning.rows[0]
    assert row.p == pytest.approx((1 + (pooled >= row.coherence).sum()) / (1 + len(pooled)))


def test_a_summary_by_hand() -> None:
    drawn = curves(16, orientations=4, radii_px=(2, 4), widths_px=(2,), polarities=(1, -1), filled=False)
    # slices are (polarity, radius); radius 4 is best: mean over polarities [0, 3, 0, 1]
    responses = np.array([[0, 1, 0, 0], [0, 4, 0, 2], [1, 0, 0, 0], [0, 2, 0, 0]], dtype=float).reshape(1, -1)
    (row,) = summarise(drawn, responses, np.array([[1.0, 2.0]]))
    assert (row.peak_sigma, row.radius_px, row.line_ratio) == (4, 4, 0.5)
    assert row.orientation_deg == 90 and row.echo == pytest.approx(1 / 3)
    assert row.best == {
        "chroma": 0,
        "turn_deg": 90,
        "fill": 0,
        "polarity": 1,
        "width_px": 2,
        "radius_px": 4,
        "orientation_deg": 90,
    }
    # mean over the four slices [0.25, 1.75, 0, 0.5]: harmonic (2 / 4) |0.25 + 1.25 i|
    assert row.coherence == pytest.approx(0.5 * math.hypot(0.25, 1.25))
    assert row.steady == pytest.approx(1.0), "both polarities prefer 90 at radius 4, and so does radius 2"


def test_unsteady_in_one_parameter_by_hand() -> None:
    drawn = curves(16, orientations=4, radii_px=(2, 4), widths_px=(2,), polarities=(1, -1), filled=False)
    responses = np.array([[0, 1, 0, 0], [0, 4, 0, 0], [0, 1, 0, 0], [0, 0, 0, 3]], dtype=float).reshape(1, -1)
    assert summarise(drawn, responses)[0].steady == 0.5, "polarities disagree, radii do not"


def test_invariance_by_hand() -> None:
    drawn = curves(16, orientations=2, radii_px=(4,), widths_px=(2,), polarities=(1, -1))
    # drawn light, drawn dark, filled light, filled dark
    responses = np.array([[0, 8], [2, 0], [0, 4], [-1, -2]], dtype=float).reshape(1, -1)
    (row,) = summarise(drawn, responses)
    assert row.invariance["polarity"] == pytest.approx(2 / 8) and row.invariance["fill"] == pytest.approx(4 / 8)
    assert row.invariance["width_px"] == pytest.approx(4 / 8), "a width of 0 is the filled one"


def test_radial_tuning(planted) -> None:
    network, tuning = planted
    (fine,) = radial_tuning(network, "1", [tuning.rows[2]], step_deg=5)
    assert len(fine.sigma) == 72 and distance(fine.preferred_deg, 130.0) < 4
    assert 0 <= fine.position < 0.9, "a template minds where the curve is"
    assert json.dumps(fine.to_json(), allow_nan=False)


def test_the_grid_does_not_depend_on_the_order_of_drawings() -> None:
    drawn = curves(16, orientations=6, radii_px=(2, 4))
    values = np.random.default_rng(0).normal(size=(3, len(drawn)))
    order = np.random.default_rng(1).permutation(len(drawn))
    shuffled = summarise(drawn.where(order), values[:, order])
    for one, other in zip(summarise(drawn, values), shuffled):
        assert one.to_json() == other.to_json()
    assert Grid.of(drawn, values).values.shape == (3, len(drawn) // 6, 6)


def test_orientation_of_gratings_repeats_after_half_a_turn() -> None:
    drawn = gratings(16, orientations=6, periods_px=(4,), phases=2)
    answer = np.cos(np.deg2rad(2 * (drawn.columns["orientation_deg"] - 60)))
    (row,) = summarise(drawn, answer[None])
    assert row.orientation_deg == pytest.approx(60) and math.isnan(row.echo) and row.coherence == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ({}, True), ({"peak_sigma": 2.0}, False), ({"fwhm_deg": 91.0}, False), ({"echo": 0.36}, False),
        ({"line_ratio": 0.9}, False), ({"steady": 0.75}, False), ({"echo": math.nan}, False),
    ],
)  # fmt: skip
def test_the_criterion(change: dict, passes: bool) -> None:
    good = {"peak_sigma": 2.1, "fwhm_deg": 90.0, "echo": 0.35, "line_ratio": 0.89, "steady": 1.0}
    assert CurveCriterion().passes(UnitTuning(0, "curves", **{**good, **change})) is passes


def test_natural_scale_by_hand(zoo) -> None:
    network = cutaway.wrap(nn.Sequential(nn.Conv2d(3, 2, 1)), example=torch.zeros(1, 3, 8, 8))
    with torch.no_grad():
        network.module[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2, 0]])[:, :, None, None])
        network.module[0].bias.copy_(torch.tensor([0.0, 1]))
    from cutaway.features.tuning.responses import natural_pixels

    photographs = StimulusSet("few", list(builtin_photographs())[:4])
    scale = natural_scale(network, "0", photographs)
    pixels = torch.stack([natural_pixels(s.load()) for s in photographs]).double()
    assert scale.mean == pytest.approx([float(pixels[:, 0].mean()), 1 + 2 * float(pixels[:, 1].mean())], abs=1e-5)
    assert scale.std[1] == pytest.approx(2 * float(pixels[:, 1].std(correction=0)), rel=1e-4)


def test_the_view_is_centred_on_what_the_unit_sees() -> None:
    """A unit that reads one pixel of its field answers to a drawing at the origin."""
    conv = nn.Conv2d(3, 1, 9, stride=4, padding=4)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()
        conv.weight[0, :, 4, 4] = 1 / 3
    network = cutaway.wrap(nn.Sequential(conv), example=torch.zeros(1, 3, 64, 64))
    view = view_of(network, "0")
    from cutaway.features.tuning.responses import without_window
    from cutaway.stimuli.drawings import circles

    dot = circles(32, radii_px=(0.6,), polarities=(1,))
    assert respond(network, "0", dot, without_window(view))[0, -1] == pytest.approx(1.0, abs=0.11)


def test_hed_conv3_3_has_a_curve_detector(zoo) -> None:
    """Channel 196 of conv3_3 prefers curves that bulge to the right, twenty natural deviations strong."""
    network = zoo("vgg16-hed")
    view = view_of(network, "conv3_3")
    shown = curves(view.canvas.size, orientations=8, radii_px=(8, 11.31), widths_px=(2,), filled=False)
    few = builtin_photographs().take(8)
    (row,) = tune(network, "conv3_3", units=[196], nulls=0, shown=shown, stimuli=few).rows
    assert row.peak_sigma > 10 and row.echo < 0.1 and distance(row.orientation_deg, 0.0) < 45


def test_what_cannot_be_tuned() -> None:
    network = cutaway.wrap(convnet(), example=torch.zeros(1, 3, 32, 32))
    with pytest.raises(BadInput, match="units 0 to 5"):
        tune(network, "1", units=[6], nulls=0)
    with pytest.raises(UnknownName, match="kind of drawing"):
        tune(network, "1", "curvs", nulls=0)
    with pytest.raises(NotTestable, match="no feature map"):
        tune(network, "7", nulls=0)
    with pytest.raises(NotTestable, match="no feature map"):
        tune(cutaway.wrap(transformer("llama")), "layers.0.mlp", nulls=0)


def test_lines_count_against_curves() -> None:
    assert len(lines(32)) == 12 * (2 * 2 + 2 * 2)  # two widths or two sides, two polarities
