"""A small language of sequence operations, and what a program in it means.

The idea is RASP (Weiss, Goldberg and Yahav 2021, "Thinking like transformers"): a program is a tree of operations, each
giving one value at every position. A value is *categorical* (one of finitely many; one residual dimension each) or
*numerical* (a number; one dimension in all).

    length  = SelectorWidth(Select(indices, indices, lambda key, query: True))
    opposite = SequenceMap(lambda n, i: n - 1 - i if i < n else None, length, indices)
    reverse = Aggregate(Select(indices, opposite, lambda key, query: key == query), tokens)

:func:`interpret` runs a program on words, :func:`~cutaway.networks.compiled.compiler.compile` turns it into weights.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cutaway.errors import BadInput

MOST_NUMBERS = 5000
"""Most different numbers that a numerical value may take where something has to be looked up by it."""

Predicate = Callable[[Any, Any], bool]


@dataclass(frozen=True, eq=False)
class Op:
    """One value at every position; equal only to itself, so a shared operation is computed once."""

    @property
    def inputs(self) -> tuple["Op", ...]:
        """The operations that this one reads."""
        return ()

    @property
    def numerical(self) -> bool:
        """True if its value is a number in one dimension."""
        return False


@dataclass(frozen=True, eq=False)
class Tokens(Op):
    """The word at each position."""


@dataclass(frozen=True, eq=False)
class Indices(Op):
    """The position, from 0 (BOS not counted)."""


@dataclass(frozen=True, eq=False)
class Ones(Op):
    """The number 1 at every position."""

    @property
    def numerical(self) -> bool:
        """Always."""
        return True


tokens, indices, one = Tokens(), Indices(), Ones()


@dataclass(frozen=True, eq=False)
class Select:
    """For each query position, the key positions for which ``predicate(key, query)`` is true; both categorical."""

    keys: Op
    queries: Op
    predicate: Predicate

    def __post_init__(self) -> None:
        for op in (self.keys, self.queries):
            _categorical(op, "Keys and queries of a Select")


@dataclass(frozen=True, eq=False)
class Aggregate(Op):
    """The mean of ``values`` over the selected positions, ``default`` where none is selected.

    Numerical values are averaged (default 0). Of categorical ones all selected must be the same; without a default
    the program leaves positions open where nothing is selected.
    """

    selector: Select
    values: Op
    default: Any = None

    @property
    def inputs(self) -> tuple[Op, ...]:
        """Keys, queries and values."""
        return self.selector.keys, self.selector.queries, self.values

    @property
    def numerical(self) -> bool:
        """As its values are."""
        return self.values.numerical

    @property
    def otherwise(self) -> Any:
        """The value where nothing is selected."""
        return 0 if self.numerical and self.default is None else self.default


@dataclass(frozen=True, eq=False)
class Reciprocal(Op):
    """1 / (1 + number of selected positions): what a head says that attends to BOS and to all of them evenly."""

    selector: Select

    @property
    def inputs(self) -> tuple[Op, ...]:
        """Keys and queries."""
        return self.selector.keys, self.selector.queries

    @property
    def numerical(self) -> bool:
        """Always."""
        return True


@dataclass(frozen=True, eq=False)
class Map(Op):
    """``f`` of one value; None leaves the position open. ``to_number`` makes the result numerical."""

    f: Callable[[Any], Any]
    x: Op
    to_number: bool = False

    @property
    def inputs(self) -> tuple[Op, ...]:
        """The value mapped."""
        return (self.x,)

    @property
    def numerical(self) -> bool:
        """As asked for."""
        return self.to_number


@dataclass(frozen=True, eq=False)
class SequenceMap(Op):
    """``f`` of two values at the same position, at least one of them categorical."""

    f: Callable[[Any, Any], Any]
    x: Op
    y: Op
    to_number: bool = False

    def __post_init__(self) -> None:
        if self.x.numerical and self.y.numerical:
            raise BadInput("SequenceMap was given two numerical values; make one categorical with Map first.")

    @property
    def inputs(self) -> tuple[Op, ...]:
        """Both values."""
        return self.x, self.y

    @property
    def numerical(self) -> bool:
        """As asked for."""
        return self.to_number


@dataclass(frozen=True, eq=False)
class LinearSequenceMap(Op):
    """``a * x + b * y``, numerical; categorical values that are numbers may enter too."""

    x: Op
    y: Op
    a: float | int
    b: float | int

    @property
    def inputs(self) -> tuple[Op, ...]:
        """Both values."""
        return self.x, self.y

    @property
    def numerical(self) -> bool:
        """Always."""
        return True


def SelectorWidth(selector: Select) -> Op:
    """How many positions are selected, categorical: a head's :class:`Reciprocal`, looked up by an MLP."""
    return Map(_count, Reciprocal(selector))


def _count(reciprocal: Fraction | float) -> int:
    return round(1 / reciprocal) - 1


def _categorical(op: Op, what: str) -> None:
    if op.numerical:
        raise BadInput(f"{what} must be categorical; make a numerical value categorical with Map first.")


def in_order(program: Op) -> list[Op]:
    """All operations of a program, each after those that it reads."""
    found: dict[Op, None] = {}
    _visit(program, found)
    return list(found)


def _visit(op: Op, found: dict[Op, None]) -> None:
    if op not in found:
        for each in op.inputs:
            _visit(each, found)
        found[op] = None


