"""Decoder norms of two networks, by hand."""

import pytest
import torch

from cutaway.bases.crosscoders import Crosscoder, Plan, bin_counts, norm_bins, norm_difference, norm_differences
from cutaway.errors import BadInput
from tests.bases.crosscoders.handmade import by_hand


def test_the_norm_difference_by_hand() -> None:
    first, second = torch.tensor([1.0, 2.0, 0.0, 4.0]), torch.tensor([1.0, 0.0, 3.0, 1.0])
    assert norm_difference(first, second).tolist() == [0.5, 0.0, 1.0, 0.125]
    assert bool(norm_difference(torch.zeros(1), torch.zeros(1)).isnan())


def test_the_bins_are_the_published_ones() -> None:
    differences = torch.tensor([0.0, 0.09, 0.1, 0.39, 0.4, 0.5, 0.6, 0.61, 0.9, 0.91, 1.0], dtype=torch.float64)
    names = norm_bins(differences)
    between = "between"
    assert names == (
        "only-first", "only-first", between, between, "shared", "shared", "shared", between, between,
        "only-second", "only-second",
    )  # fmt: skip
    assert bin_counts(names) == {"only-first": 2, "shared": 3, "only-second": 2, "between": 4}


def test_norms_are_taken_in_units_in_which_networks_weigh_the_same() -> None:
    """By hand: the decoders (3, 4) and 10 have norms 5 and 10; the second network's unit is 4."""
    coder = by_hand([[3.0, 4.0, 10.0]], writes=(2, 1))
    assert norm_differences(coder).tolist() == [0.75]
    coder.out_scale.copy_(torch.tensor([1.0, 1.0, 4.0]))
    assert norm_differences(coder).tolist() == [0.75], "norms are inside, in scaled units"
    assert coder.block_directions("b").tolist() == [[40.0]], "directions are the caller's"
    assert coder.worth().tolist() == [15.0]


def test_plans_that_cannot_be_are_refused() -> None:
    for change, reason in (
        ({"k": 9.0}, "a k up to 4"),
        ({"k": 1.5, "selection": "topk"}, "whole for topk"),
        ({"k": None}, "a k up to 4"),
        ({"selection": "l1"}, "takes no k"),
        ({"selection": "soft"}, "no selection 'soft'"),
        ({"blocks": ("a", "a")}, "different names"),
        ({"writes": (2,)}, "reads 1 widths and writes 2"),
        ({"reads": (3,)}, "reads what it writes"),
        ({"latents": 0}, "0 latents"),
        ({"form": "encoder"}, "no form"),
    ):
        with pytest.raises(BadInput, match=reason):
            Plan(**{"form": "crosscoder", "blocks": ("a", "b"), "reads": (4,), "writes": (2, 2), "latents": 4, "k": 1,
                    **change})  # fmt: skip
    with pytest.raises(BadInput, match="has a, b"):
        Crosscoder(Plan("crosscoder", ("a", "b"), (4,), (2, 2), 4, k=1)).plan.block("c")
