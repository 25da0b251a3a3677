"""Movements against arithmetic on pixels."""

from __future__ import annotations

import math

import pytest
import torch

from cutaway.errors import BadInput
from cutaway.features.visualize import LUCID, NONE, STRONG, Transforms, for_field
from cutaway.features.visualize.transforms import Warp

PICTURE = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))


def warp(*, before=(0, 0), after=(0, 0), scale=1.0, degrees=0.0, transforms=NONE) -> Warp:
    return Warp(before, after, scale, math.radians(degrees), transforms)


def test_no_movement_changes_nothing() -> None:
    assert torch.allclose(warp()(PICTURE), PICTURE, atol=1e-6)


def test_a_jitter_moves_whole_pixels_and_shows_gray_beyond() -> None:
    moved = warp(before=(2, -1))(PICTURE)
    assert torch.allclose(moved[:, :, 1:, :-2], PICTURE[:, :, :-1, 2:], atol=1e-5)
    assert torch.allclose(moved[:, :, 0], torch.tensor(0.5))
    assert torch.allclose(moved[:, :, :, -2:], torch.tensor(0.5))
    assert torch.allclose(warp(before=(2, 0), after=(0, -1))(PICTURE), moved, atol=1e-5)


def test_a_quarter_turn() -> None:
    square = PICTURE[:, :, :6]
    turned = warp(degrees=90)(square)
    assert torch.allclose(turned, torch.rot90(square, -1, (2, 3)), atol=1e-5)


def test_the_later_jitter_is_in_the_turned_frame() -> None:
    square = PICTURE[:, :, :6]
    moved = warp(degrees=90, after=(1, 0))(square)
    assert torch.allclose(moved[..., :-1], torch.rot90(square, -1, (2, 3))[..., 1:], atol=1e-5)


def test_a_scale_of_two_shows_the_middle_half() -> None:
    ramp = torch.linspace(0, 1, 8).expand(1, 3, 8, 8)
    seen = warp(scale=2.0)(ramp)[0, 0, 4]
    # From the middle (3.5) pixel k is (k - 3.5) / 2 away, and the ramp rises by 1/7 each pixel.
    assert torch.allclose(seen, 0.5 + (torch.arange(8) - 3.5) / 2 / 7, atol=1e-5)


def test_what_the_network_sees() -> None:
    assert NONE.seen(56) == 56
    assert STRONG.seen(56) == 56
    assert LUCID.seen(56) == 56 + 2 * 12 - 8 - 4
    wide = warp(transforms=Transforms(pad=3, jitter=0, scales=(1.0, 1.0), degrees=0, jitter_after=0))(PICTURE)
    assert wide.shape == (2, 3, 14, 12)
    assert torch.allclose(wide[:, :, 3:-3, 3:-3], PICTURE, atol=1e-5)
    assert torch.allclose(wide[:, :, :3], torch.tensor(0.5))
    assert Transforms(pad=0, jitter=400).seen(32) == 16


def test_draws_follow_the_generator_and_stay_in_range() -> None:
    def draws(seed: int) -> list[Warp]:
        generator = torch.Generator().manual_seed(seed)
        return [LUCID.draw(generator) for _ in range(200)]

    assert draws(1) == draws(1) != draws(2)
    found = draws(0)
    assert {each.before[0] for each in found} == set(range(-4, 5))
    assert {each.after[1] for each in found} == set(range(-2, 3))
    assert 0.9 <= min(each.scale for each in found) < 0.92 < 1.08 < max(each.scale for each in found) <= 1.1
    assert max(abs(each.radians) for each in found) <= math.radians(10)


def test_defaults_are_weak_for_small_fields() -> None:
    assert for_field(3).degrees == 0
    assert 0 < for_field(40).degrees < for_field(200).degrees == for_field(None).degrees == 10


def test_impossible_amounts() -> None:
    with pytest.raises(BadInput, match="from 0"):
        Transforms(pad=-1)
    with pytest.raises(BadInput, match="above 0"):
        Transforms(scales=(0.0, 1.0))
