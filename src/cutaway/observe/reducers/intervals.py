"""Examples of every unit at every level of its activation, not only at the top.

A unit's range is cut into octaves below its largest magnitude, for each sign, and what is nearer to zero than the
last octave. Of each interval a uniform sample of positions is kept by bottom-k hashing (Cohen and Kaplan, PODC 2007):
every (stimulus, place, unit) has a fixed random-looking key, and the positions with the smallest keys stay. So the
sample does not depend on the order of the stream or on how it was cut. For speed, keys are not computed for every
unit: one key for each position is shifted, modulo 2^32, by a random amount for each unit, which leaves the keys of
one unit as independent and uniform as before.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.observe import ids as id_tables
from cutaway.observe.positions import unit_blocks
from cutaway.observe.reducers.base import Accumulator, Example, State
from cutaway.registry import REDUCERS

_MANTISSA, _BIAS = 23, 127
#: How many candidates an interval is expected to yield for each example that it keeps. For 4 examples that is a
#: Poisson count of mean 10, which is below 4 in one of a hundred cases; those are looked at again.
_CANDIDATES = 2.5


@dataclass(frozen=True)
class Interval:
    """Examples of one unit with activations from ``low`` up to ``high``, in a random, fixed order."""

    low: float
    high: float
    examples: tuple[Example, ...]


class Rows(NamedTuple):
    """Examples of all units, one for each index."""

    unit: np.ndarray  # int32
    key: np.ndarray  # uint64: the sampling key
    value: np.ndarray  # float32
    stimulus: np.ndarray  # int32, an index into the table of ids
    place: np.ndarray  # int32

    def take(self, index: np.ndarray) -> "Rows":
        """The rows at these indices or under this mask."""
        return Rows(*(column[index] for column in self))


_EMPTY = Rows(*(np.zeros(0, kind) for kind in (np.int32, np.uint64, np.float32, np.int32, np.int32)))


@dataclass(frozen=True, eq=False)
class IntervalExamples:
    """A uniform sample of positions from each interval of each unit's range."""

    rows: Rows
    ids: tuple[str, ...]
    octaves: int

    def intervals(self, unit: int) -> list[Interval]:
        """The intervals of one unit that hold anything, from the highest to the lowest."""
        own = self.rows.take(self.rows.unit == unit)
        if not len(own.unit):
            return []
        cells, top = _cells(own, self.octaves)
        bounds = {cell: _bounds(int(cell), int(top[0]), self.octaves) for cell in np.unique(cells)}
        merged: dict[tuple[float, float], list[Example]] = {}
        for cell, _, _, value, stimulus, place in zip(cells, *own):
            merged.setdefault(bounds[cell], []).append(Example(self.ids[stimulus], int(place), float(value)))
        return [Interval(low, high, tuple(merged[low, high])) for low, high in sorted(merged, reverse=True)]


class _Sample(NamedTuple):
    ids: tuple[str, ...]
    rows: Rows


