"""Ranks, deviations and company against hand counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cutaway.errors import BadInput
from cutaway.features.visualize import Natural, Visualization, natural_activity, sanity
from cutaway.features.visualize.checks import _likeness, rank_correlation
from cutaway.stimuli import StimulusSet
from tests.features.visualize.small import colours, flat, pictures


def image(unit: int, colour: tuple[float, float, float], *, minimum: bool = False) -> Visualization:
    pixels = torch.tensor([float(part) for part in colour]).view(3, 1, 1).expand(3, 24, 24)
    return Visualization(f"act:{unit}", pixels, None, 0.0, (0.0,), "", {"minimum": minimum})


def test_natural_activity() -> None:
    natural = natural_activity(colours(), "act", [0, 1, 0], pictures())
    assert natural.units == (0, 1)
    # A flat picture of red r gives the red unit 2/3 r; green and blue give it nothing.
    assert natural.highest[:, 0] == pytest.approx(np.array([0.2, 0.4, 0.6, 179 / 255, 0.8, 0, 0]) * 2 / 3, abs=1e-5)
    assert natural.highest[5, 1] == pytest.approx(128 / 255 * 2 / 3, abs=1e-5)
    assert natural.std[4] == 0 and natural.std[0] > 0
    assert len(natural.groups) == 7


def test_moments_are_over_all_positions() -> None:
    network, shown = colours(), pictures()
    natural = natural_activity(network, "act", [0], shown)
    acts = network.run(network.prepare(list(shown)), capture=["act"])["act"].double()
    values = acts.transpose(0, 1).flatten(1).numpy()
    assert natural.mean == pytest.approx(values.mean(1), abs=1e-6)
    assert natural.std == pytest.approx(values.std(1), abs=1e-6)


def test_company_is_the_mean_over_the_strongest_five() -> None:
    network, shown = colours(), pictures()
    natural = natural_activity(network, "act", [3], shown)
    acts = network.run(network.prepare(list(shown)), capture=["act"])["act"].double().flatten(2)
    best, where = acts[:, 3].max(1)
    rows = best.argsort(descending=True)[:5]
    assert natural.company[0] == pytest.approx(acts[rows, :, where[rows]].mean(0).numpy(), abs=1e-6)
    one_by_one = natural_activity(network, "act", [3], StimulusSet("again", list(shown)[::-1]))
    assert one_by_one.company == pytest.approx(natural.company, abs=1e-6)


def test_ranks_against_natural_images_and_other_units_images() -> None:
    network = colours()
    natural = natural_activity(network, "act", [0, 1, 2], pictures())
    made = [image(0, (0.5, 0, 0)), image(1, (0, 1, 0)), image(2, (0.3, 0, 1))]
    red, green, blue = sanity(network, made, natural)
    # 0.5 of red beats 0.2, 0.4 and the green and blue pictures; the blue one has red minus blue below 0.
    assert red.rank.value == pytest.approx(4 / 7)
    assert red.rank.null_mean == pytest.approx(0.0)
    assert (red.rank.p, red.rank.n) == (pytest.approx(1 / 3), 7)
    assert red.rank.low < 4 / 7 < red.rank.high <= 1
    assert green.rank.value == blue.rank.value == 1.0
    assert green.address == "act:1"


def test_deviations_and_company_on_the_image() -> None:
    network = colours()
    natural = natural_activity(network, "act", [0, 1, 2], pictures())
    (red,) = sanity(network, [image(0, (1, 0, 0))], natural)
    sigma = (2 / 3 - natural.mean[0]) / natural.std[0]
    assert red.sigma == pytest.approx(sigma, rel=1e-4)
    # Green and blue are silent, brightness has 1/3; the unit that never fires does not count.
    rest = [-natural.mean[1] / natural.std[1], -natural.mean[2] / natural.std[2]]
    rest.append((1 / 3 - natural.mean[3]) / natural.std[3])
    assert red.others_sigma == pytest.approx(np.mean(rest), rel=1e-4)
    assert red.beats == pytest.approx(np.mean([value < sigma for value in rest]))
    assert math.isnan(red.rank.null_mean), "no other image, no null"


def test_likeness_is_higher_for_the_own_image() -> None:
    network = colours()
    natural = natural_activity(network, "act", [0, 1, 2], pictures())
    right, wrong = sanity(network, [image(0, (1, 0, 0)), image(0, (0, 0, 1))], natural)
    # Without unit 0: green 0, blue 0, bright 1/3, never 0, on the image and on the red photographs alike.
    assert right.likeness.value == pytest.approx(1.0)
    assert wrong.likeness.value < right.likeness.value
    assert right.likeness.null_mean < 1


def test_likeness_leaves_the_unit_itself_out() -> None:
    company = np.array([[9.0, 1.0, 2.0, 3.0], [1.0, 9.0, 3.0, 2.0]])
    empty = np.zeros((5, 4))
    natural = Natural("act", (0, 1), ("a",) * 5, empty, empty, empty[0], empty[0], company)
    found = _likeness(np.array([0.0, 1.0, 2.0, 3.0]), 0, natural, seed=0)
    assert found.value == pytest.approx(1.0)  # with unit 0 it would be -0.2
    assert found.null_mean == pytest.approx(-1.0)  # (1, 2, 3) against (9, 3, 2)


def test_minimum_images_are_ranked_from_below() -> None:
    network = colours()
    stimuli = StimulusSet("grays", [flat((level, level, level)) for level in (51, 102, 153, 204)])
    natural = natural_activity(network, "conv", [3], stimuli)
    dark = Visualization("conv:3", torch.full((3, 24, 24), 0.5), None, 0.0, (0.0,), "", {"minimum": True})
    (found,) = sanity(network, [dark], natural)
    # Padding makes corners darkest: 4/9 of the gray level. 0.5 undercuts 0.6 and 0.8.
    assert found.rank.value == 0.5
    assert found.sigma > 0, "low is good here"


def test_dead_units_have_no_deviation() -> None:
    network = colours()
    natural = natural_activity(network, "act", [4], pictures())
    (dead,) = sanity(network, [image(4, (1, 1, 1))], natural)
    assert dead.rank.value == 0.0
    assert math.isnan(dead.sigma) and math.isnan(dead.beats)
    assert dead.to_json()["sigma"] is None


def test_rank_correlation_by_hand() -> None:
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([5.0, 9, 100])) == pytest.approx(1.0)
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 4, 3])) == pytest.approx(0.6)
    assert math.isnan(rank_correlation(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])))
    assert math.isnan(rank_correlation(np.array([1.0, 2]), np.array([1.0, 2])))


def test_images_of_another_site() -> None:
    natural = natural_activity(colours(), "act", [0], pictures())
    other = Visualization("conv:0", torch.zeros(3, 24, 24), None, 0.0, (0.0,), "", {})
    with pytest.raises(BadInput, match="another site"):
        sanity(colours(), [other], natural)
