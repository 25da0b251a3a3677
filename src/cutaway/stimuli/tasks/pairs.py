"""A task as pairs of prompts: what a pair is, which pairs a tokenizer can use, and sets of them."""

import re
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cutaway.stimuli.core import Skipped, content_id

SPLITS = ("train", "validation", "test")


@runtime_checkable
class Tokenizer(Protocol):
    """Anything with ``encode(text, add_special_tokens=False)`` that gives a list of token ids."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of the text's tokens."""
        ...


@dataclass(frozen=True)
class TaskPair:
    """Two prompts of equally many tokens that differ in what a task is about, and two next tokens to compare.

    After ``clean`` the right next token is ``target``; ``against`` is a wrong one that a network might say. After
    ``corrupt`` nothing (or less) speaks for ``target``. Both are written exactly as they continue the prompt, mostly
    with a leading space. ``template`` names the wording, ``group`` the entity (a name, a country) that pairs share and
    that statistics should resample.
    """

    clean: str
    corrupt: str
    target: str
    against: str
    template: str = ""
    group: str = ""

    @property
    def id(self) -> str:
        """The pair's identity: depends on the two prompts and the two answers only."""
        return content_id("\x1f".join((self.clean, self.corrupt, self.target, self.against)))


@dataclass(frozen=True)
class TaskSet:
    """Pairs of one task in a fixed order, and which candidates the tokenizer could not use, with the reason."""

    name: str
    split: str
    templates: str
    pairs: tuple[TaskPair, ...]
    skipped: tuple[Skipped, ...] = ()
    seed: int = 0

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the pairs, in order."""
        return tuple(pair.id for pair in self.pairs)


def token_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The text's tokens without special ones."""
    return [int(each) for each in tokenizer.encode(text, add_special_tokens=False)]


def continuation(tokenizer: Tokenizer, prompt: str, word: str) -> int | None:
    """The single token by which ``word`` continues ``prompt``; None if it takes several or changes the prompt's own.

    Asked in context, because "6" may be one token alone and yet merge with the "17" before it.
    """
    before, after = token_ids(tokenizer, prompt), token_ids(tokenizer, prompt + word)
    return after[-1] if len(after) == len(before) + 1 and after[:-1] == before else None


def unfit(pair: TaskPair, tokenizer: Tokenizer) -> str:
    """Why the tokenizer cannot use the pair, as a clause; empty if it can."""
    clean, corrupt = token_ids(tokenizer, pair.clean), token_ids(tokenizer, pair.corrupt)
    if not clean or not corrupt:
        return "a prompt has no token"
    if clean == corrupt:
        return "clean and corrupt are the same tokens"
    if len(clean) != len(corrupt):
        return f"clean has {len(clean)} tokens and corrupt {len(corrupt)}"
    answers = [continuation(tokenizer, pair.clean, word) for word in (pair.target, pair.against)]
    for name, word, answer in zip(("target", "against"), (pair.target, pair.against), answers):
        if answer is None:
            return f"{name} {word!r} is not exactly one token after the prompt"
    return "target and against are the same token" if answers[0] == answers[1] else ""


def aligned(pair: TaskPair, tokenizer: Tokenizer) -> bool:
    """True if every exchanged word has as many tokens as the word that it replaces, so that positions correspond.

    Words are compared in order; prompts of different numbers of words have no such correspondence and pass.
    """
    ends = [[match.end() for match in re.finditer(r"\S+", text)] for text in (pair.clean, pair.corrupt)]
    words = [re.findall(r"\S+", text) for text in (pair.clean, pair.corrupt)]
    if len(words[0]) != len(words[1]):
        return True
    return all(
        len(token_ids(tokenizer, pair.clean[:one])) == len(token_ids(tokenizer, pair.corrupt[:other]))
        for one, other, before, after in zip(*ends, *words)
        if before != after
    )
