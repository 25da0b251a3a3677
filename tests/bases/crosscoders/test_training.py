"""The objective by hand, exact resume, and runs that are refused."""

import dataclasses
from pathlib import Path

import pytest
import torch

from cutaway.bases import Basis, TensorSource
from cutaway.bases.crosscoders import CoderRecipe, Crosscoder, Plan, Progress, SideBySide, join, train_coder
from cutaway.bases.crosscoders.selection import Selection
from cutaway.errors import BadInput
from tests.bases.crosscoders.handmade import by_hand
from tests.bases.crosscoders.planted import planted

ALIVE = torch.tensor([False])
SMALL = CoderRecipe(steps=30, batch=64, lr=1e-2, warmup=5, dead_after=500)


def test_the_objective_by_hand() -> None:
    """Row (1, 2), decoder (1, 0): f = 1, error (0, 2), worth 1; half of 4, and the penalty 0.5 * 1 * 1."""
    coder, row = by_hand([[1.0, 0.0]], (1, 1)), torch.tensor([[1.0, 2.0]])
    assert float(coder.objective(row, row, dead=ALIVE, penalty=0.5, aux=0).loss) == 2.5
    step = coder.objective(row, row, dead=ALIVE, penalty=0, aux=0)
    assert (float(step.loss), step.error, step.l0, step.fired.tolist()) == (2.0, 4.0, 1.0, [True])


def test_the_penalty_counts_every_networks_decoder() -> None:
    """f = 25, norms 3 and 4: f (3 + 4) = 175, not f 5."""
    coder, row = by_hand([[3.0, 4.0]], (1, 1)), torch.tensor([[3.0, 4.0]])
    plain = coder.objective(row, row, dead=ALIVE, penalty=0, aux=0).loss
    assert float(coder.objective(row, row, dead=ALIVE, penalty=1, aux=0).loss - plain) == 175


def test_dead_latents_learn_what_is_left_over_by_hand() -> None:
    """The live latent leaves (0, 2); the dead one has pre-activation 2 and writes (0, 1): what stays is 0.

    Half of |(0, 2) - 2 (0, 1)|^2 = 0, against half of 4 if it did nothing; half a width of 1 is one dead latent.
    """
    coder = by_hand([[1.0, 0.0], [0.0, 1.0]], (1, 1))
    row, left = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 2.0]])
    dead = torch.tensor([False, True])
    pre = coder._pre(row)
    assert float(coder._revival(pre, coder.worth(), left, dead)) == 0
    coder.W_dec[0][1] = torch.tensor([0.0, 0.5])
    assert float(coder._revival(pre, coder.worth(), left, dead)) == 0.5


def test_batchtopk_keeps_n_k_of_the_batch_by_worth() -> None:
    """Worths 3, 2 against 1, 4 with weights (1, 2): products 3, 4 / 1, 8; two rows, k = 1 keep 8 and 4."""
    own = Selection("batchtopk", 2, 1)
    pre, weights = torch.tensor([[3.0, 2.0], [1.0, 4.0]]), torch.tensor([1.0, 2.0])
    assert own.learn(pre, weights).tolist() == [[0, 2], [0, 4]]
    assert float(own.threshold) == 4
    assert own.pick(pre, weights).tolist() == [[0, 0], [0, 4]], "above the threshold, row by row"
    assert Selection("batchtopk", 2, 1.5).learn(pre, weights).tolist() == [[3, 2], [0, 4]]
    assert Selection("topk", 2, 1).pick(pre, weights).tolist() == [[0, 2], [0, 4]]


def test_jumprelu_by_hand() -> None:
    """z = 3 passes a threshold of 2.5, z = 2 does not; only values within 1 of it move it, by -theta / 2 each."""
    own = Selection("jumprelu", 1, None)
    with torch.no_grad():
        own.log_threshold.fill_(2.5).log_()
    codes = own.pick(torch.tensor([[3.0], [2.0], [9.0]]), torch.ones(1))
    assert codes.tolist() == [[3], [0], [9]]
    codes.sum().backward()
    assert own.log_threshold.grad is not None
    assert own.log_threshold.grad.item() == pytest.approx(2 * -2.5 / 2 * 2.5)


