"""Training of coders: Adam, a learning rate that warms up and decays, a penalty that warms up, exact resume.

The same loop serves crosscoders and cross-layer transcoders; all that they differ in is their objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from cutaway.bases.crosscoders.coder import Coder, Step
from cutaway.bases.crosscoders.files import read_checkpoint, write_checkpoint
from cutaway.bases.crosscoders.sources import RowSource
from cutaway.errors import BadInput

AUX = 1 / 32  # AuxK's share of the loss (Gao et al. 2024)
START_ROWS = 8192  # that centre and scale are taken from
BETAS, EPSILON = (0.9, 0.999), 1e-8

AnyCoder = TypeVar("AnyCoder", bound=Coder)


@dataclass(frozen=True)
class CoderRecipe:
    """How a coder is trained.

    Attributes:
        steps: batches in all.
        batch: rows of a batch.
        lr: highest learning rate of Adam.
        warmup: steps over which the learning rate rises from 0.
        decay: share of the steps, the last ones, over which it falls to 0.
        penalty: weight of the L1 or tanh penalty; unused by the selections that count.
        penalty_warmup: share of the steps over which the penalty rises from 0.
        aux: weight of AuxK.
        dead_after: rows without firing after which a latent counts as dead.
        seed: of the order of rows.
    """

    steps: int = 2000
    batch: int = 512
    lr: float = 3e-3
    warmup: int = 100
    decay: float = 0.3
    penalty: float = 0.0
    penalty_warmup: float = 0.2
    aux: float = AUX
    dead_after: int = 100_000
    seed: int = 0

    def __post_init__(self) -> None:
        shares = 0 <= self.decay <= 1 and 0 <= self.penalty_warmup <= 1
        if min(self.steps, self.batch, self.dead_after) < 1 or self.lr <= 0 or self.warmup < 0 or not shares:
            raise BadInput(f"A recipe needs positive sizes and shares from 0 to 1, found {asdict(self)}.")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rising = min((step + 1) / (self.warmup + 1), 1.0)
        falling = (self.steps - step) / max(self.decay * self.steps, 1.0)
        return self.lr * min(rising, falling, 1.0)

    def penalty_at(self, step: int) -> float:
        """Weight of the penalty at a step."""
        return self.penalty * min((step + 1) / max(self.penalty_warmup * self.steps, 1.0), 1.0)


@dataclass(frozen=True)
class Progress:
    """One line of a training's history; means since the last line.

    ``explained`` is the share of the batches' squared distance from their own mean, in scaled units (0 where there is
    none); ``dead`` the share of latents that have not fired for the recipe's ``dead_after`` rows.
    """

    step: int
    loss: float
    l0: float
    explained: float
    dead: float


@dataclass(frozen=True, eq=False)
class TrainedCoder:
    """A coder, and how it got there."""

    coder: Coder
    recipe: CoderRecipe
    history: tuple[Progress, ...]


@dataclass
class _Run:
    """All that a run carries from step to step: what a checkpoint holds."""

    coder: Coder
    optimizer: torch.optim.Adam
    idle: Tensor
    step: int
    history: list[Progress]


def train_coder(
    coder: Coder,
    source: RowSource,
    recipe: CoderRecipe,
    *,
    folder: Path | None = None,
    every: int = 250,
    progress: Callable[[Progress], None] | None = None,
) -> TrainedCoder:
    """Train a coder on joined rows of ``source``, in place.

    With a ``folder``, everything is written there ``every`` so many steps, and a run that finds its own checkpoint goes
    on from it: the final weights are those of an uninterrupted run, bit by bit on a CPU. Raises ``BadInput`` for
    rows of another width, rows that are not finite, and a checkpoint of another run.
    """
    _check_widths(coder, source)
    run = _begin(coder, source, recipe, folder)
    tally = _Tally()
    for x, y in source.batches(recipe.batch, seed=recipe.seed, start=run.step):
        if run.step >= recipe.steps:
            break
        step = _learn(run, x, y, recipe)
        tally.add(step, y / coder.out_scale)
        run.step += 1
        if run.step % every == 0 or run.step == recipe.steps:
            _report(run, tally, recipe, progress)
            tally = _Tally()
            _save(run, recipe, source, folder)
    coder.requires_grad_(False)
    return TrainedCoder(coder, recipe, tuple(run.history))


def _check_widths(coder: Coder, source: RowSource) -> None:
    wanted = sum(coder.plan.reads), sum(coder.plan.writes)
    if (source.d_in, source.d_out) != wanted:
        raise BadInput(
            f"The rows have {source.d_in} units to read and {source.d_out} to write; {coder.name} takes {wanted[0]} "
            f"and {wanted[1]}: join the rows of {', '.join(coder.plan.blocks)} in this order."
        )


def _begin(coder: Coder, source: RowSource, recipe: CoderRecipe, folder: Path | None) -> _Run:
    coder.requires_grad_(True)
    optimizer = torch.optim.Adam(coder.parameters(), lr=recipe.lr, betas=BETAS, eps=EPSILON, foreach=True)
    run = _Run(coder, optimizer, torch.zeros(coder.width, dtype=torch.long, device=coder.b_dec.device), 0, [])
    if folder is not None and _restore(run, recipe, source, folder):
        return run
    rows = next(source.batches(min(START_ROWS, source.count), seed=recipe.seed))
    _check_finite(*rows)
    coder.start(*(part.to(coder.b_dec) for part in rows))
    return run


def _learn(run: _Run, x: Tensor, y: Tensor, recipe: CoderRecipe) -> Step:
    like = run.coder.b_dec
    x, y = x.to(like), y.to(like)
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.rate(run.step)
    dead = run.idle >= recipe.dead_after
    step = run.coder.objective(x, y, dead=dead, penalty=recipe.penalty_at(run.step), aux=recipe.aux)
    if not bool(torch.isfinite(step.loss)):
        _check_finite(x, y)
        raise BadInput(f"The loss is not finite at step {run.step}; take a smaller learning rate than {recipe.lr}.")
    run.optimizer.zero_grad()
    step.loss.backward()
    run.optimizer.step()
    run.idle = torch.where(step.fired, 0, run.idle + len(x))
    return step


def _check_finite(*parts: Tensor) -> None:
    if not all(bool(torch.isfinite(part).all()) for part in parts):
        raise BadInput("Activations with NaN or infinite values were given; look for what made them first.")


class _Tally:
    """Means of what steps gave."""

    def __init__(self) -> None:
        self.count, self.loss, self.l0, self.error, self.spread = 0, 0.0, 0.0, 0.0, 0.0

    def add(self, step: Step, rows: Tensor) -> None:
        self.count += 1
        self.loss += float(step.loss.detach())
        self.l0 += step.l0
        self.error += step.error
        self.spread += float(rows.var(0, correction=0).sum())

    def line(self, step: int, dead: float) -> Progress:
        """The history's line."""
        explained = 1 - self.error / self.spread if self.spread > 0 else 0.0
        return Progress(step, self.loss / self.count, self.l0 / self.count, explained, dead)


