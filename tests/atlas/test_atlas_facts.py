"""What is entered comes back with its provenance; an atlas describes one network; bad folders are refused."""

import dataclasses
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from cutaway.atlas import (
    Atlas,
    CardRecord,
    FindingRecord,
    ObservationRecord,
    Provenance,
    StimulusRecord,
    StimulusSetRecord,
    schema,
)
from cutaway.errors import AtlasError, AtlasMismatch, Unavailable

HERE = Provenance("n" * 64, "s" * 64, seed=3)


def test_stimuli_cards_and_findings_come_back(tmp_atlas: Atlas) -> None:
    shown = StimulusSetRecord("s" * 64, "photographs", count=2, skipped=1, provenance=HERE)
    stimuli = [StimulusRecord("s" * 64, name, n, "image", f"{name}.jpg", HERE) for n, name in enumerate("ba")]
    card = CardRecord("conv3_3:81", "card", {"rate": 0.25, "labels": ["curve"]}, provenance=HERE)
    finding = FindingRecord("f1", "protected", {"claim": "c"}, provenance=HERE)
    for _ in range(2):  # entering twice changes nothing
        tmp_atlas.stimuli.put(shown, stimuli)
        tmp_atlas.cards.put(card)
        tmp_atlas.findings.put(finding)
    assert tmp_atlas.stimuli.sets() == [shown]
    assert tmp_atlas.stimuli.of_set("s" * 64) == stimuli
    assert tmp_atlas.stimuli.get("s" * 64, "a") == stimuli[1]
    assert tmp_atlas.stimuli.get("s" * 64, "c") is None
    assert tmp_atlas.cards.get("conv3_3:81") == card
    assert tmp_atlas.cards.get("conv3_3:82") is None
    assert tmp_atlas.findings.all() == [finding]
    assert tmp_atlas.findings.all(rules=["other"]) == []


def test_a_newer_card_replaces_an_older_one_of_its_kind_only(tmp_atlas: Atlas) -> None:
    tmp_atlas.cards.put(CardRecord("a:0", "card", {"n": 1}), CardRecord("a:0", "tuning", {"n": 2}))
    tmp_atlas.cards.put(CardRecord("a:0", "card", {"n": 3}))
    assert [(card.kind, card.document) for card in tmp_atlas.cards.all(address="a:0")] == [
        ("card", {"n": 3}),
        ("tuning", {"n": 2}),
    ]


def test_more_rows_than_one_statement_takes(tmp_atlas: Atlas) -> None:
    key = "s" * 64
    rows = [StimulusRecord(key, f"id{n}", n, "text", "") for n in range(1234)]
    tmp_atlas.stimuli.put(StimulusSetRecord(key, "many", 1234), rows)
    assert [row.ordinal for row in tmp_atlas.stimuli.of_set(key)] == list(range(1234))


def test_every_table_has_the_columns_of_provenance() -> None:
    expected = {field.name for field in dataclasses.fields(Provenance)}
    assert all(expected <= set(table.c.keys()) for table in schema.metadata.sorted_tables)


def test_provenance_names_version_and_time(tmp_atlas: Atlas) -> None:
    tmp_atlas.bind("net", "n" * 64)
    network = tmp_atlas.network()
    assert network is not None
    assert network.provenance.network_fingerprint == "n" * 64
    assert network.provenance.cutaway_version[0].isdigit()
    assert network.provenance.created_utc.endswith("Z")


def test_an_atlas_of_another_network_is_refused_in_one_sentence(tmp_atlas: Atlas) -> None:
    tmp_atlas.bind("vgg16-hed", "a" * 64)
    tmp_atlas.bind("the same under another name", "a" * 64)
    with pytest.raises(AtlasMismatch) as caught:
        tmp_atlas.bind("smollm2-135m", "b" * 64)
    assert str(caught.value) == (
        f"The atlas {tmp_atlas.path} was to be used for smollm2-135m (bbbbbbbbbbbb) and describes vgg16-hed "
        "(aaaaaaaaaaaa); name another folder, or delete this one."
    )


def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    with Atlas(tmp_path / "new") as atlas:
        assert not atlas.path.exists()
        assert atlas.network() is None
        assert (atlas.path / "atlas.db").exists()