def test_rates_rise_and_fall() -> None:
    recipe = CoderRecipe(steps=100, lr=1.0, warmup=9, decay=0.5, penalty=2.0, penalty_warmup=0.5)
    assert [recipe.rate(step) for step in (0, 8, 9, 50, 75, 99)] == pytest.approx([0.1, 0.9, 1, 1, 0.5, 0.02])
    assert [recipe.penalty_at(step) for step in (0, 24, 49, 99)] == pytest.approx([0.04, 1, 2, 2])


def fresh() -> tuple[Crosscoder, TensorSource]:
    rows = planted(0, shared=4, alone=1, d=8).rows(1000, 0)
    return Crosscoder(Plan("crosscoder", ("a", "b"), (16,), (8, 8), 10, k=1)), TensorSource(rows)


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    coder, source = fresh()
    whole = train_coder(coder, source, SMALL, every=10)

    def kill(progress: Progress) -> None:
        if progress.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_coder(fresh()[0], source, SMALL, folder=tmp_path, every=10, progress=kill)
    again = train_coder(fresh()[0], source, SMALL, folder=tmp_path, every=10)
    assert [line.step for line in again.history] == [10, 20, 30]
    assert again.history == whole.history
    for name, value in whole.coder.state_dict().items():
        assert torch.equal(value, again.coder.state_dict()[name]), name
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
    other = dataclasses.replace(SMALL, lr=2e-2)
    with pytest.raises(BadInput, match="another recipe"):
        train_coder(fresh()[0], source, other, folder=tmp_path)


def test_runs_that_cannot_be_are_refused() -> None:
    coder, source = fresh()
    with pytest.raises(BadInput, match="join the rows of a, b"):
        train_coder(coder, TensorSource(source.x[:, :8]), SMALL)
    with pytest.raises(BadInput, match="positive sizes"):
        CoderRecipe(steps=0)
    with pytest.raises(BadInput, match="same stimuli"):
        join([source.x, source.x[1:]])
    broken = TensorSource(source.x.clone())
    broken.x[3, 3] = torch.nan
    with pytest.raises(BadInput, match="NaN"):
        train_coder(coder, broken, SMALL)


def test_pairs_are_read_side_by_side_and_a_crosscoder_is_a_basis_of_joined_rows() -> None:
    coder, source = fresh()
    pair = SideBySide(TensorSource(source.x[:, :8], source.x[:, 8:]))
    joined, same = next(pair.batches(7, seed=1))
    assert torch.equal(joined, next(source.batches(7, seed=1))[0])
    assert same is joined
    trained = train_coder(coder, pair, SMALL).coder
    assert isinstance(trained, Basis)
    codes = trained.encode(source.x.view(10, 100, 16))
    assert codes.shape == (10, 100, 10)
    assert torch.allclose(trained.decode(codes), trained.reconstruct(source.x).view(10, 100, 16), atol=1e-6)
    alone = trained.decode(torch.eye(10)) - trained.decode(torch.zeros(1, 10))
    assert torch.allclose(alone, trained.directions(), atol=1e-5)


def test_the_start_is_the_geometric_median_and_a_mean_square_of_one() -> None:
    coder, source = fresh()
    rows = source.x.clone()
    rows[0] = 1e6  # one huge row moves no median
    coder.start(rows, rows)
    assert float((coder.b_in - source.x.median(0).values).norm()) < 1
    coder.start(source.x, source.x)
    scaled = (source.x - coder.b_in) / coder.in_scale
    assert [float(part.square().mean()) for part in scaled.split(8, 1)] == pytest.approx([1, 1], rel=1e-4)
