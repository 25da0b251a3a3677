"""Every registered reducer is a monoid over the stream: however it is cut, merged or stored, it says the same.

Floating sums differ by the order of addition: moments and products are compared within ``TOLERANCE``, a hundred
times what was measured; everything else is compared exactly.
"""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from cutaway.observe import reducers  # noqa: F401  fills the registry
from cutaway.observe.reducers import Reducer
from cutaway.registry import REDUCERS
from tests.observe.small import activations

ORDERS = list(itertools.permutations([slice(0, 2), slice(2, 7), slice(7, 12)]))
NAMES = [name for name, _ in REDUCERS.items()]
APPROXIMATE = {"moments", "coactivation"}
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
IDS, ACTS = activations()
VALID = torch.arange(ACTS.shape[1]) < torch.arange(3, 3 + len(ACTS))[:, None]


def reduced(name: str, *parts: slice, valid: Tensor | None = None) -> Reducer:
    reducer = REDUCERS[name]()
    for part in parts or (slice(None),):
        reducer.update(IDS[part], ACTS[part], None if valid is None else valid[part])
    return reducer


def assert_same(name: str, one: Reducer, other: Reducer) -> None:
    left, right = one.state(), other.state()
    assert left.keys() == right.keys()
    for key in left:
        assert left[key].dtype == right[key].dtype
        if name in APPROXIMATE:
            torch.testing.assert_close(left[key], right[key], **TOLERANCE)
        else:
            assert torch.equal(left[key], right[key]), key


def merged(name: str, *parts: slice, valid: Tensor | None = None) -> Reducer:
    total = REDUCERS[name]()
    for part in parts:
        total.merge(reduced(name, part, valid=valid))
    return total


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_it_is_a_reducer(self, name: str) -> None:
        assert isinstance(REDUCERS[name](), Reducer)

    @pytest.mark.parametrize("order", ORDERS)
    def test_merging_is_commutative(self, name: str, order: tuple[slice, ...]) -> None:
        assert_same(name, merged(name, *order), reduced(name))

    def test_merging_is_associative(self, name: str) -> None:
        a, b, c = (slice(0, 3), slice(3, 4), slice(4, 12))
        left = merged(name, a, b)
        left.merge(reduced(name, c))
        right = reduced(name, a)
        right.merge(merged(name, b, c))
        assert_same(name, left, right)

    @pytest.mark.parametrize("size", [1, 5, 11])
    def test_the_size_of_batches_does_not_matter(self, name: str, size: int) -> None:
        parts = [slice(start, start + size) for start in range(0, len(IDS), size)]
        assert_same(name, reduced(name, *parts), reduced(name))
        assert_same(name, merged(name, *parts), reduced(name))

    def test_padding_is_not_seen(self, name: str) -> None:
        padded = ACTS.masked_fill(~VALID[:, :, None], 1e6)
        reducer = REDUCERS[name]()
        reducer.update(IDS, padded, VALID)
        parts = REDUCERS[name]()
        for n, length in enumerate(VALID.sum(1).tolist()):
            parts.update(IDS[n : n + 1], ACTS[n : n + 1, :length])
        assert_same(name, reducer, parts)

    def test_an_empty_reducer_is_neutral(self, name: str) -> None:
        left, right = REDUCERS[name](), reduced(name)
        left.merge(reduced(name))
        right.merge(REDUCERS[name]())
        assert_same(name, left, reduced(name))
        assert_same(name, right, reduced(name))
        assert REDUCERS[name]().state() == {}

    def test_merging_leaves_the_other_as_it_was(self, name: str) -> None:
        other, total = reduced(name, slice(0, 3)), reduced(name, slice(3, 12))
        total.merge(other)
        total.merge(reduced(name, slice(0, 1)))
        assert_same(name, other, reduced(name, slice(0, 3)))

    def test_a_state_survives_storing(self, name: str, tmp_atlas) -> None:
        reducer = reduced(name, slice(0, 7))
        stored = tmp_atlas.get_arrays(tmp_atlas.put_arrays(reducer.state()))
        again = REDUCERS[name](**reducer.settings()).restored(stored)
        assert_same(name, again, reducer)
        again.update(IDS[7:], ACTS[7:])
        assert_same(name, again, reduced(name))
        assert REDUCERS[name]().restored({}).state() == {}

    def test_maps_and_tokens_are_read_alike(self, name: str) -> None:
        gapped = ACTS.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        assert gapped.stride() != ACTS.stride()
        reducer = REDUCERS[name]()
        reducer.update(IDS, gapped)
        assert_same(name, reducer, reduced(name))

    def test_the_same_input_gives_the_same_bits(self, name: str) -> None:
        one, other = reduced(name).state(), reduced(name).state()
        assert all(torch.equal(one[key], other[key]) for key in one)

    def test_a_fresh_one_has_the_same_settings_and_nothing_else(self, name: str) -> None:
        fresh = reduced(name).fresh()
        assert fresh.settings() == reduced(name).settings()
        assert fresh.state() == {}

    def test_a_batch_of_padding_only_changes_no_statistic(self, name: str) -> None:
        if name == "firing":
            pytest.skip("it counts the stimulus, which did not fire")
        reducer = reduced(name)
        reducer.update(["padding"], torch.full((1, 4, 4), 9.0), torch.zeros(1, 4, dtype=torch.bool))
        assert_same(name, reducer, reduced(name))

    def test_the_input_is_not_changed(self, name: str) -> None:
        before = ACTS.clone()
        reduced(name, valid=VALID)
        assert torch.equal(before, ACTS)

    def test_large_batches_are_cut_into_blocks_without_a_seam(self, name: str, monkeypatch) -> None:
        whole = reduced(name)
        monkeypatch.setattr("cutaway.observe.positions._BLOCK", 400)
        assert_same(name, reduced(name), whole)


def test_the_contract_covers_what_is_there() -> None:
    assert set(NAMES) == {"moments", "quantiles", "firing", "top", "intervals", "coactivation"}
    assert np.isfinite(ACTS.numpy()).all()
