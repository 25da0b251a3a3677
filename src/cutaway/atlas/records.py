"""Rows of an atlas as frozen values: what callers put in and get back."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

#: What a JSON column holds.
Json = dict[str, Any] | list[Any]


@cache
def package_version() -> str:
    """The version of cutaway that is running."""
    try:
        return version("cutaway")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Provenance:
    """Where a row comes from: of which network and stimuli, with which seed and version, and when."""

    network_fingerprint: str = ""
    stimulus_set_fingerprint: str = ""
    seed: int = 0
    cutaway_version: str = field(default_factory=package_version)
    created_utc: str = field(default_factory=utc_now)


@dataclass(frozen=True)
class NetworkRecord:
    """The network that an atlas describes."""

    fingerprint: str
    name: str
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class StimulusSetRecord:
    """A set of stimuli that was shown: ``count`` usable ones, ``skipped`` unreadable ones."""

    fingerprint: str
    name: str
    count: int
    skipped: int = 0
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class StimulusRecord:
    """One stimulus of a set; ``source`` says where to get it again (a path, a package file, a generator)."""

    set_fingerprint: str
    id: str
    ordinal: int
    kind: str
    source: str
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class ObservationRecord:
    """One pass of a stimulus set through a network; ``id`` is a hash of everything that decides its result.

    ``settings`` maps reducer names to their options. ``status`` is ``running`` or ``done``; ``seen`` and
    ``skipped`` count stimuli and are final once it is done.
    """

    id: str
    sites: list[str]
    settings: dict[str, Any]
    batch_size: int
    batch_count: int
    seen: int = 0
    skipped: int = 0
    status: str = "running"
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class ShardRecord:
    """The reduced batches ``first_batch`` up to ``first_batch + batch_count`` of a running observation."""

    observation_id: str
    first_batch: int
    batch_count: int
    seen: int
    skipped: int
    array_hash: str = ""
    provenance: Provenance = Provenance()

    @property
    def end(self) -> int:
        """The first batch after this shard."""
        return self.first_batch + self.batch_count


@dataclass(frozen=True)
class ResultRecord:
    """What one reducer kept of one site in a finished observation."""

    observation_id: str
    site: str
    reducer: str
    array_hash: str
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class CardRecord:
    """A document about one feature; ``kind`` tells documents about the same address apart."""

    address: str
    kind: str
    document: Json
    array_hash: str = ""
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class FindingRecord:
    """A finding as a JSON document, under the identity that it keeps across runs."""

    id: str
    rule: str
    document: Json
    array_hash: str = ""
    provenance: Provenance = Provenance()


R = TypeVar("R")


def to_row(record: Any) -> dict[str, Any]:
    """A record as the columns of its table: its own fields and the five of its provenance."""
    row = {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.name != "provenance"}
    return row | dataclasses.asdict(record.provenance)


def from_row(kind: type[R], row: Mapping[Any, Any]) -> R:
    """The inverse of :func:`to_row`."""
    own = {f.name: row[f.name] for f in dataclasses.fields(kind) if f.name != "provenance"}  # type: ignore[arg-type]
    provenance = Provenance(**{f.name: row[f.name] for f in dataclasses.fields(Provenance)})
    return kind(**own, provenance=provenance)  # type: ignore[call-arg]
