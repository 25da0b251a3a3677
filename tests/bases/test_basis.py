"""Rows of sites, the bases that are not trained, and whose network a basis is."""

import pytest
import torch

import cutaway
from cutaway.bases import (
    Basis,
    Origin,
    SparseCodes,
    TensorSource,
    check_origin,
    from_rows,
    neurons,
    nonnegative_parts,
    principal_components,
    random_directions,
    to_rows,
)
from cutaway.errors import BadInput
from cutaway.networks.sites import HEADS, MAPS, PATTERN, POSITIONS, Site


@pytest.mark.parametrize(
    ("layout", "shape", "heads", "width"),
    [(MAPS, (2, 3, 4, 5), None, 3), (POSITIONS, (2, 5, 3), None, 3), (HEADS, (2, 5, 3, 4), 3, 12)],
)
def test_rows_go_back_to_where_they_came_from(
    layout: str, shape: tuple[int, ...], heads: int | None, width: int
) -> None:
    site = Site("s", "k", layout, "m", heads=heads)
    value = torch.arange(float(torch.Size(shape).numel())).view(shape)
    rows = to_rows(value, site)
    assert rows.shape == (value.numel() // width, width)
    assert torch.equal(from_rows(rows, value, site), value)
    if layout == MAPS:
        assert rows[1].tolist() == value[0, :, 0, 1].tolist()  # the second pixel of the first row


def test_patterns_are_no_rows() -> None:
    with pytest.raises(BadInput, match="not a vector"):
        to_rows(torch.zeros(1, 2, 3, 3), Site("s", "pattern", PATTERN, "m"))


def test_sparse_codes_by_hand() -> None:
    codes = SparseCodes(torch.tensor([[2.0, 0.0], [1.0, 3.0]]), torch.tensor([[3, 0], [1, 2]]), 4)
    assert codes.dense().tolist() == [[0, 0, 0, 2], [0, 1, 3, 0]]


def test_components_reconstruct_what_they_span_and_a_random_frame_is_tight() -> None:
    acts = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[1.0, 2, 0], [0, 1, 1]]) + 3
    assert torch.allclose(principal_components(acts, 2).reconstruct(acts), acts, atol=1e-5)
    assert not torch.allclose(principal_components(acts, 1).reconstruct(acts), acts, atol=1e-1)
    frame = random_directions(3, 30_000).reconstruct(acts)
    assert torch.allclose(frame, acts, atol=0.2)
    assert torch.equal(neurons(3).reconstruct(acts), acts)


def test_keeping_the_largest_codes_by_hand() -> None:
    kept = neurons(3).keeping(1).encode(torch.tensor([[1.0, -4.0, 2.0]]))
    assert kept.tolist() == [[0, -4, 0]]


def test_parts_are_found_again() -> None:
    rng = torch.Generator().manual_seed(0)
    parts = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 3]])
    acts = torch.rand(200, 2, generator=rng) @ parts
    found = nonnegative_parts(acts, 2)
    assert isinstance(found, Basis)
    assert torch.allclose(found.reconstruct(acts), acts, atol=0.02)
    with pytest.raises(BadInput, match="rectifier"):
        nonnegative_parts(acts - 1, 2)


def test_a_basis_of_another_network_or_width_is_refused() -> None:
    net = cutaway.wrap(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)))
    site = net.sites()[0].name
    good = neurons(3, Origin(net.name, net.fingerprint, site, site))
    assert check_origin(good, net).reads == site
    for basis, reason in (
        (neurons(3), "names no network"),
        (neurons(3, Origin("other", "0" * 64, site, site)), "learned on other"),
        (neurons(4, Origin(net.name, net.fingerprint, site, site)), "4 units"),
    ):
        with pytest.raises(BadInput, match=reason):
            check_origin(basis, net)


def test_batches_resume_where_they_were_and_cover_every_row() -> None:
    rows = torch.arange(10.0)[:, None]
    source = TensorSource(rows)
    stream = source.batches(4, seed=3)
    first = [next(stream)[0] for _ in range(7)]
    again = source.batches(4, seed=3, start=5)
    assert [next(again)[0].tolist() for _ in range(2)] == [each.tolist() for each in first[5:]]
    seen = torch.cat([source.x[:0], *[next(stream)[0] for _ in range(40)]])
    assert set(seen.flatten().tolist()) == set(range(10))
    assert first[0].tolist() != first[2].tolist()
    with pytest.raises(BadInput, match="NaN"):
        TensorSource(torch.tensor([[float("nan")]]))