def test_a_closed_atlas_opens_again(tmp_atlas: Atlas) -> None:
    tmp_atlas.bind("net", "a" * 64)
    tmp_atlas.close()
    tmp_atlas.close()
    network = tmp_atlas.network()
    assert network is not None
    assert network.name == "net"


def test_the_database_writes_ahead_and_waits_for_others(tmp_atlas: Atlas) -> None:
    with tmp_atlas._database.read() as connection:
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sa.text("PRAGMA busy_timeout")).scalar() == 60_000


def _text_file(folder: Path) -> None:
    (folder / "atlas.db").write_text("this is not a database at all, " * 100)


def _other_database(folder: Path) -> None:
    with sqlite3.connect(folder / "atlas.db") as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()


def _other_meta(folder: Path) -> None:
    with sqlite3.connect(folder / "atlas.db") as connection:
        connection.execute("CREATE TABLE meta (title TEXT)")
    connection.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_text_file, "is no atlas or a damaged one"),
        (_other_database, "is a database but not an atlas"),
        (_other_meta, "is a database but not an atlas"),
    ],
)
def test_a_file_that_is_no_atlas_is_refused_and_not_touched(tmp_path: Path, make, words: str) -> None:
    make(tmp_path)
    before = (tmp_path / "atlas.db").read_bytes()
    with Atlas(tmp_path) as atlas, pytest.raises(AtlasError, match=words):
        atlas.network()
    assert (tmp_path / "atlas.db").read_bytes()[100:] == before[100:]  # the header counts changes of journal mode


def test_a_newer_format_is_refused(tmp_atlas: Atlas) -> None:
    tmp_atlas.bind("net", "a" * 64)
    with tmp_atlas._database.write() as connection:
        connection.execute(sa.update(schema.meta).values(value="99"))
    tmp_atlas.close()
    with pytest.raises(AtlasError, match=r"has atlas format 99 and this cutaway \(.*\) reads up to 1; upgrade cutaway"):
        tmp_atlas.network()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AtlasError, match="An atlas is a folder"):
        Atlas(tmp_path / "file").network()
    with pytest.raises(AtlasError, match="make the atlas folder"):
        Atlas(tmp_path / "file" / "below").network()


def test_a_missing_atlas_is_an_error_where_it_must_exist(tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="There is no atlas at"):
        Atlas(tmp_path / "absent", create=False).network()
    assert not (tmp_path / "absent").exists()


def test_facts_may_live_in_another_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    with Atlas(tmp_path / "atlas", database_url=url) as atlas:
        atlas.bind("net", "a" * 64)
        assert not (atlas.path / "atlas.db").exists()
        assert (tmp_path / "elsewhere.db").exists()


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("nonsense://x/y", AtlasError, "does not know this database URL"),
        ("mysql+mysqldb://host/db", Unavailable, "pip install MySQLdb"),
        ("oracle+cx_oracle://host/db", Unavailable, "pip install"),
    ],
)
def test_a_url_that_cannot_be_used_is_explained(tmp_path: Path, url: str, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        Atlas(tmp_path, database_url=url).network()


def test_the_tables_and_upserts_compile_for_a_server() -> None:
    dialect = postgresql.dialect()
    for table in schema.metadata.sorted_tables:
        assert "CREATE TABLE" in str(sa.schema.CreateTable(table).compile(dialect=dialect))
    insert = postgresql.insert(schema.meta).values(key="a").on_conflict_do_nothing()
    assert "ON CONFLICT DO NOTHING" in str(insert.compile(dialect=dialect))


def test_a_damaged_document_is_an_atlas_error(tmp_atlas: Atlas) -> None:
    tmp_atlas.cards.put(CardRecord("a:0", "card", {}))
    with tmp_atlas._database.write() as connection:
        connection.execute(sa.text("UPDATE cards SET document = '{not json'"))
    with pytest.raises(AtlasError, match="holds a row that cannot be read"):
        tmp_atlas.cards.all()


def test_an_observation_is_entered_once(tmp_atlas: Atlas) -> None:
    record = ObservationRecord("o" * 64, ["conv1"], {"top": {"k": 2}}, 8, 5, provenance=HERE)
    assert tmp_atlas.observations.begin(record) == record
    later = dataclasses.replace(record, batch_size=3, batch_count=14)
    assert tmp_atlas.observations.begin(later) == record, "the first one counts"
    assert tmp_atlas.observations.all() == [record]
