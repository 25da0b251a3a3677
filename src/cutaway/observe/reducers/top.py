"""The stimuli that excite every unit most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.observe import ids as id_tables
from cutaway.observe.positions import unit_major
from cutaway.observe.reducers.base import Example, State
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


@REDUCERS.register("top")
class Top:
    """Keeps the k strongest stimuli of each unit, each with its strongest position. Equals go by id."""

    def __init__(self, *, k: int = 16) -> None:
        if k < 1:
            raise BadInput(f"The top {k} examples were asked for; ask for at least one.")
        self._k = k
        self._ids: tuple[str, ...] = ()
        self._values = np.zeros((0, k), np.float32)
        self._stimuli = np.zeros((0, k), np.int32)
        self._places = np.zeros((0, k), np.int32)

    def settings(self) -> dict[str, Any]:
        """How many examples each unit keeps."""
        return {"k": self._k}

    def fresh(self) -> "Top":
        """An empty reducer of the same size."""
        return Top(k=self._k)

    def update(
        self,
        batch_ids: Sequence[str],
        acts: Float[Tensor, "batch pos unit"],
        valid: Bool[Tensor, "batch pos"] | None = None,
        places: Int[Tensor, " pos"] | None = None,
    ) -> None:
        """Takes in a batch."""
        if not acts.numel():
            return
        if valid is not None:
            acts = acts.masked_fill(~valid[:, :, None], -torch.inf)
        strongest, index = unit_major(acts).max(2)  # the first of equals
        where = index.int() if places is None else places.to(index.device)[index].int()
        stimuli = np.arange(len(acts), dtype=np.int32)[None].repeat(acts.shape[2], 0)
        found = strongest.cpu().numpy()
        self._absorb(tuple(batch_ids), found, np.where(found > -np.inf, stimuli, -1), where.cpu().numpy())

    def merge(self, other: "Top") -> None:
        """Takes in another's examples."""
        self._absorb(other._ids, other._values, other._stimuli, other._places)

    def _absorb(self, ids: tuple[str, ...], values: np.ndarray, stimuli: np.ndarray, places: np.ndarray) -> None:
        if not len(values):
            return
        table, (own, theirs) = id_tables.union(self._ids, ids)
        if not len(self._values):
            empty = (len(values), 0)
            self._values, self._stimuli, self._places = values[:, :0], stimuli[:, :0], places[:, :0]
            own_stimuli = np.zeros(empty, np.int32)
        else:
            own_stimuli = _renamed(own, self._stimuli)
        all_values = np.concatenate([self._values, values], 1)
        all_stimuli = np.concatenate([own_stimuli, _renamed(theirs, stimuli)], 1)
        all_places = np.concatenate([self._places, places], 1)
        order = np.lexsort((all_places, all_stimuli, -all_values), axis=1)[:, : self._k]
        self._values = self._filled(np.take_along_axis(all_values, order, 1), -np.inf)
        self._places = self._filled(np.take_along_axis(all_places, order, 1), -1)
        kept = self._filled(np.take_along_axis(all_stimuli, order, 1), -1)
        self._places[kept < 0] = -1
        self._ids, self._stimuli = id_tables.prune(table, kept)

    def _filled(self, array: np.ndarray, filler: float | int) -> np.ndarray:
        missing = self._k - array.shape[1]
        return np.pad(array, ((0, 0), (0, missing)), constant_values=filler) if missing else array

    def result(self) -> TopExamples:
        """The examples with their ids."""
        return TopExamples(self._values, self._stimuli, self._places, self._ids)

    def state(self) -> State:
        """Values, stimuli and places [unit k], and the table of ids."""
        if not len(self._values):
            return {}
        arrays = {"values": self._values, "stimuli": self._stimuli, "places": self._places}
        return {name: torch.from_numpy(array) for name, array in arrays.items()} | id_tables.to_arrays(self._ids)

    def restored(self, state: State) -> "Top":
        """A reducer with that state."""
        new = self.fresh()
        if state:
            new._ids = id_tables.from_arrays(state)
            new._values, new._stimuli = state["values"].numpy(), state["stimuli"].numpy()
            new._places = state["places"].numpy()
        return new


def _renamed(mapping: np.ndarray, stimuli: np.ndarray) -> np.ndarray:
    """Indices into an old table as indices into a new one; -1 stays."""
    return np.append(mapping, np.int32(-1))[stimuli]
