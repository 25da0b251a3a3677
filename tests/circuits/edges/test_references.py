"""What cut edges carry: means position by position, with masks; zero; shuffled positions."""

import pytest
import torch

from cutaway.circuits.edges import Pairs, record, wire
from cutaway.circuits.edges.references import permuted, position_means, reference, shuffled_positions
from cutaway.errors import BadInput, UnknownName
from cutaway.networks.network import Batch
from tests.circuits.edges.test_edges import network, pairs


def masked(lengths: list[int], total: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 50, (len(lengths), total), generator=generator)
    mask = torch.arange(total) < torch.tensor(lengths)[:, None]
    return Batch({"input_ids": ids, "attention_mask": mask.long()}, tuple(map(str, range(len(lengths)))), mask)


def test_a_mean_is_over_the_examples_that_have_a_token_there() -> None:
    """Two examples, the second one token long: by hand [(1 + 5) / 2, 2]; not a last token over the length (D3)."""
    value = torch.tensor([[[1.0], [2.0]], [[5.0], [100.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    assert position_means(value, mask).flatten().tolist() == [3.0, 2.0]
    assert position_means(value).flatten().tolist() == [3.0, 51.0]
    assert position_means(value, torch.tensor([[True, False], [True, False]])).isnan().tolist() == [[False], [True]]


def test_the_mean_ignores_what_padding_holds() -> None:
    wired = wire(network("llama"))
    shown = masked([5, 3, 3])
    both = Pairs(shown, shown)
    means = reference(wired, both, "mean")
    other = masked([5, 3, 3])
    other.inputs["input_ids"][1:, 3:] = 7
    again = reference(wired, Pairs(shown, other), "mean")
    assert torch.allclose(means.heads[1], again.heads[1], atol=1e-6)
    recorded = record(wired, shown).heads[0]
    assert torch.allclose(means.heads[0][2, 4], recorded[0, 4], atol=1e-6)  # only the first has a fifth token
    assert torch.allclose(means.heads[0][1, 1], recorded[:, 1].mean(0), atol=1e-6)


def test_zero_and_resample() -> None:
    wired, shown = wire(network("gpt2")), pairs()
    assert all(float(each.abs().max()) == 0 for each in reference(wired, shown, "zero").heads)
    assert torch.equal(reference(wired, shown).heads[1], record(wired, shown.corrupt).heads[1])


def test_shuffled_positions_keep_the_first_and_the_padding() -> None:
    order = shuffled_positions(masked([5, 3]), 5, seed=0)
    assert order[:, 0].tolist() == [0, 0]
    assert sorted(order[0].tolist()) == sorted(order[1].tolist()) == [0, 1, 2, 3, 4]
    assert order[1, 3:].tolist() == [3, 4]
    assert torch.equal(order, shuffled_positions(masked([5, 3]), 5, seed=0))
    value = torch.arange(10.0).view(2, 5, 1)
    assert torch.equal(permuted(value, order)[0, :, 0], order[0].float())


def test_what_cannot_be_a_reference_is_refused() -> None:
    wired, shown = wire(network("llama")), pairs()
    with pytest.raises(UnknownName, match="did you mean mean"):
        reference(wired, shown, "meen")
    with pytest.raises(BadInput, match="at least as long"):
        reference(wired, shown, "mean", over=masked([4, 4], 4))
