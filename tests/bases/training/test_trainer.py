"""Training as a whole: what is found, what a kill or a bad batch leaves, several dictionaries and several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cutaway.bases import Origin, TensorSource
from cutaway.bases.dictionaries import DICTIONARIES, Dictionary, Recipe
from cutaway.bases.training import Progress, train
from cutaway.errors import BadInput
from cutaway.evidence.metrics import explained_variance, mcc
from tests.bases.synthetic import planted

SMALL = Recipe(kind="topk", width=48, k=3, batch=256, steps=120, lr=3e-3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(count: int = 4096, **more: int) -> TensorSource:
    return TensorSource(planted(count, features=48, d=16, share=0.05, **more).rows)


def same(first: Dictionary, second: Dictionary) -> bool:
    parts = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in parts)


@pytest.mark.parametrize("kind", ["topk", pytest.param("batchtopk", marks=pytest.mark.slow)])
def test_256_features_in_64_dimensions_are_recovered(kind: str) -> None:
    found = planted(30_000)
    seen, unseen = found.rows[:26_000], found.rows[26_000:]
    recipe = Recipe(kind=kind, width=256, k=13, batch=256, steps=600, lr=3e-3)
    dictionary = train(TensorSource(seen), recipe)[0].dictionary
    assert mcc(dictionary.W_dec.numpy(), found.features.numpy()) >= 0.95
    assert explained_variance(unseen.numpy(), dictionary.reconstruct(unseen).numpy()) > 0.7
    live = float((dictionary.encode(unseen) > 0).float().sum(1).mean())
    assert abs(live - 13) < 1  # batchtopk: by its thresholds, without a batch


@pytest.mark.parametrize("kind", sorted(DICTIONARIES))
def test_every_kind_learns_and_is_sparse(kind: str) -> None:
    source = small()
    recipe = replace(
        SMALL, kind=kind, k=3 if DICTIONARIES[kind].has_k else None, l1=0.5 if kind == "jumprelu" else 2.0, steps=250
    )
    told: list[Progress] = []
    trained = train(source, recipe, every=50, progress=told.append)[0]
    assert [entry.step for entry in told] == [50, 100, 150, 200, 250] and tuple(told) == trained.history
    last = told[-1]
    assert last.explained > 0.5 and 1 < last.l0 < 12 and last.loss < told[0].loss * 1.1 and last.dead < 0.3
    d = trained.dictionary
    real = explained_variance(source.x.numpy(), d.reconstruct(source.x).numpy())
    assert abs(real - last.explained) < 0.1  # the folded dictionary is the trained one
    assert torch.allclose(d.W_dec.norm(dim=1), torch.ones(48), atol=1e-5)


def test_the_first_latents_of_a_matryoshka_do_without_the_others() -> None:
    source = small()
    explained = {}
    for kind in ("batchtopk", "matryoshka"):
        recipe = replace(SMALL, kind=kind, prefixes=(0.25, 1.0))
        d = train(source, recipe)[0].dictionary
        codes = d.encode(source.x)
        codes[:, 12:] = 0
        explained[kind] = explained_variance(source.x.numpy(), d.decode(codes).numpy())
    assert explained["matryoshka"] > explained["batchtopk"] + 0.05


def test_a_site_of_another_scale_is_the_same_site() -> None:
    source = small()
    here = train(source, SMALL)[0].dictionary
    there = train(TensorSource(1000 * source.x), SMALL)[0].dictionary
    assert torch.allclose(there.reconstruct(1000 * source.x), 1000 * here.reconstruct(source.x), rtol=0.05, atol=100)
    assert mcc(here.W_dec.numpy(), there.W_dec.numpy()) > 0.99


def test_a_transcoder_finds_what_latents_write_and_a_skip_what_is_linear() -> None:
    found = planted(4096, features=48, d=16)
    chance = torch.Generator().manual_seed(5)
    written = torch.randn(48, 10, generator=chance)
    origin = Origin("n", "f", "layers.0.mlp_in", "layers.0.mlp_out")
    outs = found.codes @ written
    coder = train(TensorSource(found.rows, outs), replace(SMALL, steps=200), origin=origin)[0].dictionary
    assert coder.origin == origin and not coder.tied and coder.W_dec.shape == (48, 10)
    assert explained_variance(outs.numpy(), coder.reconstruct(found.rows).numpy()) > 0.3
    linear = found.rows @ torch.randn(16, 10, generator=chance)
    recipe = replace(SMALL, width=4, k=1, steps=150, lr=1e-2)
    bare, skipping = train(TensorSource(found.rows, linear), [recipe, replace(recipe, skip=True)])
    got = [explained_variance(linear.numpy(), t.dictionary.reconstruct(found.rows).numpy()) for t in (bare, skipping)]
    assert got[1] > 0.95 > 0.6 > got[0]


def test_dictionaries_of_one_pass_are_those_trained_alone() -> None:
    source = small()
    recipes = [replace(SMALL, steps=30), replace(SMALL, kind="batchtopk", steps=20, seed=3)]
    together = train(source, recipes)
    alone = [train(source, recipe)[0] for recipe in recipes]
    assert all(same(one.dictionary, other.dictionary) for one, other in zip(together, alone))
    assert not torch.equal(together[0].dictionary.W_enc, together[1].dictionary.W_enc)


@dataclass(frozen=True, eq=False)
class Broken(TensorSource):
    """Batch ``at`` holds a NaN; the rows' name stays."""

    at: int = -1

    def batches(self, size: int, *, seed: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for number, (x, _) in enumerate(super().batches(size, seed=seed, start=start), start):
            if number == self.at:
                x[2, 3] = torch.nan
            yield x, x


def test_a_bad_batch_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    rows, recipe = small().x, replace(SMALL, steps=20)
    with pytest.raises(BadInput, match=r"Batch 7 holds NaN or infinite values in 1 of 256 rows.*after 7 steps"):
        train(Broken(rows, at=7), recipe, folder=tmp_path)
    mended = train(Broken(rows), recipe, folder=tmp_path)[0]
    assert same(mended.dictionary, train(TensorSource(rows), recipe)[0].dictionary)
    assert bool(torch.isfinite(mended.dictionary.W_dec).all())


def test_a_folder_goes_on_only_with_what_it_began_with(tmp_path: Path) -> None:
    source, recipe = small(), replace(SMALL, steps=4)
    first = train(source, recipe, folder=tmp_path)[0]
    again = train(source, recipe, folder=tmp_path)[0]  # nothing is left to do
    assert same(first.dictionary, again.dictionary) and first.history == again.history
    with pytest.raises(BadInput, match="other rows"):
        train(small(seed=1), recipe, folder=tmp_path)
    with pytest.raises(BadInput, match="other recipes"):
        train(source, replace(recipe, lr=1.0), folder=tmp_path)
    with pytest.raises(BadInput, match="another order"):
        train(source, recipe, folder=tmp_path, order=1)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(BadInput, match="No recipe"):
        train(small(), [])
    with pytest.raises(BadInput, match="one pass"):
        train(small(), [SMALL, replace(SMALL, batch=128)])

    class Wide(TensorSource):
        """Promises more units than it gives."""

        d_in = 17  # type: ignore[assignment]

    with pytest.raises(BadInput, match="one site"):
        train(Wide(small().x), SMALL)


def test_bfloat16_learns_too() -> None:
    source = small()
    trained = train(source, [replace(SMALL, precision="bf16"), replace(SMALL, kind="relu", l1=0.5, precision="bf16")])
    assert all(t.history[-1].explained > 0.5 and t.dictionary.W_dec.dtype == torch.float32 for t in trained)


JOB = """
import sys, time, torch
torch.set_num_threads(1)
from dataclasses import replace
from cutaway.bases import TensorSource
from cutaway.bases.training import train
from tests.bases.training.test_trainer import KILLED, small
def slow(progress):
    if progress.step >= 12: time.sleep(0.2)
{body}
"""
KILLED = [replace(SMALL, steps=30), replace(SMALL, kind="relu", k=None, steps=30, dead_after=1024, l1=2.0)]


def start(body: str, *arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    script = Path(str(arguments[0])) / "job.py"
    script.write_text(JOB.format(body=body))
    command = [sys.executable, *launcher, str(script), *map(str, arguments)]
    return subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    body = f"train(small(), KILLED, folder={str(folder)!r}, progress=slow, every=1, save_every=5)"
    process = start(body, tmp_path)
    file = folder / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr and process.stderr.read()
    assert process.stderr is not None
    process.stderr.close()
    left = torch.load(file, weights_only=True)
    assert 5 <= left["step"] < 30
    told: list[int] = []
    resumed = train(small(), KILLED, folder=folder, every=1, save_every=5, progress=lambda p: told.append(p.step))
    assert told[0] == left["step"] + 1  # it did not begin again
    whole = train(small(), KILLED, every=1)
    assert all(same(a.dictionary, b.dictionary) for a, b in zip(resumed, whole))
    assert [t.history for t in resumed] == [t.history for t in whole]


def test_two_processes_train_one_dictionary(tmp_path: Path) -> None:
    body = (
        "d = train(small(), replace(KILLED[0], steps=8))[0].dictionary\n"
        "from torch import distributed as dist\n"
        "torch.save(dict(d.state_dict()), f'{sys.argv[1]}/{dist.get_rank()}.pt'); dist.destroy_process_group()"
    )
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start(body, tmp_path, launcher=launcher)
    _, words = process.communicate(timeout=240)
    assert process.returncode == 0, words
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = train(small(), replace(KILLED[0], steps=8))[0].dictionary.state_dict()
    for part, weights in first.items():
        assert torch.equal(weights, second[part])
        assert torch.allclose(weights, alone[part], atol=1e-4)
