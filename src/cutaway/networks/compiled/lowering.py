"""From operations to attention heads and neurons over named residual dimensions.

Every operation owns a subspace of the stream: one dimension per value (categorical) or one in all (numerical).

- Select/Aggregate is one head. Its query-key units are the key's values: the query side holds which queries want the
  key, so a matching pair scores ``GAIN``. One more unit gives BOS half of it: where nothing matches, all attention
  goes to BOS, whose value is the default. In a Reciprocal BOS gets the full gain, and its value is 1.
- A map of categorical values is one ReLU neuron per value (or pair of values, as the conjunction ``x + y - 1``).
- A map of a number is a staircase: between neighbouring numbers, a pair of neurons
  ``relu(a(x-t)+1/2) - relu(a(x-t)-1/2)`` steps from 0 to 1 within half of the gap.

What BOS holds is known when weights are made, and is taken off wherever it would be read: queries and keys see nothing
there, neurons stay silent.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cutaway.networks.compiled.rasp import (
    Aggregate,
    Domains,
    LinearSequenceMap,
    Map,
    Op,
    Reciprocal,
    Select,
    SequenceMap,
)

GAIN = 100.0
"""Score of a match; softmax leaks exp(-GAIN / 2), far below one float32 step."""

Weights = dict[int, float]
"""Residual dimension to weight."""


@dataclass(frozen=True)
class HeadPlan:
    """One head: query-key units and value-output units, each as (what is read, what it meets)."""

    matches: tuple[tuple[Weights, Weights], ...]  # query weights, key weights
    moves: tuple[tuple[Weights, Weights], ...]  # value weights, output weights


@dataclass(frozen=True)
class Neuron:
    """One ReLU unit: what it reads and what it writes."""

    reads: Weights
    writes: Weights


@dataclass
class Subspaces:
    """Which residual dimensions an operation owns, their labels, and what BOS holds there."""

    domains: Domains
    one: int = 0
    bos: int = 1
    labels: list[str] = field(default_factory=lambda: ["one", "tokens:<bos>"])
    at_bos: Weights = field(default_factory=lambda: {1: 1.0})
    dims: dict[Op, dict[Any, int]] = field(default_factory=dict)  # value (None for a number) to dimension

    def add(self, op: Op, name: str) -> None:
        """Gives an operation its dimensions."""
        values = [None] if op.numerical else list(self.domains.of(op))
        start = len(self.labels)
        self.labels += [name if op.numerical else f"{name}:{value}" for value in values]
        self.dims[op] = {value: start + place for place, value in enumerate(values)}

    def encoded(self, op: Op, value: Any) -> Weights:
        """A value of the operation as a direction in its subspace; nothing for an open value or the number 0."""
        if value is None:
            return {}
        if op.numerical:
            return {self.dims[op][None]: float(value)} if value else {}
        return {self.dims[op][value]: 1.0}

    def without_bos(self, reads: Weights) -> Weights:
        """The same reading, but for BOS, where it gives 0."""
        there = sum(weight * self.at_bos.get(dim, 0.0) for dim, weight in reads.items())
        return added(reads, {self.bos: -there}) if there else reads


def added(*all_weights: Weights) -> Weights:
    """The sum of weights; those that cancel are left out."""
    total: Weights = {}
    for weights in all_weights:
        for dim, weight in weights.items():
            total[dim] = total.get(dim, 0.0) + weight
    return {dim: weight for dim, weight in total.items() if weight}


def scaled(weights: Weights, factor: float) -> Weights:
    """All weights times a factor."""
    return {dim: weight * factor for dim, weight in weights.items() if weight * factor}


# -- heads ---------------------------------------------------------------------------------------------------------


def head_plan(op: Aggregate | Reciprocal, spaces: Subspaces) -> HeadPlan:
    """The head that computes ``op``; what BOS will hold in its subspace is noted in ``spaces``."""
    always = {spaces.one: 1.0, spaces.bos: 1.0}
    if isinstance(op, Reciprocal):
        attended, bos_value = GAIN, {spaces.dims[op][None]: 1.0}
        moves = [({spaces.bos: 1.0}, bos_value)]
    else:
        attended, bos_value = GAIN / 2, spaces.encoded(op, op.otherwise)
        moves = list(_moves(op, spaces))
    spaces.at_bos.update(bos_value)
    default = (always, {spaces.bos: attended})
    return HeadPlan((*_matches(op.selector, spaces), default), tuple(moves))


def _matches(selector: Select, spaces: Subspaces) -> Iterator[tuple[Weights, Weights]]:
    for key, key_dim in spaces.dims[selector.keys].items():
        wanted = {dim: 1.0 for query, dim in spaces.dims[selector.queries].items() if selector.predicate(key, query)}
        if wanted:
            yield spaces.without_bos(wanted), scaled(spaces.without_bos({key_dim: 1.0}), GAIN)


def _moves(op: Aggregate, spaces: Subspaces) -> Iterator[tuple[Weights, Weights]]:
    """Each value is copied from where it is; the default comes from BOS."""
    if op.numerical:
        there = {spaces.bos: float(op.otherwise)}
        yield added(spaces.without_bos({spaces.dims[op.values][None]: 1.0}), there), {spaces.dims[op][None]: 1.0}
        return
    for value, dim in spaces.dims[op].items():
        there = {spaces.bos: 1.0} if value == op.otherwise else {}
        own = spaces.dims[op.values].get(value)
        yield added(spaces.without_bos({own: 1.0}) if own is not None else {}, there), {dim: 1.0}


# -- neurons -------------------------------------------------------------------------------------------------------


def neurons(op: Op, spaces: Subspaces) -> list[Neuron]:
    """The neurons that compute a map; none of them is active at BOS."""
    if isinstance(op, LinearSequenceMap):
        found = _linear(op, spaces)
    elif isinstance(op, Map):
        found = _of_one(op, op.x, op.f, spaces, {})
    else:
        assert isinstance(op, SequenceMap)
        found = _of_two(op, spaces)
    return [_silent_at_bos(neuron, spaces) for neuron in found if neuron.writes]


def _silent_at_bos(neuron: Neuron, spaces: Subspaces) -> Neuron:
    there = sum(weight * spaces.at_bos.get(dim, 0.0) for dim, weight in neuron.reads.items())
    return Neuron(spaces.without_bos(neuron.reads), neuron.writes) if there > 0 else neuron


def _of_one(op: Op, x: Op, f: Callable[[Any], Any], spaces: Subspaces, only_if: Weights) -> Iterator[Neuron]:
    """``f(x)``, at positions where the ``only_if`` dimension is 1 (anywhere, if there is none)."""
    if x.numerical:
        yield from _staircase(op, x, f, spaces, only_if)
        return
    both = {spaces.one: -1.0} if only_if else {}
    for value, dim in spaces.dims[x].items():
        yield Neuron(added({dim: 1.0}, only_if, both), spaces.encoded(op, f(value)))


def _of_two(op: SequenceMap, spaces: Subspaces) -> Iterator[Neuron]:
    flipped = op.x.numerical
    gate, other = (op.y, op.x) if flipped else (op.x, op.y)
    for value, dim in spaces.dims[gate].items():
        if gate is other:
            yield Neuron({dim: 1.0}, spaces.encoded(op, op.f(value, value)))
            continue
        given = partial(_swapped, op.f, value) if flipped else partial(op.f, value)
        yield from _of_one(op, other, given, spaces, {dim: 1.0})


def _swapped(f: Callable[[Any, Any], Any], second: Any, first: Any) -> Any:
    return f(first, second)


def _staircase(op: Op, x: Op, f: Callable[[Any], Any], spaces: Subspaces, only_if: Weights) -> Iterator[Neuron]:
    numbers: Sequence[Any] = spaces.domains.of(x)
    (dim,) = spaces.dims[x].values()
    levels = [spaces.encoded(op, f(number)) for number in numbers]
    yield Neuron(only_if or {spaces.one: 1.0}, levels[0])
    span = float(numbers[-1] - numbers[0])
    for place in range(len(numbers) - 1):
        rise = added(levels[place + 1], scaled(levels[place], -1.0))
        middle = float(numbers[place] + numbers[place + 1]) / 2
        slope = 2 / float(numbers[place + 1] - numbers[place])
        # Where the gate is closed, more is taken off than the staircase can ever reach.
        shut = slope * span + 1 if only_if else 0.0
        for sign in (1.0, -1.0):
            threshold = {spaces.one: sign / 2 - slope * middle - shut}
            yield Neuron(added({dim: slope}, threshold, scaled(only_if, shut)), scaled(rise, sign))


def _linear(op: LinearSequenceMap, spaces: Subspaces) -> Iterator[Neuron]:
    """A number of either sign is the difference of two neurons."""
    reads = added(_number(op.x, float(op.a), spaces), _number(op.y, float(op.b), spaces))
    (dim,) = spaces.dims[op].values()
    low, high = spaces.domains.bounds(op)
    if high > 0:
        yield Neuron(reads, {dim: 1.0})
    if low < 0:
        yield Neuron(scaled(reads, -1.0), {dim: -1.0})


def _number(x: Op, factor: float, spaces: Subspaces) -> Weights:
    spaces.domains.bounds(x)  # raises for values that are no numbers
    return {dim: factor * (1.0 if x.numerical else float(value)) for value, dim in spaces.dims[x].items()}
