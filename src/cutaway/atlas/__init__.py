"""The store of everything known about one network.

What enters: facts as the frozen records of this room, and named arrays (tensors or ndarrays). What leaves: the
same, with provenance on every row. What is promised: a transaction is done whole or not at all, whatever kills the
process; several processes may write at once; an array file that was cut short or changed is never handed out, it
is named. The room knows nothing about networks beyond a name and a fingerprint. ``docs/atlas-format.md`` is the
format.
"""

from cutaway.atlas.atlas import Atlas, Damage
from cutaway.atlas.observations import ObservationLog
from cutaway.atlas.records import (
    CardRecord,
    FindingRecord,
    NetworkRecord,
    ObservationRecord,
    Provenance,
    ResultRecord,
    ShardRecord,
    StimulusRecord,
    StimulusSetRecord,
)

__all__ = [
    "Atlas",
    "CardRecord",
    "Damage",
    "FindingRecord",
    "NetworkRecord",
    "ObservationLog",
    "ObservationRecord",
    "Provenance",
    "ResultRecord",
    "ShardRecord",
    "StimulusRecord",
    "StimulusSetRecord",
]
