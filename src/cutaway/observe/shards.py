"""The reduced state of a run of batches as the arrays of one file, and merging such files."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from cutaway.atlas import Atlas, ShardRecord
from cutaway.errors import DamagedArray
from cutaway.observe.observation import restored
from cutaway.observe.reducers import Reducer, State

#: A site and the name of a reducer that watches it.
Pair = tuple[str, str]
#: How many shards of one size make one of the next: disk and merging grow with the logarithm of the stream.
FAN_IN = 16


def to_arrays(reducers: Mapping[Pair, Reducer]) -> State:
    """All states in one dictionary; an array without a name marks each pair, so that an empty state is told apart."""
    arrays: State = {}
    for (site, name), reducer in reducers.items():
        arrays[f"{site}|{name}|"] = torch.ones(1, dtype=torch.uint8)
        arrays |= {f"{site}|{name}|{key}": value for key, value in reducer.state().items()}
    return arrays


def merged(atlas: Atlas, shards: Sequence[ShardRecord], prototypes: Mapping[Pair, Reducer]) -> dict[Pair, Reducer]:
    """The shards merged in their order, one in memory at a time; :class:`Damaged` says which one cannot be used."""
    total = {pair: reducer.fresh() for pair, reducer in prototypes.items()}
    for shard in shards:
        try:
            states = _by_pair(atlas.get_arrays(shard.array_hash))
            for pair, reducer in prototypes.items():
                if pair not in states:
                    raise DamagedArray(f"Array file {atlas.array_path(shard.array_hash)} holds nothing of {pair}.")
                total[pair].merge(restored(atlas, reducer, states[pair], shard.array_hash))
        except DamagedArray as error:
            raise Damaged(shard, str(error)) from error
    return total


class Damaged(Exception):
    """A shard that cannot be used; caught by whoever merges, never shown."""

    def __init__(self, shard: ShardRecord, reason: str) -> None:
        super().__init__(reason)
        self.shard = shard


def _by_pair(arrays: Mapping[str, Tensor]) -> dict[Pair, State]:
    states: dict[Pair, State] = {}
    for full_name, array in arrays.items():
        site, reducer, name = [*full_name.split("|"), "", ""][:3]
        state = states.setdefault((site, reducer), {})
        if name:
            state[name] = array
    return states


def full_group(shards: Iterable[ShardRecord]) -> list[ShardRecord] | None:
    """The smallest group of shards that can become one: neighbours of one size that begin at a multiple of 16.

    Groups are fixed by the batch numbers, so that shards are always merged in the same tree, whoever computes them
    and however often they were interrupted.
    """
    groups: dict[tuple[int, int], list[ShardRecord]] = {}
    for shard in shards:
        key = (shard.batch_count, shard.first_batch // (FAN_IN * shard.batch_count))
        groups.setdefault(key, []).append(shard)
    full = [key for key, group in groups.items() if len(group) == FAN_IN]
    return sorted(groups[min(full)], key=lambda shard: shard.first_batch) if full else None


def combined(shards: Sequence[ShardRecord]) -> ShardRecord:
    """The row of the shard that takes the place of these."""
    first = shards[0]
    return ShardRecord(
        observation_id=first.observation_id,
        first_batch=first.first_batch,
        batch_count=sum(shard.batch_count for shard in shards),
        seen=sum(shard.seen for shard in shards),
        skipped=sum(shard.skipped for shard in shards),
        provenance=first.provenance,
    )
