"""Batches in a shuffled order from pieces that are too many for memory.

1. The pieces (shards, or forward passes) of an epoch are put in an order drawn from the seed.
2. So many of them at a time are read together, and all their rows are mixed.
3. The mixed rows of all groups, one behind the other, are cut into batches.

A batch is a uniform sample of its group, not of the whole set. Two rows of one piece meet in one batch more often
than they would in a perfect shuffle by the factor N / (rows of a group); with every piece in the group the shuffle is
perfect. The order depends on the seed and the numbers of rows only, so that a run can go on at any batch without
reading what came before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from cutaway.bases.activations.source import Rows
from cutaway.errors import BadInput

_Pair = tuple[Tensor, Tensor]
#: Gives the rows of one piece; both entries are the same object where one site is read and written.
Load = Callable[[int], Rows]


def shuffled(counts: Sequence[int], load: Load, size: int, *, together: int, seed: int, start: int) -> Iterator[Rows]:
    """Float32 batches without end; ``counts`` are the rows of each piece, ``together`` pieces are mixed at a time.

    What is left at the end of an epoch and fills no batch is left out; the first ``start`` batches are never read.
    """
    if size < 1 or not sum(counts):
        raise BadInput(f"Batches of {size} of {sum(counts)} rows were asked for; ask for at least 1 and give rows.")
    size = min(size, sum(counts))
    epoch, skip = divmod(start, sum(counts) // size)
    while True:
        yield from _epoch(counts, load, size, together, seed * 1_000_003 + epoch, skip * size)
        epoch, skip = epoch + 1, 0


def _epoch(counts: Sequence[int], load: Load, size: int, together: int, seed: int, leave: int) -> Iterator[Rows]:
    rng = torch.Generator().manual_seed(seed)
    groups = torch.randperm(len(counts), generator=rng).split(together)
    seeds = torch.randint(2**62, (len(groups),), generator=rng).tolist()
    rest: _Pair | None = None
    for group, group_seed in zip(groups, seeds):
        pieces = group.tolist()
        rows = sum(counts[piece] for piece in pieces)
        if leave >= rows:
            leave -= rows
            continue
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(group_seed))[leave:]
        leave = 0
        for part in _parts(_joined(pieces, counts, load), order, rest, size):
            if len(part[0]) == size:
                yield part
            rest = part if len(part[0]) < size else None


def _parts(group: _Pair, order: Tensor, rest: _Pair | None, size: int) -> Iterator[_Pair]:
    """The rows of a group in their order, in batches; the first is filled up behind what ``rest`` begins."""
    x, y = group
    at = 0
    while at < len(order):
        taken = order[at : at + size - (0 if rest is None else len(rest[0]))]
        part_x = _behind(rest and rest[0], x[taken].float())
        yield part_x, part_x if y is x else _behind(rest and rest[1], y[taken].float())
        rest, at = None, at + len(taken)


def _behind(first: Tensor | None, second: Tensor) -> Tensor:
    return second if first is None else torch.cat([first, second])


def _joined(pieces: Sequence[int], counts: Sequence[int], load: Load) -> Rows:
    """The rows of all pieces in one tensor each, in the type in which they are stored; one piece is held at a time."""
    first = load(pieces[0])
    if len(pieces) == 1:
        return first
    same = first[0] is first[1]
    total = sum(counts[piece] for piece in pieces)
    joined = [part.new_empty(total, part.shape[1]) for part in first[: 1 if same else 2]]
    at = 0
    for piece in pieces:
        rows = first if piece == pieces[0] else load(piece)
        for target, part in zip(joined, rows):
            target[at : at + counts[piece]] = part
        at += counts[piece]
    return joined[0], joined[0] if same else joined[1]