# -- what a program means ------------------------------------------------------------------------------------------


def interpret(program: Op, words: Sequence[str], *, causal: bool = False) -> list[Any]:
    """The program's value at each position, None where it leaves it open.

    Raises :class:`BadInput` where categorical values differ among the selected positions: their mean is no value.
    """
    known: dict[Op, list[Any]] = {}
    for op in in_order(program):
        known[op] = list(_values(op, known, words, causal))
    return known[program]


def _values(op: Op, known: dict[Op, list[Any]], words: Sequence[str], causal: bool) -> Iterator[Any]:
    for place in range(len(words)):
        at = [known[each][place] for each in op.inputs]
        if isinstance(op, (Aggregate, Reciprocal)):
            chosen = _chosen(op.selector, known, place, causal)
            yield (
                _mean(op, [known[op.values][j] for j in chosen])
                if isinstance(op, Aggregate)
                else Fraction(1, 1 + len(chosen))
            )
        elif isinstance(op, LinearSequenceMap):
            yield None if None in at else op.a * at[0] + op.b * at[1]
        elif isinstance(op, (Map, SequenceMap)):
            yield None if None in at else op.f(*at)
        else:
            yield words[place] if isinstance(op, Tokens) else place if isinstance(op, Indices) else 1


def _chosen(selector: Select, known: dict[Op, list[Any]], place: int, causal: bool) -> list[int]:
    keys, query = known[selector.keys], known[selector.queries][place]
    if query is None:
        return []
    visible = range(place + 1 if causal else len(keys))
    return [j for j in visible if keys[j] is not None and selector.predicate(keys[j], query)]


def _mean(op: Aggregate, chosen: list[Any]) -> Any:
    if not chosen:
        return op.otherwise
    if op.numerical:
        # An open number is 0 in the network.
        return sum(Fraction(each or 0) for each in chosen) / len(chosen)
    if any(each != chosen[0] for each in chosen):
        raise BadInput(f"An Aggregate selects different values ({chosen[0]!r}, ...); their mean is no value.")
    return chosen[0]


# -- which values there can be -------------------------------------------------------------------------------------


class Domains:
    """The values that each operation of a program can take, for a vocabulary and a greatest length."""

    def __init__(self, vocab: Sequence[str], max_len: int) -> None:
        self.vocab, self.max_len = tuple(vocab), max_len
        self._known: dict[Op, tuple[Any, ...]] = {}

    def of(self, op: Op) -> tuple[Any, ...]:
        """All values of ``op`` in order; numbers exact, as fractions. Raises if there are too many numbers."""
        if op not in self._known:
            found = dict.fromkeys(each for each in self._all(op) if each is not None)
            if len(found) > MOST_NUMBERS:
                raise BadInput(f"A value can take {len(found)} different numbers, more than {MOST_NUMBERS}.")
            self._known[op] = tuple(sorted(found, key=lambda each: (isinstance(each, str), each)))
        return self._known[op]

    def bounds(self, op: Op) -> tuple[Any, Any]:
        """The least and the greatest number that ``op`` can be; means are not enumerated for it."""
        if isinstance(op, Aggregate):
            low, high = self.bounds(op.values)
            return min(low, op.otherwise), max(high, op.otherwise)
        if isinstance(op, LinearSequenceMap):
            ends = [[factor * end for end in self.bounds(each)] for factor, each in ((op.a, op.x), (op.b, op.y))]
            return min(ends[0]) + min(ends[1]), max(ends[0]) + max(ends[1])
        numbers = self.of(op)
        if not all(isinstance(each, (int, float, Fraction)) for each in numbers):
            raise BadInput(f"A number was to be made of {numbers[0]!r}; map it to a number first.")
        return min(numbers), max(numbers)

    def _all(self, op: Op) -> Iterable[Any]:
        if isinstance(op, Tokens):
            return self.vocab
        if isinstance(op, Indices):
            return range(self.max_len)
        if isinstance(op, Ones):
            return (1,)
        if isinstance(op, Reciprocal):
            return [Fraction(1, 1 + count) for count in range(self.max_len + 1)]
        if isinstance(op, Aggregate):
            inner = self.of(op.values)
            return [*(self._means(inner) if op.numerical else inner), op.otherwise]
        if isinstance(op, Map):
            return [op.f(each) for each in self.of(op.x)]
        assert isinstance(op, (SequenceMap, LinearSequenceMap))
        pairs = [(x, y) for x in self.of(op.x) for y in self.of(op.y)]
        if isinstance(op, LinearSequenceMap):
            return [_exact(op.a) * _exact(x) + _exact(op.b) * _exact(y) for x, y in pairs]
        return [op.f(x, y) for x, y in pairs]

    def _means(self, numbers: Sequence[Any]) -> set[Fraction]:
        """Every mean of 1 to ``max_len`` of these numbers."""
        means: set[Fraction] = set()
        sums: set[Fraction] = {Fraction(0)}
        for count in range(1, self.max_len + 1):
            sums = {total + _exact(each) for total in sums for each in numbers}
            if len(sums) > MOST_NUMBERS:
                raise BadInput(f"A mean can take more than {MOST_NUMBERS} different numbers; map it to fewer first.")
            means |= {total / count for total in sums}
        return means


def _exact(number: Any) -> Fraction:
    return Fraction(number).limit_denominator(10**9)