@REDUCERS.register("intervals")
class Intervals(Accumulator[_Sample]):
    """Keeps ``per_interval`` positions from each of ``octaves`` intervals of both signs, and from those near zero."""

    def __init__(self, *, per_interval: int = 4, octaves: int = 8, seed: int = 0) -> None:
        if per_interval < 1 or not 1 <= octaves <= 64:
            raise BadInput(
                f"{per_interval} examples in each of {octaves} octaves were asked for; ask for at least one example "
                "and 1 to 64 octaves."
            )
        super().__init__()
        self._per_interval, self._octaves, self._seed = per_interval, octaves, seed

    def settings(self) -> dict[str, Any]:
        """The size of the sample and the seed of its keys."""
        return {"per_interval": self._per_interval, "octaves": self._octaves, "seed": self._seed}

    def _summary(self, ids: Sequence[str], acts: Tensor, valid: Tensor | None, places: Tensor | None) -> _Sample:
        codes = np.arange(acts.shape[1], dtype=np.int32) if places is None else places.cpu().numpy()
        real = np.ones(acts.shape[:2], bool) if valid is None else valid.cpu().numpy()
        stimulus, position = np.nonzero(real)
        positions = _Positions(stimulus.astype(np.int32), codes[position], ids, self._seed, acts.shape[2])
        # Adding 0 turns -0 into 0, which has no sign.
        blocks = (self._candidates(first, rows + 0.0, positions) for first, rows in unit_blocks(acts, valid))
        rows = Rows(*(np.concatenate(columns) for columns in zip(*blocks)))
        table, (mapping,) = id_tables.union(ids)
        return self._sampled(table, rows._replace(stimulus=mapping[rows.stimulus]))

    def _candidates(self, first: int, values: Float[Tensor, "unit row"], positions: "_Positions") -> Rows:
        """A small superset of the rows that these units, beginning with the first, contribute."""
        cells, order = self._batch_cells(values), positions.order(first, len(values), values.device)
        index = _smallest_of_cells(order, cells, len(values) * 2 * (self._octaves + 1), self._per_interval)
        value = values.flatten()[index].cpu().numpy()
        unit, row = np.divmod(index.cpu().numpy(), values.shape[1])
        unit += first
        key = _unit_keys(positions.keys[row], positions.shifts[unit])
        return Rows(unit.astype(np.int32), key, value, positions.stimuli[row], positions.codes[row])

    def _batch_cells(self, values: Float[Tensor, "unit row"]) -> Int[Tensor, "unit row"]:
        """Unit and interval of every value, as one number (int32); intervals are counted from this batch's top."""
        bits = values.view(torch.int32)
        exponent = (bits >> _MANTISSA).bitwise_and_(0xFF)
        # Zero has the exponent 0, and must stay near zero for a unit that is never anything else.
        top = exponent.amax(1, keepdim=True).clamp_(min=self._octaves)
        cells = torch.sub(top, exponent, out=exponent).clamp_(max=self._octaves)
        # The sign bit, shifted down, is 0 or -1.
        cells.sub_(bits >> 31, alpha=self._octaves + 1)
        units = torch.arange(len(values), dtype=torch.int32, device=values.device)
        return cells.add_(units[:, None] * 2 * (self._octaves + 1))

    def _joined(self, one: _Sample, other: _Sample) -> _Sample:
        table, (own, theirs) = id_tables.union(one.ids, other.ids)
        ours = one.rows._replace(stimulus=own[one.rows.stimulus])
        rows = other.rows._replace(stimulus=theirs[other.rows.stimulus])
        return self._sampled(table, Rows(*(np.concatenate(columns) for columns in zip(ours, rows))))

    def _sampled(self, ids: tuple[str, ...], rows: Rows) -> _Sample:
        """The rows that stay, and the ids that they name."""
        kept = _sample(rows, self._octaves, self._per_interval)
        table, stimulus = id_tables.prune(ids, kept.stimulus)
        return _Sample(table, kept._replace(stimulus=stimulus))

    def result(self) -> IntervalExamples:
        """The sample with its ids."""
        ids, rows = self._content or _Sample((), _EMPTY)
        return IntervalExamples(rows, ids, self._octaves)

    def _packed(self, content: _Sample) -> State:
        """The five columns of the rows (keys as int64) and the table of ids."""
        columns = content.rows._replace(key=content.rows.key.view(np.int64))._asdict()
        arrays = {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()}
        return arrays | id_tables.to_arrays(content.ids)

    def _unpacked(self, state: State) -> _Sample:
        rows = Rows(*(state[name].numpy() for name in Rows._fields))
        return _Sample(id_tables.from_arrays(state), rows._replace(key=rows.key.view(np.uint64)))


# -- intervals -----------------------------------------------------------------------------------------------


def _cells(rows: Rows, octaves: int) -> tuple[np.ndarray, np.ndarray]:
    """The interval of each row, counted from the top octave of its unit, and that top octave (biased exponent)."""
    bits = rows.value.view(np.int32)
    exponent = (bits >> _MANTISSA) & 0xFF
    top = np.full(int(rows.unit.max()) + 1 if len(rows.unit) else 0, octaves, np.int32)
    np.maximum.at(top, rows.unit, exponent)
    own_top = top[rows.unit]
    return np.minimum(own_top - exponent, octaves) + (octaves + 1) * (bits < 0), own_top


def _bounds(cell: int, top: int, octaves: int) -> tuple[float, float]:
    """The lowest and highest value of an interval; both intervals near zero are one for the reader."""
    negative, step = divmod(cell, octaves + 1)
    if step == octaves:
        edge = 2.0 ** (top - octaves + 1 - _BIAS)
        return -edge, edge
    low, high = 2.0 ** (top - step - _BIAS), 2.0 ** (top - step + 1 - _BIAS)
    return (-high, -low) if negative else (low, high)


