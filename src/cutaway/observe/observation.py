"""A finished observation: what it was of, and its results, read from the atlas when they are asked for."""

from dataclasses import dataclass, field
from typing import Any

from cutaway.atlas import Atlas, ObservationRecord, ResultRecord
from cutaway.errors import DamagedArray, UnknownName
from cutaway.observe.reducers import Reducer, State
from cutaway.registry import REDUCERS

#: What a reducer raises for arrays that are not a state of its own.
NOT_A_STATE = (KeyError, IndexError, ValueError, TypeError, RuntimeError)


@dataclass(frozen=True, eq=False)
class Observation:
    """What the units of some sites did on a set of stimuli.

    ``seen`` and ``skipped`` count the stimuli of the set that could be used and that could not. ``batches_run``
    counts the batches of forward passes that this very call made (0: everything was there), and ``recomputed``
    names the files that were damaged and have been made again.
    """

    id: str
    network_fingerprint: str
    stimulus_set_fingerprint: str
    sites: tuple[str, ...]
    reducers: tuple[str, ...]
    seed: int
    seen: int
    skipped: int
    atlas: Atlas = field(repr=False)
    batches_run: int = 0
    recomputed: tuple[str, ...] = ()

    def result(self, site: str, reducer: str) -> Any:
        """What a reducer says of a site: ``result("conv3_3", "top")`` is a :class:`TopExamples`, and so on.

        A file that was damaged since raises :class:`DamagedArray`; observing again repairs it.
        """
        if site not in self.sites:
            raise UnknownName("observed site", site, self.sites)
        if reducer not in self.reducers:
            raise UnknownName("reducer of this observation", reducer, self.reducers)
        record = self.atlas.observations.get(self.id)
        results = self.atlas.observations.results(self.id)
        found = [row for row in results if (row.site, row.reducer) == (site, reducer)]
        if record is None or not found:
            raise DamagedArray(f"The result {reducer} of {site} is not in {self.atlas!r} any more; observe it again.")
        return restored_result(self.atlas, record, found[0]).result()


def observation_of(atlas: Atlas, record: ObservationRecord, **this_call: Any) -> Observation:
    """The observation that a row of the atlas describes."""
    return Observation(
        id=record.id,
        network_fingerprint=record.provenance.network_fingerprint,
        stimulus_set_fingerprint=record.provenance.stimulus_set_fingerprint,
        sites=tuple(record.sites),
        reducers=tuple(record.settings),
        seed=record.provenance.seed,
        seen=record.seen,
        skipped=record.skipped,
        atlas=atlas,
        **this_call,
    )


def stored_observations(atlas: Atlas, *, site: str | None = None) -> list[Observation]:
    """The finished observations of an atlas, or those that have a site, the oldest first; runs nothing."""
    records = [record for record in atlas.observations.all() if record.status == "done"]
    return [observation_of(atlas, record) for record in records if site is None or site in record.sites]


def restored_result(atlas: Atlas, record: ObservationRecord, result: ResultRecord) -> Reducer:
    """The reducer that holds a stored result; :class:`DamagedArray` if its file cannot be used."""
    prototype: Reducer = REDUCERS[result.reducer](**record.settings[result.reducer])
    return restored(atlas, prototype, atlas.get_arrays(result.array_hash), result.array_hash)


def restored(atlas: Atlas, prototype: Reducer, state: State, array_hash: str) -> Reducer:
    """A reducer with a state that came from a file; arrays that are no such state make the file a damaged one."""
    try:
        return prototype.restored(state)
    except NOT_A_STATE as error:
        raise DamagedArray(
            f"Array file {atlas.array_path(array_hash)} was asked for and holds no state of "
            f"{type(prototype).__name__} ({error}); observe again to recompute it."
        ) from error
