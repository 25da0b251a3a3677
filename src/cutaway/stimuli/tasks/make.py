"""Filling a set: draw candidates, keep those that the tokenizer can use, stop when there are enough."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cutaway.errors import BadInput, NotTestable, UnknownName
from cutaway.stimuli.core import Skipped
from cutaway.stimuli.tasks.family import TASKS, Draw
from cutaway.stimuli.tasks.pairs import SPLITS, TaskPair, TaskSet, Tokenizer, aligned, unfit

PATIENCE = 1500  # so many draws in a row without a new usable pair, and the well is called dry


def task(
    name: str,
    tokenizer: Tokenizer | None,
    *,
    count: int = 64,
    split: str = "train",
    templates: str = "a",
    seed: int = 0,
) -> TaskSet:
    """``count`` different pairs of a built-in or registered task, of equal length within each pair for ``tokenizer``.

    ``split`` (train, validation, test) chooses the content words, ``templates`` ("a", "b") the wordings. The same
    arguments give the same pairs, and a larger ``count`` begins with the smaller one's pairs. :class:`NotTestable` if
    the tokenizer can use no pair; :class:`~cutaway.errors.BadInput` if it can use fewer than ``count``.
    """
    family = TASKS[name]
    if tokenizer is None:
        raise BadInput(f"The task {name!r} needs a tokenizer, and this network has none; load it with its tokenizer.")
    if count < 1:
        raise BadInput(f"{count} pairs of {name!r} were asked for; ask for at least 1.")
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS, f"There are {', '.join(SPLITS)}.")
    if templates not in family.templates:
        known = ", ".join(family.templates)
        raise UnknownName("template set", templates, family.templates, f"The task {name!r} has {known}.")
    draw = Draw(split, templates, family.templates[templates], tokenizer, _generator(name, split, templates, seed))
    pairs, skipped = _collect(lambda turn: family.make(replace(draw, turn=turn)), tokenizer, count)
    if len(pairs) < count:
        raise _too_few(f"The task {name!r} (split {split}, templates {templates})", len(pairs), count, skipped)
    return TaskSet(name, split, templates, tuple(pairs), tuple(skipped), seed)


def task_names() -> tuple[str, ...]:
    """The tasks that there are, built-in ones first."""
    return tuple(TASKS)


def _generator(name: str, split: str, templates: str, seed: int) -> np.random.Generator:
    """Chance of its own for every set, so that equal seeds do not mean equal choices in different splits."""
    digest = hashlib.sha256(f"{name}/{split}/{templates}/{seed}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _collect(make: Callable[[int], TaskPair], tokenizer: Tokenizer, count: int) -> tuple[list[TaskPair], list[Skipped]]:
    """Different prompts in the order drawn, and the candidates that the tokenizer cannot use."""
    pairs: list[TaskPair] = []
    skipped: list[Skipped] = []
    seen: set[tuple[str, str]] = set()
    turn = last_success = 0
    while len(pairs) < count and turn - last_success < PATIENCE:
        pair = make(turn)
        turn += 1
        if (pair.clean, pair.corrupt) in seen:
            continue
        seen.add((pair.clean, pair.corrupt))
        reason = unfit(pair, tokenizer) or ("" if aligned(pair, tokenizer) else "exchanged words differ in tokens")
        if reason:
            skipped.append(Skipped(pair.clean, reason))
        else:
            pairs.append(pair)
            last_success = turn
    return pairs, skipped


def _too_few(what: str, found: int, count: int, skipped: list[Skipped]) -> BadInput | NotTestable:
    why = f" ({len(skipped)} candidates were left out, the first because {skipped[0].reason})" if skipped else ""
    if not found:
        return NotTestable(f"{what} has no pair that this tokenizer can use{why}; choose another task.")
    return BadInput(
        f"{what} has {found} different pairs for this tokenizer{why}, {count} were asked for; ask for fewer."
    )
