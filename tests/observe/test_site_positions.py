"""Every layout of a site becomes positions of units, with places that padding does not move."""

import pytest
import torch

from cutaway.errors import BadInput
from cutaway.observe import as_positions, decode_place


def test_maps_become_positions_row_by_row() -> None:
    maps = torch.arange(2 * 3 * 2 * 4.0).view(2, 3, 2, 4)
    there = as_positions("batch unit y x", maps)
    assert there.acts.shape == (2, 8, 3)
    assert there.grid == (2, 4)
    assert there.valid is None
    for position, place in enumerate(there.places.tolist()):
        y, x = decode_place(place, axes=2)
        assert torch.equal(there.acts[:, position], maps[:, :, y, x])


def test_a_single_map_is_not_copied() -> None:
    maps = torch.ones(1, 3, 2, 4)
    assert as_positions("batch unit y x", maps).acts.data_ptr() == maps.data_ptr()


def test_a_head_is_the_norm_over_its_width() -> None:
    heads = torch.tensor([[[[3.0, 4.0], [0.0, 0.0]]]])  # batch pos unit d_head
    assert as_positions("batch pos unit d_head", heads).acts.tolist() == [[[5.0, 0.0]]]
    turned = heads.transpose(1, 2)
    assert as_positions("batch unit pos d_head", turned).acts.tolist() == [[[5.0, 0.0]]]


def test_vectors_are_one_position() -> None:
    there = as_positions("batch unit", torch.ones(2, 3), torch.tensor([[True, False], [True, True]]))
    assert there.acts.shape == (2, 1, 3)
    assert there.valid is None
    assert there.places.tolist() == [0]


def test_masks_reach_tokens_and_patterns() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    tokens = as_positions("batch pos unit", torch.ones(2, 3, 5), mask)
    assert tokens.valid is not None
    assert torch.equal(tokens.valid, mask)
    pattern = as_positions("batch unit query key", torch.ones(2, 4, 3, 3), mask)
    assert pattern.valid is not None
    assert pattern.acts.shape == (2, 9, 4)
    assert pattern.valid[0].view(3, 3).tolist() == [[True, True, False], [True, True, False], [False] * 3]
    assert as_positions("batch pos unit", torch.ones(2, 3, 5), torch.ones(2, 3, dtype=torch.bool)).valid is None


def test_the_place_of_a_pair_does_not_depend_on_padding() -> None:
    short, long = (as_positions("batch unit query key", torch.ones(1, 1, n, n)).places for n in (3, 5))
    assert decode_place(int(short[1 * 3 + 2]), axes=2) == decode_place(int(long[1 * 5 + 2]), axes=2) == (1, 2)


def test_half_precision_becomes_float32_and_a_graph_is_cut() -> None:
    tokens = torch.ones(1, 2, 3, dtype=torch.bfloat16, requires_grad=True)
    acts = as_positions("batch pos unit", tokens).acts
    assert acts.dtype == torch.float32
    assert not acts.requires_grad


def test_a_tensor_that_is_not_in_the_layout() -> None:
    with pytest.raises(BadInput, match="was captured at a site of layout 'batch pos unit'"):
        as_positions("batch pos unit", torch.ones(2, 3))
