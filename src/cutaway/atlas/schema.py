"""The tables of an atlas; ``docs/atlas-format.md`` describes every column.

Every row carries its provenance in the same five columns. A column named ``array_hash`` refers to a file of the
array store; whatever no such column names is unreferenced.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

#: Grows when a reader of the old format could misread the new one.
FORMAT_VERSION = 1

metadata = MetaData()


def _provenance() -> list[Column]:
    return [
        Column("network_fingerprint", String(64), nullable=False, default=""),
        Column("stimulus_set_fingerprint", String(64), nullable=False, default=""),
        Column("seed", BigInteger, nullable=False, default=0),
        Column("cutaway_version", String(64), nullable=False),
        Column("created_utc", String(32), nullable=False),
    ]


meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    *_provenance(),
)

networks = Table(
    "networks",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    *_provenance(),
)

stimulus_sets = Table(
    "stimulus_sets",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    *_provenance(),
)

stimuli = Table(
    "stimuli",
    metadata,
    Column("set_fingerprint", String(64), primary_key=True),
    Column("id", String(512), primary_key=True),
    Column("ordinal", Integer, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("source", Text, nullable=False),
    *_provenance(),
)

observations = Table(
    "observations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("sites", JSON, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("batch_count", Integer, nullable=False),
    Column("seen", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    *_provenance(),
)

shards = Table(
    "shards",
    metadata,
    Column("key", Integer, primary_key=True, autoincrement=True),
    Column("observation_id", String(64), nullable=False),
    Column("first_batch", Integer, nullable=False),
    Column("batch_count", Integer, nullable=False),
    Column("seen", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("array_hash", String(64), nullable=False),
    *_provenance(),
    UniqueConstraint("observation_id", "first_batch"),
)

claims = Table(
    "claims",
    metadata,
    Column("observation_id", String(64), primary_key=True),
    Column("batch", Integer, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("expires_unix", BigInteger, nullable=False),
    *_provenance(),
)

results = Table(
    "results",
    metadata,
    Column("observation_id", String(64), primary_key=True),
    Column("site", String(255), primary_key=True),
    Column("reducer", String(64), primary_key=True),
    Column("array_hash", String(64), nullable=False),
    *_provenance(),
)

cards = Table(
    "cards",
    metadata,
    Column("address", String(255), primary_key=True),
    Column("kind", String(64), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("array_hash", String(64), nullable=False, default=""),
    *_provenance(),
)

findings = Table(
    "findings",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("rule", String(255), nullable=False),
    Column("document", JSON, nullable=False),
    Column("array_hash", String(64), nullable=False, default=""),
    *_provenance(),
)

for _table in (shards, results, cards, findings):
    Index(f"ix_{_table.name}_array_hash", _table.c.array_hash)
