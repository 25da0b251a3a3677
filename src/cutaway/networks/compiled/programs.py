"""A library of programs whose answers are known: each with its operations and a plain Python reference.

The reference says what the answer should be without knowing the operations; tests hold the compiled network against it
on random inputs. Several are the classics of Weiss et al. (2021) and Lindner et al. (2023), written anew.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cutaway.errors import UnknownName
from cutaway.networks.compiled.compiler import Compiled, compile
from cutaway.networks.compiled.rasp import (
    Aggregate,
    LinearSequenceMap,
    Map,
    Op,
    Select,
    SelectorWidth,
    SequenceMap,
    indices,
    tokens,
)

Words = Sequence[str]
NOTHING = "?"
"""What programs answer where there is nothing to answer with: no token before, no earlier occurrence."""


@dataclass(frozen=True)
class Program:
    """A program, the vocabulary and length that it is compiled for, and what it should answer."""

    computes: str
    op: Op
    reference: Callable[[Words], list[Any]]
    vocab: tuple[str, ...] = ("a", "b", "c", "d")
    max_len: int = 8
    causal: bool = False
    names: dict[Op, str] = field(default_factory=dict)
    sample: Callable[[random.Random], list[str]] | None = None

    def inputs(self, count: int, seed: int = 0) -> list[tuple[str, ...]]:
        """Random inputs on which the program is defined, of all lengths."""
        draw = random.Random(seed)
        return [tuple(self.sample(draw) if self.sample else self._any(draw)) for _ in range(count)]

    def _any(self, draw: random.Random) -> list[str]:
        return [draw.choice(self.vocab) for _ in range(draw.randint(1, self.max_len))]


@cache
def compiled(name: str) -> Compiled:
    """The named program of :data:`PROGRAMS` as a network with its truth; compiled once per process."""
    if name not in PROGRAMS:
        raise UnknownName("compiled program", name, PROGRAMS)
    program = PROGRAMS[name]
    return compile(
        program.op,
        program.vocab,
        program.max_len,
        causal=program.causal,
        name=name,
        computes=program.computes,
        inputs=program.inputs(12 * program.max_len),
        names=program.names,
        source=f"compiled:{name}",
    )


def _same(key: Any, query: Any) -> bool:
    return key == query


def _all(key: Any, query: Any) -> bool:
    return True


# -- pieces that several programs share ------------------------------------------------------------------------------

_length = SelectorWidth(Select(indices, indices, _all))
_count_of_own = SelectorWidth(Select(tokens, tokens, _same))
_before = Aggregate(Select(indices, indices, lambda key, query: key == query - 1), tokens, default=NOTHING)


def _is(word: str) -> Op:
    return Map(lambda token: int(token == word), tokens, to_number=True)


def _share(word: str) -> Op:
    """The fraction of positions so far that hold ``word``, where attention is causal."""
    return Aggregate(Select(tokens, tokens, _all), _is(word))


# -- the programs ----------------------------------------------------------------------------------------------------


def _reverse() -> Program:
    opposite = SequenceMap(lambda length, index: length - 1 - index if index < length else None, _length, indices)
    return Program(
        "The tokens in reverse order.",
        Aggregate(Select(indices, opposite, _same), tokens),
        lambda words: list(reversed(words)),
        names={_length: "length", opposite: "opposite"},
    )


def _sort() -> Program:
    pair = SequenceMap(lambda token, index: (token, index), tokens, indices)
    rank = SelectorWidth(Select(pair, pair, lambda key, query: key < query))
    return Program(
        "The tokens in alphabetical order: each goes to the place that counts how many come before it.",
        Aggregate(Select(rank, indices, _same), tokens),
        lambda words: sorted(words),
        vocab=("a", "b", "c"),
        max_len=6,
        names={pair: "pair", rank: "rank"},
    )


def _most_frequent() -> Program:
    more = SelectorWidth(Select(_count_of_own, _count_of_own, lambda key, query: key > query))
    return Program(
        "At every position, whether no token occurs more often than this one.",
        Map(lambda count: count == 0, more),
        lambda words: [Counter(words)[word] == max(Counter(words).values()) for word in words],
        names={_count_of_own: "count", more: "more_frequent"},
    )


def _double_histogram() -> Program:
    pair = SequenceMap(lambda token, index: (token, index), tokens, indices)
    earlier = SelectorWidth(Select(pair, pair, lambda key, query: key[0] == query[0] and key[1] < query[1]))
    first = SequenceMap(lambda count, seen: count if seen == 0 else None, _count_of_own, earlier)
    return Program(
        "At every position, how many different tokens occur as often as this one.",
        SelectorWidth(Select(first, _count_of_own, _same)),
        lambda words: [sum(Counter(words)[word] == count for count in Counter(words).values()) for word in words],
        vocab=("a", "b", "c"),
        max_len=6,
        names={_count_of_own: "count", pair: "pair", earlier: "earlier", first: "count_at_first"},
    )


def _dyck() -> Program:
    opened = SelectorWidth(Select(tokens, tokens, lambda key, _query: key == "("))
    closed = SelectorWidth(Select(tokens, tokens, lambda key, _query: key == ")"))
    depth = SequenceMap(lambda opens, closes: opens - closes, opened, closed)
    failures = SelectorWidth(Select(depth, depth, lambda key, _query: key < 0))
    return Program(
        "At every position, whether the brackets so far are balanced (T), can still be (P) or never (F): Dyck-1.",
        SequenceMap(lambda failed, at: "F" if failed else "T" if at == 0 else "P", failures, depth),
        _dyck_reference,
        vocab=("(", ")", "x"),
        causal=True,
        names={opened: "opened", closed: "closed", depth: "depth", failures: "failures"},
    )


def _dyck_reference(words: Words) -> list[str]:
    answers, depth, failed = [], 0, False
    for word in words:
        depth += (word == "(") - (word == ")")
        failed = failed or depth < 0
        answers.append("F" if failed else "T" if depth == 0 else "P")
    return answers


def _induction() -> Program:
    return Program(
        "The token that followed the previous occurrence of this one; inputs in which a token occurs at most twice.",
        Aggregate(Select(_before, tokens, _same), tokens, default=NOTHING),
        _induction_reference,
        vocab=("a", "b", "c", "d", "e"),
        causal=True,
        names={_before: "before"},
        sample=_twice_at_most,
    )


def _induction_reference(words: Words) -> list[str]:
    def after_previous(place: int) -> str:
        earlier = [j for j in range(place) if words[j] == words[place]]
        return words[earlier[-1] + 1] if earlier else NOTHING

    return [after_previous(place) for place in range(len(words))]


def _twice_at_most(draw: random.Random) -> list[str]:
    """Tokens of which each occurs once or twice."""
    deck = [*"abcde"] * 2
    draw.shuffle(deck)
    return deck[: draw.randint(1, 8)]


def _fraction(words: Words, word: str) -> list[float]:
    return [list(words[: place + 1]).count(word) / (place + 1) for place in range(len(words))]


def _programs() -> dict[str, Program]:
    brackets = ("(", ")", "x")
    return {
        "reverse": _reverse(),
        "histogram": Program(
            "At every position, how many times this token occurs in the whole input.",
            _count_of_own,
            lambda words: [list(words).count(word) for word in words],
        ),
        "double_histogram": _double_histogram(),
        "most_frequent": _most_frequent(),
        "sort": _sort(),
        "dyck1": _dyck(),
        "induction": _induction(),
        "previous_token": Program(
            "The token before this one.",
            _before,
            lambda words: [NOTHING, *words[:-1]],
            causal=True,
        ),
        "fraction_of_previous": Program(
            "At every position, the fraction of the tokens so far (this one included) that are 'x'.",
            _share("x"),
            lambda words: _fraction(words, "x"),
            vocab=("a", "b", "x"),
            causal=True,
        ),
        "bracket_balance": Program(
            "At every position, the share of '(' less the share of ')' among the tokens so far.",
            LinearSequenceMap(_share("("), _share(")"), 1, -1),
            lambda words: [a - b for a, b in zip(_fraction(words, "("), _fraction(words, ")"))],
            vocab=brackets,
            causal=True,
        ),
        "copy_first": Program(
            "The first token, at every position.",
            Aggregate(Select(indices, indices, lambda key, _query: key == 0), tokens),
            lambda words: [words[0]] * len(words),
            causal=True,
        ),
        "count_of_token": Program(
            "How many 'x' the whole input holds.",
            SelectorWidth(Select(tokens, tokens, lambda key, _query: key == "x")),
            lambda words: [list(words).count("x")] * len(words),
            vocab=("a", "b", "x"),
        ),
        "length": Program(
            "How many tokens the input holds.",
            _length,
            lambda words: [len(words)] * len(words),
        ),
    }


PROGRAMS: dict[str, Program] = _programs()
