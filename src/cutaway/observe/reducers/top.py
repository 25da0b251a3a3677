"""The stimuli that excite every unit most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.observe import ids as id_tables
from cutaway.observe.positions import unit_major
from cutaway.observe.reducers.base import Accumulator, Example, State
from cutaway.registry import REDUCERS


@dataclass(frozen=True, eq=False)
class TopExamples:
    """The strongest activations of each unit, the strongest first, at most one of each stimulus.

    A row with fewer than k examples is filled with -inf (and the index -1 for stimulus and place).
    """

    values: Float[np.ndarray, "unit k"]
    stimuli: Int[np.ndarray, "unit k"]  # indices into ids
    places: Int[np.ndarray, "unit k"]
    ids: tuple[str, ...]

    def examples(self, unit: int) -> list[Example]:
        """The examples of one unit, the strongest first."""
        rows = zip(self.stimuli[unit], self.places[unit], self.values[unit])
        return [Example(self.ids[stim], int(place), float(value)) for stim, place, value in rows if stim >= 0]


class _Table(NamedTuple):
    ids: tuple[str, ...]
    values: np.ndarray  # [unit k] float32
    stimuli: np.ndarray  # [unit k] int32, indices into ids
    places: np.ndarray  # [unit k] int32


@REDUCERS.register("top")
class Top(Accumulator[_Table]):
    """Keeps the k strongest stimuli of each unit, each with its strongest position. Equals go by id."""

    def __init__(self, *, k: int = 16) -> None:
        if k < 1:
            raise BadInput(f"The top {k} examples were asked for; ask for at least one.")
        super().__init__()
        self._k = k

    def settings(self) -> dict[str, Any]:
        """How many examples each unit keeps."""
        return {"k": self._k}

    def _summary(self, ids: Sequence[str], acts: Tensor, valid: Tensor | None, places: Tensor | None) -> _Table:
        if valid is not None:
            acts = acts.masked_fill(~valid[:, :, None], -torch.inf)
        strongest, index = unit_major(acts).max(2)  # the first of equals
        where = index.int() if places is None else places.to(index.device)[index].int()
        table, (mapping,) = id_tables.union(ids)
        found = strongest.cpu().numpy()
        stimuli = np.where(found > -np.inf, mapping[None], np.int32(-1))
        return self._strongest(table, found, stimuli, where.cpu().numpy())

    def _joined(self, one: _Table, other: _Table) -> _Table:
        table, (own, theirs) = id_tables.union(one.ids, other.ids)
        stimuli = np.concatenate([_renamed(own, one.stimuli), _renamed(theirs, other.stimuli)], 1)
        values, places = (np.concatenate(pair, 1) for pair in ((one.values, other.values), (one.places, other.places)))
        return self._strongest(table, values, stimuli, places)

    def _strongest(self, ids: tuple[str, ...], values: np.ndarray, stimuli: np.ndarray, places: np.ndarray) -> _Table:
        """The k strongest of each row, without ids that nothing names any more."""
        order = np.lexsort((places, stimuli, -values), axis=1)[:, : self._k]
        kept = self._filled(np.take_along_axis(stimuli, order, 1), -1)
        best = self._filled(np.take_along_axis(values, order, 1), -np.inf)
        where = np.where(kept < 0, np.int32(-1), self._filled(np.take_along_axis(places, order, 1), -1))
        table, kept = id_tables.prune(ids, kept)
        return _Table(table, best, kept, where)

    def _filled(self, array: np.ndarray, filler: float | int) -> np.ndarray:
        missing = self._k - array.shape[1]
        return np.pad(array, ((0, 0), (0, missing)), constant_values=filler) if missing else array

    def result(self) -> TopExamples:
        """The examples with their ids."""
        none = np.zeros((0, self._k), np.int32)
        ids, values, stimuli, places = self._content or _Table((), none.astype(np.float32), none, none)
        return TopExamples(values, stimuli, places, ids)

    def _packed(self, content: _Table) -> State:
        arrays = {"values": content.values, "stimuli": content.stimuli, "places": content.places}
        return {name: torch.from_numpy(array) for name, array in arrays.items()} | id_tables.to_arrays(content.ids)

    def _unpacked(self, state: State) -> _Table:
        columns = (state[name].numpy() for name in ("values", "stimuli", "places"))
        return _Table(id_tables.from_arrays(state), *columns)


def _renamed(mapping: np.ndarray, stimuli: np.ndarray) -> np.ndarray:
    """Indices into an old table as indices into a new one; -1 stays."""
    return np.append(mapping, np.int32(-1))[stimuli]
