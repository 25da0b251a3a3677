"""Edits: what each does to a tensor, that they compose, and that JSON brings them back."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cutaway
from cutaway.errors import BadInput, CutawayError
from cutaway.networks.edits import Ablate, Patch, Replace, Steer, derangement, edit_from_json
from cutaway.networks.sites import HEADS, MAPS, POSITIONS, Site
from cutaway.registry import FUNCTIONS
from tests.networks.tiny import convnet

MAP = Site("m", "conv", MAPS, "m", width=3)
STREAM = Site("s", "resid", POSITIONS, "s", width=3)
BY_HEAD = Site("h", "heads", HEADS, "h", width=2, heads=2)
X = torch.arange(24.0).reshape(2, 3, 2, 2)


def test_zero() -> None:
    out = Ablate("m", [1], to="zero").apply(X, MAP)
    assert out[:, 1].abs().sum() == 0 and torch.equal(out[:, [0, 2]], X[:, [0, 2]])
    assert torch.equal(X, torch.arange(24.0).reshape(2, 3, 2, 2)), "the input must stay as it was"


def test_mean_over_the_batch_by_hand() -> None:
    out = Ablate("m", [0]).apply(X, MAP)
    # channel 0 holds 0..3 and 12..15: their mean is 7.5
    assert torch.equal(out[:, 0], torch.full((2, 2, 2), 7.5))


def test_mean_of_a_head_is_a_vector() -> None:
    heads = torch.tensor([[[[1.0, 2.0], [5.0, 6.0]], [[3.0, 4.0], [7.0, 8.0]]]])  # [1 batch, 2 pos, 2 heads, 2]
    out = Ablate("h", [0]).apply(heads, BY_HEAD)
    assert torch.equal(out[0, :, 0], torch.tensor([[2.0, 3.0], [2.0, 3.0]]))
    assert torch.equal(out[0, :, 1], heads[0, :, 1])


def test_mean_to_a_reference() -> None:
    out = Ablate("m", [2], reference=torch.tensor([1.0, 2.0, 3.0])).apply(X, MAP)
    assert torch.equal(out[:, 2], torch.full((2, 2, 2), 3.0))
    with pytest.raises(BadInput, match="must fit"):
        Ablate("m", reference=torch.ones(5)).apply(X, MAP)


def test_resample_swaps_stimuli() -> None:
    out = Ablate("m", [0], to="resample", seed=3).apply(X, MAP)
    assert torch.equal(out[:, 0], X[:, 0].flip(0)) and torch.equal(out[:, 1:], X[:, 1:])
    with pytest.raises(BadInput, match="at least two"):
        Ablate("m", to="resample").apply(X[:1], MAP)


@given(st.integers(2, 40), st.integers(0, 1000))
def test_derangement_has_no_fixed_point(count: int, seed: int) -> None:
    order = derangement(count, seed)
    assert sorted(order.tolist()) == list(range(count))
    assert not bool((order == torch.arange(count)).any())
    assert torch.equal(order, derangement(count, seed))


def test_patch_and_steer() -> None:
    patched = Patch("m", torch.tensor(-1.0), units=[0, 2]).apply(X, MAP)
    assert (patched[:, [0, 2]] == -1).all() and torch.equal(patched[:, 1], X[:, 1])
    steered = Steer("s", torch.tensor([1.0, 0.0, -1.0]), amount=2).apply(torch.zeros(1, 2, 3), STREAM)
    assert torch.equal(steered, torch.tensor([[[2.0, 0, -2], [2, 0, -2]]]))
    with pytest.raises(BadInput, match="vector of length 3"):
        Steer("s", torch.ones(4)).apply(torch.zeros(1, 2, 3), STREAM)


def test_replace_checks_the_shape() -> None:
    assert torch.equal(Replace("m", torch.neg).apply(X, MAP), -X)
    with pytest.raises(BadInput, match="same shape"):
        Replace("m", lambda x: x[:1]).apply(X, MAP)


def test_edits_compose_in_order() -> None:
    network = cutaway.wrap(convnet())
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    up, zero = Steer("1", torch.ones(6)), Ablate("1", to="zero")
    first = network.run(images, capture=["1"], edits=[up, zero])["1"]
    second = network.run(images, capture=["1"], edits=[zero, up])["1"]
    assert (first == 0).all() and (second == 1).all()


@pytest.mark.parametrize("kwargs", [{"to": "median"}, {"to": "zero", "reference": torch.ones(3)}])
def test_nonsense_ablations(kwargs: dict) -> None:
    with pytest.raises(BadInput):
        Ablate("m", **kwargs)


@pytest.mark.parametrize("units", [[3], [-1], [0, 99]])
def test_units_out_of_range(units: list[int]) -> None:
    for edit in (Ablate("m", units), Patch("m", torch.tensor(0.0), units)):
        with pytest.raises(BadInput, match="units 0 to 2"):
            edit.apply(X, MAP)


units_lists = st.none() | st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True)
triples = st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3)
# Recipes, not edits: an edit is built inside the test, where type checks may draw random numbers.
recipes = st.one_of(
    st.tuples(st.just("ablate"), units_lists, st.sampled_from(["mean", "zero", "resample"]), st.integers(0, 9)),
    st.tuples(st.just("reference"), units_lists, triples),
    st.tuples(st.just("patch"), units_lists, st.floats(-9, 9, width=32)),
    st.tuples(st.just("steer"), triples, st.floats(-2, 2)),
    st.just(("replace",)),
)


def built(recipe: tuple) -> cutaway.networks.Edit:
    if "tests.negate" not in FUNCTIONS:
        FUNCTIONS.register("tests.negate")(torch.neg)
    kind, *rest = recipe
    return {
        "ablate": lambda units, to, seed: Ablate("m", units, to=to, seed=seed),
        "reference": lambda units, values: Ablate("m", units, reference=torch.tensor(values)),
        "patch": lambda units, value: Patch("m", torch.tensor(value), units),
        "steer": lambda values, amount: Steer("m", torch.tensor(values), amount),
        "replace": lambda: Replace("m", "tests.negate"),
    }[kind](*rest)


@settings(max_examples=60, deadline=None)
@given(recipes)
def test_json_brings_back_an_edit_that_does_the_same(recipe: tuple) -> None:
    edit = built(recipe)
    again = edit_from_json(json.dumps(edit.to_json()))
    assert torch.equal(again.apply(X, MAP), edit.apply(X, MAP))


def test_json_that_is_no_edit() -> None:
    with pytest.raises(BadInput, match="kinds are"):
        edit_from_json({"kind": "explode", "site": "m"})
    with pytest.raises(BadInput, match="cannot be read"):
        edit_from_json({"kind": "ablate", "site": "m", "unknown": 1})
    with pytest.raises(BadInput, match="register it"):
        Replace("m", torch.neg).to_json()
    with pytest.raises(CutawayError, match="replacement function"):
        Replace("m", "os.system").apply(X, MAP)
    with pytest.raises(BadInput, match="type"):
        edit_from_json({"kind": "patch", "site": "m", "value": {"dtype": "load", "values": [1]}})
