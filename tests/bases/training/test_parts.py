"""The trainer's parts: where rows lie, schedules, dead latents, checkpoints."""

from pathlib import Path

import pytest
import torch

from cutaway.bases.dictionaries import Recipe, make
from cutaway.bases.training import Frame, Team, checkpoint, geometric_median
from cutaway.bases.training.dead import aux_error, resample
from cutaway.bases.training.run import Run
from cutaway.errors import BadFile, BadInput


def test_the_geometric_median_by_hand() -> None:
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0]])
    assert torch.allclose(geometric_median(line), torch.tensor([1.0, 0.0]), atol=1e-3)  # the mean is 3.67
    square = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    assert torch.allclose(geometric_median(square), torch.ones(2), atol=1e-5)


def test_the_scale_by_hand_and_a_huge_row_does_not_move_it() -> None:
    cross = torch.tensor([[5.0, 1.0], [5.0, -1.0], [6.0, 0.0], [4.0, 0.0], [5.0, 1.0], [5.0, -1.0], [4e3, 0.0]])
    frame = Frame.of(cross, cross)
    assert abs(frame.scale_in - 2**0.5) < 0.05  # median squared distance 1, two units
    assert float((frame.centre_in - torch.tensor([5.0, 0.0])).norm()) < 0.3
    with pytest.raises(BadInput, match="equal"):
        Frame.of(torch.ones(5, 2), torch.ones(5, 2))


def run_of(kind: str = "topk", **more: object) -> Run:
    recipe = Recipe(**{"kind": kind, "width": 8, "steps": 100, "lr": 1.0, "warmup": 0.1, "decay": 0.2, **more})  # type: ignore[arg-type]
    return Run(recipe, make(kind, 4, 8, k=recipe.k), Team())


def test_the_schedule_by_hand() -> None:
    run = run_of()
    rates = {}
    for run.step in (0, 4, 9, 50, 80, 90, 99):
        rates[run.step] = round(run.rate, 3)
    assert rates == {0: 0.1, 4: 0.5, 9: 1.0, 50: 1.0, 80: 1.0, 90: 0.5, 99: 0.05}


def test_a_step_keeps_unit_rows_and_turns_them_only() -> None:
    run = run_of(lr=0.01)
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    before = run.dictionary.W_dec.detach().clone()
    run.advance(x, x, report=True)
    after = run.dictionary.W_dec.detach()
    assert torch.allclose(after.norm(dim=1), torch.ones(8), atol=1e-6) and not torch.equal(before, after)
    grad = run.dictionary.W_dec.grad
    assert grad is not None and float((grad * before).sum(1).abs().max()) < 1e-6 < float(grad.abs().max())


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    run = run_of()
    before = run.dictionary.W_dec.detach().clone()
    x = torch.full((4, 4), 1e30)
    with pytest.raises(BadInput, match="diverged"):
        run.advance(x, x, report=False)
    assert torch.equal(before, run.dictionary.W_dec) and run.step == 0


def test_the_auxiliary_error_by_hand() -> None:
    dictionary = make("topk", 2, 3, k=1)
    with torch.no_grad():
        dictionary.W_enc.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
        dictionary.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    x, left = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 5.0]])
    found = aux_error(dictionary, x, left, torch.tensor([1]))
    assert found.item() == 4.0  # the dead latent writes 3 of the 5
    (grad,) = torch.autograd.grad(found, dictionary.W_enc)
    assert grad[1].tolist() == [-4.0, -12.0] and grad[0].tolist() == [0, 0] and grad[2].tolist() == [0, 0]


def test_aux_brings_dead_latents_back() -> None:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    dead_at_end = {}
    for revive in ("none", "aux"):
        run = run_of(k=1, lr=0.02, dead_after=64, revive=revive, aux=1.0)
        with torch.no_grad():
            run.dictionary.b_enc[4:] = -1.5
        for _ in range(60):
            run.advance(x, x, report=True)
        assert run.history[1].dead >= 0.5
        dead_at_end[revive] = run.history[-1].dead
    assert dead_at_end["aux"] < dead_at_end["none"]


def test_resampling_points_at_the_bad_rows_and_forgets_moments() -> None:
    run = run_of("relu")
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    run.advance(x, x, report=False)
    dead = torch.zeros(8, dtype=torch.bool)
    dead[[2, 5]] = True
    errors = torch.zeros(16)
    errors[3] = 1.0
    d = run.dictionary
    alive = d.W_enc[~dead].detach().norm(dim=1).mean()
    moved = resample(d, run.optimizer, x, x, errors, dead, torch.Generator().manual_seed(0))
    assert moved == 1  # as many as there are rows to choose from
    way = (x[3] - d.b_dec.detach()) / (x[3] - d.b_dec.detach()).norm()
    assert torch.allclose(d.W_dec[2], way, atol=1e-6)
    assert torch.allclose(d.W_enc[2], 0.2 * alive * way, atol=1e-6)
    assert float(run.optimizer.state[d.W_enc]["exp_avg"][2].abs().max()) == 0
    assert float(run.optimizer.state[d.W_enc]["exp_avg"][3].abs().max()) > 0


def test_checkpoints_are_whole_or_refused(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, torch.device("cpu")) is None
    checkpoint.save(tmp_path, {"step": 3})
    found = checkpoint.load(tmp_path, torch.device("cpu"))
    assert found is not None and found["step"] == 3
    file = tmp_path / checkpoint.FILE
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(BadFile, match="damaged"):
        checkpoint.load(tmp_path, torch.device("cpu"))
    torch.save({"format": 99}, file)
    with pytest.raises(BadFile, match="format 1"):
        checkpoint.load(tmp_path, torch.device("cpu"))