def _report(run: _Run, tally: _Tally, recipe: CoderRecipe, progress: Callable[[Progress], None] | None) -> None:
    dead = float((run.idle >= recipe.dead_after).float().mean())
    run.history.append(tally.line(run.step, dead))
    if progress is not None:
        progress(run.history[-1])


def _identity(coder: Coder, recipe: CoderRecipe, source: RowSource) -> dict[str, Any]:
    return {"plan": coder.plan.to_json(), "recipe": asdict(recipe), "source": source.fingerprint}


def _save(run: _Run, recipe: CoderRecipe, source: RowSource, folder: Path | None) -> None:
    if folder is None:
        return
    tensors = {f"coder.{name}": value for name, value in run.coder.state_dict().items()}
    for number, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": value for name, value in state.items()}
    tensors["idle"] = run.idle
    about = {
        **_identity(run.coder, recipe, source),
        "step": run.step,
        "history": [asdict(each) for each in run.history],
    }
    write_checkpoint(folder, tensors, about)


def _restore(run: _Run, recipe: CoderRecipe, source: RowSource, folder: Path) -> bool:
    found = read_checkpoint(folder)
    if found is None:
        return False
    tensors, about = found
    wanted = _identity(run.coder, recipe, source)
    different = [key for key in wanted if about.get(key) != wanted[key]]
    if different:
        raise BadInput(
            f"The checkpoint in {folder} belongs to another run (another {' and '.join(different)}); "
            "give another folder, or delete it."
        )
    run.coder.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("coder.")})
    _restore_adam(run.optimizer, tensors)
    run.idle, run.step = tensors["idle"].to(run.idle), about["step"]
    run.history[:] = [Progress(**line) for line in about["history"]]
    return True


def _restore_adam(optimizer: torch.optim.Adam, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, number, part = name.split(".")
            state.setdefault(int(number), {})[part] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
