"""The trainer: several dictionaries from one pass of batches, resumed exactly where a kill left them.

1. A sample gives the geometric median and the scale; rows are trained on in that scale.
2. Each batch is checked, scaled, and given to every dictionary.
3. Checkpoints hold everything that later steps depend on; batches come again from the source by seed and position.
4. At the end the scale is folded into the weights.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cutaway.bases.activations.source import Source
from cutaway.bases.basis import Origin
from cutaway.bases.dictionaries.dictionary import Dictionary
from cutaway.bases.dictionaries.recipe import Recipe
from cutaway.bases.training import checkpoint
from cutaway.bases.training.beginning import begin
from cutaway.bases.training.frame import Frame
from cutaway.bases.training.parallel import Team, own_device
from cutaway.bases.training.run import Progress, Run
from cutaway.errors import BadInput


@runtime_checkable
class RowSource(Source, Protocol):
    """Any :class:`~cutaway.bases.activations.Source`, in a form that can be checked while running."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A dictionary in the site's own scale, how its training went, and what a reader must know."""

    dictionary: Dictionary
    recipe: Recipe
    history: tuple[Progress, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Setting:
    source: RowSource
    recipes: tuple[Recipe, ...]
    folder: Path | None
    order: int
    device: torch.device
    team: Team
    compiled: bool
    origin: Origin | None


def train(
    source: RowSource,
    recipes: Recipe | Sequence[Recipe],
    *,
    folder: str | Path | None = None,
    progress: Callable[[Progress], object] | None = None,
    every: int = 50,
    save_every: int = 500,
    order: int = 0,
    device: str | torch.device = "cpu",
    compiled: bool = False,
    origin: Origin | None = None,
) -> list[Trained]:
    """Trains a dictionary for each recipe from one pass over the source's batches; the same seeds, the same weights.

    ``folder``: where the checkpoint is kept (every ``save_every`` steps, and at the end); a run that was killed goes
    on from there when the same call is made again, to the same weights bit for bit on a CPU with as many threads.
    ``progress`` is told every ``every`` steps. ``order`` seeds the order of rows. Under torchrun, batches are dealt
    out to the processes and gradients averaged.
    Raises ``BadInput`` for recipes with different batches, another source or other recipes than the folder's, and for
    a batch with NaN or infinite values, after the state before it has been saved.
    """
    chosen = (recipes,) if isinstance(recipes, Recipe) else tuple(recipes)
    _check(chosen)
    device = own_device(torch.device(device))
    home = None if folder is None else Path(folder)
    setting = _Setting(source, chosen, home, order, device, Team.here(device), compiled, origin)
    frame, runs, start = _begin(setting)
    last = max(recipe.steps for recipe in chosen)
    batches = source.batches(chosen[0].batch, seed=order, start=start)
    for step, (x, y) in zip(range(start, last), batches):
        x, y = _scaled(setting, frame, runs, step, (x, y))
        for run in runs:
            if not run.done:
                _advance(run, x, y, every, progress)
        if home is not None and ((step + 1) % save_every == 0 or step + 1 == last):
            _save(setting, frame, runs, step + 1)
    return [_finished(run, frame) for run in runs]


def _advance(run: Run, x: Tensor, y: Tensor, every: int, progress: Callable[[Progress], object] | None) -> None:
    report = (run.step + 1) % every == 0 or run.step + 1 == run.recipe.steps
    run.advance(x, y, report=report)
    if report and progress is not None and run.team.first:
        progress(run.history[-1])


def _begin(setting: _Setting) -> tuple[Frame, list[Run], int]:
    first = setting.recipes[0]
    state = None if setting.folder is None else checkpoint.load(setting.folder, setting.device)
    x, y = next(iter(setting.source.batches(first.batch, seed=setting.order)))
    _check_batch(setting, x, y, 0, "and nothing was before")
    replaces = setting.origin.replaces if setting.origin else not (x is y or torch.equal(x, y))
    y = y if replaces else x
    frame = Frame.of(x, y) if state is None else Frame(**_same_run(setting, state)["frame"])
    runs = []
    for recipe in setting.recipes:
        dictionary = begin(recipe, frame, x * frame.scale_in, y * frame.scale_out, replaces, setting.origin)
        runs.append(Run(recipe, dictionary.to(setting.device), setting.team, compiled=setting.compiled))
    for run, kept in zip(runs, state["runs"] if state else ()):
        run.restore(kept)
    return frame, runs, state["step"] if state else 0


def _scaled(
    setting: _Setting, frame: Frame, runs: list[Run], step: int, batch: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    x, y = batch
    try:
        _check_batch(setting, x, y, step, _where_kept(setting, step))
    except BadInput:
        if setting.folder is not None:
            _save(setting, frame, runs, step)
        raise
    here = setting.team.part(x).to(setting.device, torch.float32) * frame.scale_in
    if x is y:
        return here, here
    return here, setting.team.part(y).to(setting.device, torch.float32) * frame.scale_out


def _check_batch(setting: _Setting, x: Tensor, y: Tensor, step: int, kept: str) -> None:
    widths = (x.shape[1], y.shape[1])
    if widths != (setting.source.d_in, setting.source.d_out):
        raise BadInput(
            f"Batch {step} has rows of {widths} units, and the source promised "
            f"{(setting.source.d_in, setting.source.d_out)}; give rows of one site."
        )
    parts = (x,) if x is y else (x, y)
    if all(bool(part.sum().isfinite()) for part in parts):  # one cheap look; rows are counted only where it fails
        return
    bad = sum(int((~torch.isfinite(part).all(1)).sum()) for part in parts)
    if bad:
        raise BadInput(
            f"Batch {step} holds NaN or infinite values in {bad} of {len(x)} rows; nothing was learned from it, {kept}."
            f" Look for what made them, and leave those rows out."
        )


def _where_kept(setting: _Setting, step: int) -> str:
    return f"and the state after {step} steps is kept in {setting.folder}" if setting.folder else "and nothing was kept"


def _save(setting: _Setting, frame: Frame, runs: list[Run], step: int) -> None:
    if setting.folder is not None and setting.team.first:
        state = {"step": step, "frame": vars(frame), "runs": [run.state() for run in runs]}
        checkpoint.save(setting.folder, {**state, **_signature(setting)})


def _signature(setting: _Setting) -> dict[str, Any]:
    return {
        "source": setting.source.fingerprint,
        "recipes": [json.dumps(recipe.to_json(), sort_keys=True) for recipe in setting.recipes],
        "order": setting.order,
    }


def _same_run(setting: _Setting, state: dict[str, Any]) -> dict[str, Any]:
    words = {"source": "other rows", "recipes": "other recipes", "order": "another order of rows"}
    for part, here in _signature(setting).items():
        if state.get(part) != here:
            raise BadInput(
                f"{setting.folder} holds a run on {words[part]}; go on with what it began with, or give another folder."
            )
    return state


def _check(recipes: tuple[Recipe, ...]) -> None:
    if not recipes:
        raise BadInput("No recipe was given; give at least one.")
    if len({recipe.batch for recipe in recipes}) > 1:
        raise BadInput(
            f"Recipes with batches of {sorted({recipe.batch for recipe in recipes})} rows were given for one pass; "
            f"give them one size, or train them apart."
        )


def _finished(run: Run, frame: Frame) -> Trained:
    dictionary = copy.deepcopy(run.dictionary).cpu()
    dictionary.fold_scale(frame.scale_in, frame.scale_out)
    dictionary.requires_grad_(False)
    notes = [f"{run.resampled} latents were resampled."] if run.resampled else []
    dead = run.history[-1].dead if run.history else 0.0
    if dead > 0:
        notes.append(f"{dead:.1%} of the latents had not fired for {run.recipe.patience} rows at the end.")
    return Trained(dictionary, run.recipe, tuple(run.history), tuple(notes))
