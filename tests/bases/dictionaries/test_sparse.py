"""Sparse products against dense ones: values, gradients, and the exactness of the selection."""

import pytest
import torch

from cutaway.bases.dictionaries.kinds._losses import squared_error
from cutaway.bases.dictionaries.kinds.matryoshka import groups
from cutaway.bases.dictionaries.making import make
from cutaway.bases.dictionaries.recipe import Recipe
from cutaway.bases.dictionaries.select import largest, largest_in_batch, largest_per_row
from cutaway.bases.dictionaries.sparse import pattern_of, pattern_of_block, write


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_writing_by_hand() -> None:
    pattern = pattern_of_block(torch.tensor([[0, 2], [1, 2]]), 3)
    W = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert write(torch.tensor([2.0, 3.0, 4.0, 5.0]), W, pattern).tolist() == [[5.0, 3.0], [5.0, 9.0]]


def test_rows_without_entries_are_0() -> None:
    pattern = pattern_of(torch.tensor([1]), torch.tensor([2]), 3, 4)
    assert write(torch.tensor([2.0]), torch.ones(4, 2), pattern).tolist() == [[0, 0], [2, 2], [0, 0]]


@pytest.mark.parametrize(("width", "k"), [(4608, 32), (256, 13), (97, 5), (64, 64), (64, 1), (128, 33)])
def test_the_largest_are_the_largest(width: int, k: int) -> None:
    values = drawn(50, width)
    found, places = largest(values, k)
    wanted = values.topk(k, dim=1)
    assert torch.equal(found.sort(1, descending=True).values, wanted.values)
    assert torch.equal(places.sort(1).values, wanted.indices.sort(1).values)


def test_blocks_save_nothing_from_correctness_when_one_block_holds_them_all() -> None:
    values = drawn(3, 4608)
    values[:, 5::288] += 100  # every entry of one block
    assert torch.equal(largest(values, 32)[1].sort(1).values, values.topk(32, dim=1).indices.sort(1).values)


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    acts, W, b = drawn(40, 16), drawn(64, 16, seed=1), drawn(64, seed=2)
    whole = largest_per_row(acts, W, b, 4)
    monkeypatch.setattr("cutaway.bases.dictionaries.select.SLICE_CPU", 64 * 7)
    sliced = largest_per_row(acts, W, b, 4)
    assert torch.allclose(whole[0].sort(1).values, sliced[0].sort(1).values, atol=1e-6)


@pytest.mark.parametrize("loud", [1.0, 1000.0])
def test_the_largest_of_a_batch_wherever_they_lie(loud: float) -> None:
    acts, W, b = drawn(20, 16), drawn(64, 16, seed=1), torch.zeros(64)
    acts[3] *= loud  # one row that takes many more than its share
    values, pattern = largest_in_batch(acts, W, b, 4 * 20)
    pre = acts @ W.T
    wanted = pre.flatten().topk(80).values
    assert torch.allclose(values.sort(descending=True).values, wanted, rtol=1e-5, atol=1e-5)
    assert torch.allclose(pre[pattern.rows, pattern.latents], values, rtol=1e-5, atol=1e-5)
    assert bool((pattern.rows.diff() >= 0).all())
    assert (int((pattern.rows == 3).sum()) > 16) == (loud > 1)


def dense_codes(kind: str, pre: torch.Tensor, k: int) -> torch.Tensor:
    flat = pre if kind == "topk" else pre.flatten()[None]
    top = flat.topk(k if kind == "topk" else k * len(pre), dim=1)
    return torch.zeros_like(flat).scatter(1, top.indices, top.values).view_as(pre).relu()


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "matryoshka"])
@pytest.mark.parametrize("transcoder", [False, True])
def test_sparse_gradients_are_the_dense_ones(kind: str, transcoder: bool) -> None:
    dictionary = make(kind, 12, 48, 10 if transcoder else None, k=5, skip=transcoder)
    with torch.no_grad():
        for seed, parameter in enumerate(dictionary.parameters()):
            parameter += 0.1 * drawn(*parameter.shape, seed=seed)
    x = drawn(30, 12, seed=7)
    y = drawn(30, 10, seed=8) if transcoder else x
    recipe = Recipe(kind=kind, width=48, k=5, prefixes=(0.25, 1.0))
    found = dictionary.rule.train_on(dictionary, x, y, recipe)
    sparse = torch.autograd.grad(found.error, list(dictionary.parameters()))

    codes = dense_codes(kind, dictionary.pre(x), 5)
    skip = 0 if dictionary.skip is None else x @ dictionary.skip.T
    cuts = [12, 48] if kind == "matryoshka" else [48]
    outs = [codes[:, :m] @ dictionary.W_dec[:m] + dictionary.b_dec + skip for m in cuts]
    error = torch.stack([squared_error(out, y) for out in outs]).mean()
    dense = torch.autograd.grad(error, list(dictionary.parameters()))
    assert torch.allclose(found.error, error, atol=1e-5)
    for got, wanted in zip(sparse, dense):
        assert torch.allclose(got, wanted, atol=1e-5)
        assert float(wanted.abs().max()) > 1e-3


def test_groups_by_hand() -> None:
    assert groups(8, (0.25, 0.5, 1.0)).tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
