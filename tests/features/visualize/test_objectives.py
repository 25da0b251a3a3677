"""Objectives against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.features.visualize import (
    Objective,
    Step,
    alignment,
    attributed,
    caricature,
    channel,
    direction,
    diversity,
    faceted,
    gray_distance,
    interpolation,
    logit,
    neuron,
    paid_by_opacity,
)
from cutaway.features.visualize.objectives import Reference

# Two items, two units, 3 x 3 places: unit 0 counts 0..8, unit 1 is ten times as much; item 1 is one more everywhere.
COUNT = torch.arange(9.0).reshape(3, 3)
ACTS = torch.stack([torch.stack([COUNT, 10 * COUNT]), torch.stack([COUNT, 10 * COUNT]) + 1])


def step(acts: Tensor = ACTS, **others: object) -> Step:
    return Step({"s": acts}, torch.full((len(acts), 3, 4, 4), 0.5), **others)  # type: ignore[arg-type]


def scores(objective: Objective, seen: Step | None = None) -> list[float]:
    return objective(seen or step()).tolist()


def test_a_channel_is_the_mean_over_positions() -> None:
    assert scores(channel("s", [0, 1])) == [4.0, 41.0]
    assert scores(channel("s", 1)) == [40.0, 41.0]


def test_a_border_is_left_out_but_never_everything() -> None:
    corner = ACTS.clone()
    corner[:, :, 0, 0] = 900.0
    assert scores(channel("s", 0, border=1), step(corner)) == [4.0, 5.0]
    assert scores(channel("s", 0, border=7), step(corner)) == [4.0, 5.0]
    assert scores(channel("s", 0), step(corner)) == [104.0, pytest.approx((36 + 8 + 900) / 9)]


def test_a_neuron_is_one_position() -> None:
    assert scores(neuron("s", [0, 1])) == [4.0, 41.0]
    assert scores(neuron("s", 0, position=(2, 1))) == [7.0, 8.0]
    with pytest.raises(BadInput, match=r"Position \(3, 0\) of s was asked for; its map is \(3, 3\)"):
        scores(neuron("s", 0, position=(3, 0)))


def test_sites_without_positions_have_the_unit_itself() -> None:
    flat = step(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert scores(channel("s", [1, 0]), flat) == [2.0, 3.0]
    assert scores(neuron("s", 1), flat) == [2.0, 4.0]


def test_a_direction_is_a_dot_product_times_a_power_of_the_cosine() -> None:
    acts = torch.tensor([[3.0, 4.0], [-3.0, 4.0]])[:, :, None, None]
    toward = torch.tensor([2.0, 0.0])
    # item 0: dot 6, cosine 3/5; item 1: dot -6, cosine -3/5, floored at 0.1
    assert scores(direction("s", toward), step(acts)) == [6.0, -6.0]
    assert scores(direction("s", toward, power=2), step(acts)) == pytest.approx([6 * 0.36, -6 * 0.01], rel=1e-4)
    assert scores(direction("s", torch.tensor([[2.0, 0.0], [0.0, 1.0]])), step(acts)) == [6.0, 4.0]
    assert scores(direction("s", torch.tensor([1.0, 0.0]), centre=True)) == [4.0, 5.0]
    with pytest.raises(BadInput, match="length 3 was given for s; it has 2 units"):
        scores(direction("s", torch.ones(3)))


def test_a_logit() -> None:
    assert scores(logit([1, 0]), step(output=torch.tensor([[1.0, 2.0], [3.0, 4.0]]))) == [2.0, 3.0]
    assert logit(0).wants_output
    assert (channel("s", 0) + logit(0)).wants_output
    with pytest.raises(BadInput, match="stopped before the output"):
        scores(logit(0))


def test_objectives_add_and_multiply() -> None:
    a, b = channel("s", 0), channel("t", 1)
    seen = Step({"s": ACTS, "t": ACTS}, torch.zeros(2, 3, 4, 4))
    assert scores(a + b, seen) == [44.0, 46.0]
    assert scores(a - b, seen) == [-36.0, -36.0]
    assert scores(a * b, seen) == [160.0, 205.0]
    assert scores(-a, seen) == [-4.0, -5.0]
    assert scores(2 * a + 1, seen) == [9.0, 11.0]
    assert scores(1 - a * 0.5, seen) == [-1.0, -1.5]
    assert (a + b).sites == {"s", "t"}
    assert (2 * (a + b)).text == "2 * (channel s:0 + channel t:1)"
    assert (a - (b - a)).text == "channel s:0 - (channel t:1 - channel s:0)"


def test_a_batch_size_is_carried_and_checked() -> None:
    assert (channel("s", [0, 1]) + channel("s", 0)).items == 2
    assert (3 * channel("s", 0)).items is None
    with pytest.raises(BadInput, match="for 2 and for 3 images"):
        channel("s", [0, 1]) + channel("s", [0, 1, 1])
    with pytest.raises(BadInput, match="3 units were given for 2 images"):
        scores(channel("s", [0, 1, 1]))


def test_wrong_units_and_numbers() -> None:
    with pytest.raises(BadInput, match="Unit 2 of s was asked for; it has units 0 to 1"):
        scores(channel("s", [0, 2]))
    with pytest.raises(BadInput, match="nan"):
        channel("s", 0) * math.nan


def test_diversity_of_textures() -> None:
    # Item 0 fires in unit 0 alone, item 1 in unit 1 alone, item 2 like item 0 at another place: the same texture.
    acts = torch.zeros(3, 2, 1, 2)
    acts[0, 0, 0, 0], acts[1, 1, 0, 0], acts[2, 0, 0, 1] = 5.0, 7.0, 2.0
    assert scores(diversity("s"), step(acts)) == [-1.0, 0.0, -1.0]
    assert scores(diversity("s", groups=[0, 0, 1]), step(acts)) == [0.0, 0.0, 0.0]
    # Both units together: Gram [[1, 1], [1, 1]] / 2 against [[1, 0], [0, 0]] is one half.
    acts[1, :, 0, 0] = 1.0
    assert scores(diversity("s"), step(acts)) == pytest.approx([-1.5, -1.0, -1.5])


def test_interpolation_and_alignment() -> None:
    acts = torch.tensor([0.0, 1.0, 3.0]).reshape(3, 1, 1, 1)
    # gaps 1 and 2, squares 1 and 4, half to each neighbour
    assert scores(alignment("s"), step(acts)) == [-0.5, -2.5, -2.0]
    both = torch.tensor([10.0, 100.0]).reshape(1, 2, 1, 1).expand(3, 2, 1, 1)
    assert scores(interpolation(channel("s", 0), channel("s", 1), 3), step(both)) == [10.0, 55.0, 100.0]
    with pytest.raises(BadInput, match="at least 2"):
        interpolation(channel("s", 0), channel("s", 1), 1)


def showing(acts: Tensor, gradient: Tensor | None = None) -> Callable[..., Reference]:
    return lambda _picture, _site, _target: Reference(acts, gradient)


def test_a_caricature_compares_with_a_picture() -> None:
    acts = torch.tensor([[3.0, 4.0], [0.0, 1.0]])[:, :, None, None]
    picture = torch.tensor([[1.0, 0.0]])[:, :, None, None]
    # item 0: dot 3, cosine 3/5; item 1: dot 0
    found = scores(caricature("s", torch.zeros(3, 4, 4)), step(acts, show=showing(picture)))
    assert found == pytest.approx([3 * 0.6, 0.0], abs=1e-5)
    with pytest.raises(BadInput, match="nothing here can show one"):
        scores(caricature("s", torch.zeros(3, 4, 4)), step(acts))


def test_attribution_weights_activations_by_what_they_give_the_target() -> None:
    acts = torch.tensor([[3.0, 4.0]])[:, :, None, None]
    shown = showing(torch.tensor([[2.0, 1.0]])[:, :, None, None], torch.tensor([[5.0, -1.0]])[:, :, None, None])
    picture = torch.zeros(3, 4, 4)
    # h * dt/dh = (10, -1)
    assert scores(attributed("s", "t:0", picture), step(acts, show=shown)) == [30.0 + 4.0]
    assert scores(attributed("s", "t:0", picture, absolute=False), step(acts, show=shown)) == [30.0 - 4.0]


def test_a_facet_counts_what_raises_the_objective_by_way_of_the_probe() -> None:
    acts = torch.tensor([[3.0, 4.0]])[:, :, None, None].requires_grad_()
    later = torch.stack([2 * acts[:, 0] - acts[:, 1]], dim=1)
    seen = Step({"s": acts, "t": later}, torch.zeros(1, 3, 4, 4))
    # f = 2 * 3 - 4 = 2, df/dg = (2, -1), of which relu leaves (2, 0): g * that = (6, 0)
    objective = faceted(channel("t", 0), "s", torch.tensor([1.0, 9.0]), weight=0.5)
    assert scores(objective, seen) == [2.0 + 0.5 * 6.0]
    (gradient,) = torch.autograd.grad(objective(seen).sum(), acts)
    assert gradient.flatten().tolist() == [2.0 + 0.5 * 2.0, -1.0]


def test_pixels_and_opacity() -> None:
    seen = Step({"s": ACTS}, torch.full((2, 3, 4, 4), 0.8), alpha=torch.full((2, 1, 4, 4), 0.25))
    assert scores(gray_distance(), seen) == pytest.approx([0.09, 0.09])
    assert scores(paid_by_opacity(channel("s", 0)), seen) == [3.0, 3.75]
    assert scores(paid_by_opacity(-channel("s", 0)), seen) == [-4.0, -5.0], "opacity must not pay off below zero"
    with pytest.raises(BadInput, match="alpha=True"):
        scores(paid_by_opacity(channel("s", 0)))
