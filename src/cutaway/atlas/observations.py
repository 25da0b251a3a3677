"""The log of observations: which batches are reduced, by which shards, and what the finished ones gave.

A shard holds the reduced state of a run of batches. Shards of one observation never overlap: whoever would add what
is covered already is told so and adds nothing. All methods are safe while other processes use the same atlas.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from torch import Tensor

from cutaway.atlas import schema
from cutaway.atlas.arrays import ArrayStore, pack
from cutaway.atlas.database import Database, insert_new, insert_or_replace, select_records
from cutaway.atlas.records import (
    ObservationRecord,
    ResultRecord,
    ShardRecord,
    package_version,
    to_row,
    utc_now,
)

#: For how long a process keeps others from computing the same batch. A claim only postpones: nobody waits for it.
CLAIM_SECONDS = 120

Arrays = Mapping[str, Tensor | np.ndarray]


class ObservationLog:
    """Observations, their shards while they run, and their results once they are done."""

    def __init__(self, database: Database, arrays: ArrayStore) -> None:
        self._database, self._arrays = database, arrays

    # -- observations ----------------------------------------------------------------------------------------

    def begin(self, record: ObservationRecord) -> ObservationRecord:
        """Enters an observation, or returns the one that is there under the same id."""
        with self._database.write() as connection:
            insert_new(connection, schema.observations, [to_row(record)])
        return self.get(record.id) or record

    def get(self, observation_id: str) -> ObservationRecord | None:
        """The observation of that id, None if there is none."""
        table = schema.observations
        with self._database.read() as connection:
            found = select_records(connection, ObservationRecord, table, table.c.id == observation_id)
        return found[0] if found else None

    def all(self) -> list[ObservationRecord]:
        """All observations, the oldest first."""
        table = schema.observations
        with self._database.read() as connection:
            return select_records(connection, ObservationRecord, table, order=(table.c.created_utc, table.c.id))

    # -- shards ----------------------------------------------------------------------------------------------

    def shards(self, observation_id: str) -> list[ShardRecord]:
        """The shards of an observation, in the order of their batches."""
        table = schema.shards
        with self._database.read() as connection:
            where = table.c.observation_id == observation_id
            return select_records(connection, ShardRecord, table, where, order=table.c.first_batch)

    def wants(self, observation_id: str, batch: int) -> bool:
        """True if the observation is running and no shard covers this batch."""
        with self._database.read() as connection:
            return _wanted(connection, observation_id, batch, batch + 1)

    def claim(self, observation_id: str, batch: int, owner: str) -> bool:
        """Says that ``owner`` computes this batch now.

        False if another one said so a short time ago, or if the batch is not wanted any more.
        """
        now = int(time.time())
        table = schema.claims
        key = {"observation_id": observation_id, "batch": batch}
        this = sa.and_(*(table.c[name] == value for name, value in key.items()))
        with self._database.write() as connection:
            if not _wanted(connection, observation_id, batch, batch + 1):
                return False
            ours = sa.or_(table.c.owner == owner, table.c.expires_unix < now)
            connection.execute(sa.delete(table).where(this, ours))
            row = key | {"owner": owner, "expires_unix": now + CLAIM_SECONDS} | _stamp(connection, observation_id)
            return insert_new(connection, table, [row]) == 1

    def add_shard(self, shard: ShardRecord, arrays: Arrays) -> bool:
        """Stores a shard with its arrays; False (and nothing stored) if one of its batches is covered already."""
        packed = pack(arrays)
        with self._database.write() as connection:
            if not _wanted(connection, shard.observation_id, shard.first_batch, shard.end):
                return False
            # Inside the transaction, so that nobody's clean-up can come between the file and its row.
            self._arrays.put(packed)
            row = to_row(shard) | {"array_hash": packed.hash}
            insert_new(connection, schema.shards, [row])
            _delete_claims(connection, shard.observation_id, shard.first_batch, shard.end)
        return True

    def replace_shards(self, parts: Sequence[ShardRecord], shard: ShardRecord, arrays: Arrays) -> bool:
        """Puts one merged shard in the place of its parts; False if another process has changed them."""
        packed = pack(arrays)
        hashes = {part.array_hash for part in parts}
        with self._database.write() as connection:
            found = connection.execute(_overlapping(shard.observation_id, shard.first_batch, shard.end)).all()
            if sorted(row.array_hash for row in found) != sorted(part.array_hash for part in parts):
                return False
            self._arrays.put(packed)
            connection.execute(_remove_shards(shard.observation_id, shard.first_batch, shard.end))
            insert_new(connection, schema.shards, [to_row(shard) | {"array_hash": packed.hash}])
        self._discard(hashes)
        return True

    def drop_shard(self, shard: ShardRecord) -> bool:
        """Forgets a shard, so that its batches are wanted again; False if it was not there any more."""
        with self._database.write() as connection:
            statement = _remove_shards(shard.observation_id, shard.first_batch, shard.end)
            dropped = connection.execute(statement.where(schema.shards.c.array_hash == shard.array_hash)).rowcount
        self._discard({shard.array_hash})
        return dropped > 0

    # -- results ---------------------------------------------------------------------------------------------

    def finish(
        self,
        shards: Sequence[ShardRecord],
        arrays: Mapping[tuple[str, str], Arrays],
        *,
        seen: int,
        skipped: int,
    ) -> bool:
        """Stores what each (site, reducer) gave and ends the observation; its shards are deleted.

        False, and nothing stored, if the shards are not those of the observation any more.
        """
        observation_id = shards[0].observation_id
        packed = {key: pack(value) for key, value in arrays.items()}
        with self._database.write() as connection:
            table = schema.shards
            found = connection.execute(sa.select(table).where(table.c.observation_id == observation_id)).all()
            if sorted(row.array_hash for row in found) != sorted(shard.array_hash for shard in shards):
                return False
            for each in packed.values():
                self._arrays.put(each)
            key = {"observation_id": observation_id} | _stamp(connection, observation_id)
            rows = [{"site": s, "reducer": r, "array_hash": p.hash} | key for (s, r), p in packed.items()]
            insert_or_replace(connection, schema.results, rows)
            end = sa.update(schema.observations).where(schema.observations.c.id == observation_id)
            connection.execute(end.values(status="done", seen=seen, skipped=skipped))
            connection.execute(sa.delete(table).where(table.c.observation_id == observation_id))
            connection.execute(sa.delete(schema.claims).where(schema.claims.c.observation_id == observation_id))
        self._discard({shard.array_hash for shard in shards})
        return True

    def results(self, observation_id: str) -> list[ResultRecord]:
        """What a finished observation gave, one row for each site and reducer."""
        table = schema.results
        with self._database.read() as connection:
            where = table.c.observation_id == observation_id
            return select_records(connection, ResultRecord, table, where, order=(table.c.site, table.c.reducer))

    def reopen(self, damaged: Sequence[ResultRecord]) -> None:
        """Forgets damaged results of one observation and sets it running again."""
        table = schema.results
        with self._database.write() as connection:
            for result in damaged:
                same = [table.c[name] == getattr(result, name) for name in ("observation_id", "site", "reducer")]
                connection.execute(sa.delete(table).where(*same, table.c.array_hash == result.array_hash))
                again = sa.update(schema.observations).where(schema.observations.c.id == result.observation_id)
                connection.execute(again.values(status="running"))

    def _discard(self, hashes: set[str]) -> None:
        # Under the write lock, so that no other process can begin to refer to a file that is being deleted.
        with self._database.write() as connection:
            self._arrays.discard(hashes - referenced(connection, hashes))


def referenced(connection: Connection, hashes: set[str] | None = None) -> set[str]:
    """The hashes that some row of some table refers to; of ``hashes`` only, where given."""
    found: set[str] = set()
    for table in schema.metadata.sorted_tables:
        if "array_hash" in table.c:
            query = sa.select(table.c.array_hash).distinct()
            query = query if hashes is None else query.where(table.c.array_hash.in_(hashes))
            found |= set(connection.execute(query).scalars())
    return found - {""}


def _running(connection: Connection, observation_id: str) -> bool:
    # FOR UPDATE makes writers of the same observation wait for each other on a server; SQLite's writers always do.
    query = sa.select(schema.observations.c.status).where(schema.observations.c.id == observation_id)
    return connection.execute(query.with_for_update()).scalar() == "running"


def _wanted(connection: Connection, observation_id: str, first: int, end: int) -> bool:
    if not _running(connection, observation_id):
        return False
    return connection.execute(_overlapping(observation_id, first, end).limit(1)).first() is None


def _in_range(observation_id: str, first: int, end: int) -> sa.ColumnElement[bool]:
    table = schema.shards
    overlaps = sa.and_(table.c.first_batch < end, table.c.first_batch + table.c.batch_count > first)
    return sa.and_(table.c.observation_id == observation_id, overlaps)


def _overlapping(observation_id: str, first: int, end: int) -> sa.Select:
    return sa.select(schema.shards).where(_in_range(observation_id, first, end))


def _remove_shards(observation_id: str, first: int, end: int) -> sa.Delete:
    return sa.delete(schema.shards).where(_in_range(observation_id, first, end))


def _delete_claims(connection: Connection, observation_id: str, first: int, end: int) -> None:
    table = schema.claims
    connection.execute(
        sa.delete(table).where(table.c.observation_id == observation_id, table.c.batch.between(first, end - 1))
    )


def _stamp(connection: Connection, observation_id: str) -> dict[str, str | int]:
    """The provenance of new rows that belong to an observation."""
    table = schema.observations
    names = ("network_fingerprint", "stimulus_set_fingerprint", "seed")
    query = sa.select(*(table.c[name] for name in names)).where(table.c.id == observation_id)
    row = dict(zip(names, connection.execute(query).one()))
    return row | {"cutaway_version": package_version(), "created_utc": utc_now()}