def _sample(rows: Rows, octaves: int, per_interval: int) -> Rows:
    """The rows with the smallest keys of each unit and interval, in a canonical order."""
    cells, _ = _cells(rows, octaves)
    cells = cells + rows.unit.astype(np.int64) * 2 * (octaves + 1)
    # A sort of one number for each row finds the few that a full comparison has to look at.
    coarse = (cells << 32) | (rows.key >> np.uint64(32)).astype(np.int64)
    order = np.argsort(coarse)
    coarse, runs = coarse[order], cells[order]
    near = order[_rank_in_runs(runs, ties=coarse) < per_interval]
    if np.any(coarse[1:] == coarse[:-1]):
        near = near[np.lexsort((rows.place[near], rows.stimulus[near], rows.key[near], cells[near]))]
        near = near[_rank_in_runs(cells[near]) < per_interval]
    return rows.take(near)


def _rank_in_runs(runs: np.ndarray, ties: np.ndarray | None = None) -> np.ndarray:
    """The rank of each element in its run of equal numbers; equals in ``ties`` (sorted) share the lowest rank."""
    ranks = np.arange(len(runs)) - _start_of_run(runs)
    return ranks if ties is None else ranks[_start_of_run(ties)]


def _start_of_run(runs: np.ndarray) -> np.ndarray:
    starts = np.flatnonzero(np.concatenate([np.ones(min(len(runs), 1), bool), runs[1:] != runs[:-1]]))
    return np.repeat(starts, np.diff(starts, append=len(runs)))


# -- keys ----------------------------------------------------------------------------------------------------


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea, Flood: OOPSLA 2014): a bijection that looks random."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _stimulus_hash(stimulus: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\n{stimulus}".encode(), digest_size=8).digest(), "little")


class _Positions:
    """The real positions of a batch with their sampling keys, the same whatever batch a stimulus is in."""

    def __init__(self, stimuli: np.ndarray, codes: np.ndarray, ids: Sequence[str], seed: int, units: int) -> None:
        self.stimuli, self.codes = stimuli, codes
        hashes = np.array([_stimulus_hash(name, seed) for name in ids], np.uint64)[stimuli]
        self.keys = _mixed(hashes + codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        self.shifts = _unit_shifts(units, seed)

    def order(self, first: int, units: int, device: torch.device) -> Int[Tensor, "unit row"]:
        """The upper half of each unit's keys as int32, in the order of unsigned numbers."""
        high = (self.keys >> np.uint64(32)).astype(np.uint32)
        # Adding 2^31 (here to the shifts) makes signed comparison order keys as unsigned numbers.
        shifts = self.shifts[first : first + units] + np.uint32(1 << 31)
        as_signed = [torch.from_numpy(array.view(np.int32)).to(device) for array in (shifts, high)]
        return as_signed[0][:, None] + as_signed[1]


def _unit_shifts(units: int, seed: int) -> np.ndarray:
    """A random shift for each unit (uint32)."""
    start = np.uint64(_stimulus_hash("unit", seed))
    steps = np.arange(1, units + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mixed(steps + start) >> np.uint64(32)).astype(np.uint32)


def _unit_keys(keys: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """The key of a position for one unit: its upper half is shifted modulo 2^32."""
    high = (keys >> np.uint64(32)).astype(np.uint32) + shifts
    return (high.astype(np.uint64) << np.uint64(32)) | (keys & np.uint64(0xFFFFFFFF))


def _smallest_of_cells(order: Tensor, cells: Tensor, count: int, keep: int) -> Int[Tensor, " candidate"]:
    """Flat indices of a few values of each cell that include the ``keep`` smallest by ``order``.

    Keys are uniform, so the smallest lie below a bound that each cell's size predicts. Cells that yield fewer than
    they must are looked at again with a higher bound.
    """
    order, cells = order.flatten(), cells.flatten()
    sizes = torch.bincount(cells, minlength=count)
    wanted, found = sizes.clamp(max=keep), []
    factor = _CANDIDATES
    while bool(wanted.any()):
        share = (factor * keep / sizes.clamp(min=1)).clamp(max=1.0).double()
        share[wanted == 0] = 0.0  # below every key
        bounds = (share * 2.0**32 - 2.0**31 - 1).floor().clamp(min=-(2.0**31)).to(torch.int32)
        index = (order <= bounds.index_select(0, cells)).nonzero()[:, 0]
        enough = torch.bincount(cells[index], minlength=count) >= wanted
        found.append(index[enough[cells[index]]])
        wanted = torch.where(enough, 0, wanted)
        factor *= 4
    return torch.cat(found)
