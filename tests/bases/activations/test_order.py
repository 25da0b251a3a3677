"""Shuffled batches: every row once in an epoch, the same from any place on, mixed over whole groups."""

from itertools import chain, islice

import pytest
import torch
from torch import Tensor

from cutaway.bases.activations.order import shuffled
from cutaway.errors import BadInput

COUNTS = [5, 7, 4, 6, 5]


def rows(place: int) -> tuple[Tensor, Tensor]:
    first = sum(COUNTS[:place])
    x = torch.arange(first, first + COUNTS[place]).half()[:, None]
    return x, -x


def drawn(size: int, count: int, **options: int) -> list[list[float]]:
    settings = {"together": 2, "seed": 0, "start": 0} | options
    return [x.flatten().tolist() for x, _ in islice(shuffled(COUNTS, rows, size, **settings), count)]


@pytest.mark.parametrize("together", [1, 2, 5, 9])
@pytest.mark.parametrize("size", [1, 4, 9])
def test_an_epoch_has_every_row_once_and_the_next_another_order(together: int, size: int) -> None:
    each = sum(COUNTS) // size
    batches = drawn(size, 2 * each, together=together)
    epochs = [list(chain(*batches[:each])), list(chain(*batches[each:]))]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == each * size
        assert set(epoch) <= set(range(27))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("start", [0, 1, 5, 6, 8, 20])
def test_going_on_is_as_if_never_stopped(start: int) -> None:
    assert drawn(4, 5, start=start) == drawn(4, 30)[start : start + 5]


def test_what_comes_before_the_start_is_not_read() -> None:
    opened: list[int] = []

    def noted(place: int) -> tuple[Tensor, Tensor]:
        opened.append(place)
        return rows(place)

    next(shuffled(COUNTS, noted, 4, together=1, seed=0, start=5))
    assert len(opened) <= 2
    assert len(set(drawn(27, 1)[0])) == 27


def test_batches_of_nothing_are_refused() -> None:
    for counts, size in ((COUNTS, 0), ([], 4)):
        with pytest.raises(BadInput, match="at least 1"):
            next(shuffled(counts, rows, size, together=1, seed=0, start=0))


def test_both_sides_stay_paired_and_are_float32() -> None:
    for x, y in islice(shuffled(COUNTS, rows, 4, together=3, seed=1, start=0), 12):
        assert torch.equal(x, -y)
        assert x.dtype == y.dtype == torch.float32


def test_the_seed_decides() -> None:
    assert drawn(4, 6, seed=1) == drawn(4, 6, seed=1) != drawn(4, 6, seed=2)


def test_rows_of_one_piece_meet_as_often_as_said() -> None:
    """Pairs of one piece in a batch, against a perfect shuffle: the factor is rows of all / rows of a group."""
    counts, size = [50] * 16, 40

    def met(together: int) -> float:
        pairs = 0
        for x, _ in islice(shuffled(counts, lambda place: (torch.full((50, 1), float(place)), torch.zeros(50, 1)), size,
                                    together=together, seed=0, start=0), 200):  # fmt: skip
            each = torch.bincount(x.flatten().long())
            pairs += int((each * (each - 1)).sum())
        return pairs / 200

    perfect = size * (size - 1) * 49 / 799
    assert met(16) == pytest.approx(perfect, rel=0.06)
    assert met(4) == pytest.approx(perfect * 4 * (799 / 800), rel=0.12)
