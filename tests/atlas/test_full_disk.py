"""A disk that is full: one clear sentence, nothing half-written, nothing lost."""

import errno
import os

import pytest
import sqlalchemy as sa
import torch

from cutaway.atlas import Atlas, CardRecord, ObservationRecord, ShardRecord
from cutaway.errors import AtlasError

OBSERVATION = ObservationRecord("o" * 64, ["conv1"], {}, 8, 4)


def _full(*_arguments: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _files(atlas: Atlas) -> list[str]:
    return [path.name for path in (atlas.path / "arrays").rglob("*") if path.is_file()]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_an_array_is_not_half_written(tmp_atlas: Atlas, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    kept = tmp_atlas.put_arrays({"x": torch.ones(3)})
    with monkeypatch.context() as patch:
        patch.setattr(os, call, _full)
        with pytest.raises(AtlasError, match="There was no space left to store an array of") as caught:
            tmp_atlas.put_arrays({"x": torch.zeros(1000)})
    assert "\n" not in str(caught.value)
    assert _files(tmp_atlas) == [f"{kept}.safetensors"]
    assert tmp_atlas.get_arrays(tmp_atlas.put_arrays({"x": torch.zeros(1000)}))["x"].shape == (1000,)


def test_a_disk_that_takes_a_part_of_the_bytes_still_gets_all(
    tmp_atlas: Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:100]))
    arrays = {"x": torch.arange(500)}
    assert torch.equal(tmp_atlas.get_arrays(tmp_atlas.put_arrays(arrays))["x"], arrays["x"])


def test_a_shard_without_space_leaves_no_row(tmp_atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_atlas.observations.begin(OBSERVATION)
    shard = ShardRecord(OBSERVATION.id, 0, 1, 8, 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", _full)
        with pytest.raises(AtlasError, match="no space left"):
            tmp_atlas.observations.add_shard(shard, {"x": torch.ones(2)})
    assert tmp_atlas.observations.shards(OBSERVATION.id) == []
    assert tmp_atlas.observations.wants(OBSERVATION.id, 0)
    assert tmp_atlas.observations.add_shard(shard, {"x": torch.ones(2)})


def test_a_database_without_space_keeps_what_it_has(tmp_atlas: Atlas) -> None:
    tmp_atlas.cards.put(CardRecord("a:0", "card", {"n": 0}))

    def limit(connection, _record) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    tmp_atlas.close()
    engine = tmp_atlas._database._opened()
    engine.dispose()
    sa.event.listen(engine, "connect", limit)
    many = [CardRecord(f"a:{n}", "card", {"text": "x" * 1000}) for n in range(1, 100)]
    with pytest.raises(AtlasError, match="There was no space left to write") as caught:
        tmp_atlas.cards.put(*many)
    assert "\n" not in str(caught.value)
    assert [card.address for card in tmp_atlas.cards.all()] == ["a:0"], "all or nothing"
    tmp_atlas.close()
    tmp_atlas.cards.put(*many)
    assert len(tmp_atlas.cards.all()) == 100


def test_a_folder_that_cannot_be_written_is_explained(tmp_atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_arguments: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(AtlasError, match="It is not permitted to store an array"):
        tmp_atlas.put_arrays({"x": torch.ones(1)})
