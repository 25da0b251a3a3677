"""How a task makes its candidates, and the door through which tasks enter.

A task is a function that draws one candidate pair, and its wordings in sets named "a", "b", ...; filling a set,
filtering by tokenizer, seeds and errors are the same for all::

    @task_family("echo", question="Which word was said last?", templates={"a": ("Say {word}. You said",)})
    def make(draw):
        word, other = draw.some(WORDS, 2)  # of the split asked for
        label, text = draw.template()
        return TaskPair(text.format(word=word), text.format(word=other), f" {word}", f" {other}", label, word)

Another package's :class:`Family` objects enter through the entry-point group ``cutaway.tasks``.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, TypeVar

import numpy as np

from cutaway.errors import BadInput
from cutaway.registry import Registry
from cutaway.stimuli.tasks.pairs import TaskPair, Tokenizer

T = TypeVar("T")
Templates = Mapping[str, tuple[str, ...]]

_PART_OF_FIVE = ("train", "train", "train", "validation", "test")


@dataclass(frozen=True)
class Family:
    """A task: what the network has to do, its wordings by set, and the function that draws one candidate pair."""

    question: str
    templates: Templates
    make: Callable[["Draw"], TaskPair]


TASKS: Registry[Family] = Registry("task", "cutaway.tasks")


def task_family(
    name: str, *, question: str, templates: Templates
) -> Callable[[Callable[["Draw"], TaskPair]], Callable[["Draw"], TaskPair]]:
    """A decorator that registers the function that draws a task's candidates; a taken name raises."""

    def enter(make: Callable[["Draw"], TaskPair]) -> Callable[["Draw"], TaskPair]:
        TASKS.register(name)(Family(question, templates, make))
        return make

    return enter


@dataclass(frozen=True)
class Draw:
    """What a candidate may depend on: the split, the template set with its texts, the tokenizer, and chance."""

    split: str
    templates: str
    texts: tuple[str, ...]
    tokenizer: Tokenizer
    rng: np.random.Generator
    turn: int = 0  # candidates drawn before this one

    def some(self, words: Sequence[T], count: int) -> list[T]:
        """``count`` different entries of the split's part of a list, in random order."""
        part = part_of(words, self.split)
        if count > len(part):
            raise BadInput(f"{count} different words were asked of the {len(part)} of the {self.split} split.")
        return [part[int(i)] for i in self.rng.permutation(len(part))[:count]]

    def one(self, words: Sequence[T]) -> T:
        """One entry of the split's part of a list."""
        part = part_of(words, self.split)
        return part[self.number(0, len(part) - 1)]

    def choose(self, options: Sequence[T]) -> T:
        """Any one of ``options``: for what is not a content word and belongs to every split."""
        return options[self.number(0, len(options) - 1)]

    def alternate(self, options: Sequence[T]) -> T:
        """Each of ``options`` in turn, after all wordings had theirs: for what a set should hold equally often."""
        return options[self.turn // len(self.texts) % len(options)]

    def number(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def template(self) -> tuple[str, str]:
        """Label ("a2") and text of the wording whose turn it is."""
        index = self.turn % len(self.texts)
        return f"{self.templates}{index + 1}", self.texts[index]


def part_of(words: Sequence[T], split: str) -> tuple[T, ...]:
    """The entries of a list that belong to a split: of every five, three train, one validates, one tests.

    Membership depends on the place in the list only: no entry is ever in two splits, whatever the seed.
    """
    return tuple(word for i, word in enumerate(words) if _PART_OF_FIVE[i % len(_PART_OF_FIVE)] == split)


@lru_cache(maxsize=32)
def words(name: str) -> tuple[Any, ...]:
    """One of the package's word lists (CC0); pairs of words come as tuples."""
    return tuple(tuple(entry) if isinstance(entry, list) else entry for entry in _lists()[name])


@lru_cache(maxsize=1)
def _lists() -> dict[str, list[Any]]:
    file = resources.files("cutaway.stimuli.tasks") / "data" / "words.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    if data.get("licence") != "CC0-1.0":
        raise BadInput("The word lists of the tasks carry no CC0-1.0 mark; reinstall cutaway.")
    return data["words"]
