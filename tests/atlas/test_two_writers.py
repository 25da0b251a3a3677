"""Two processes write to one atlas at once: no row is lost, none is doubled, nobody gives up."""

import subprocess
import sys
from pathlib import Path

import torch

from cutaway.atlas import Atlas, ObservationRecord, ShardRecord

ROWS, SHARED_ROWS, BATCHES = 1500, 500, 40
OBSERVATION = ObservationRecord("o" * 64, ["conv1"], {}, 8, BATCHES)

WRITER = f"""
import sys, torch
from cutaway.atlas import *
path, name = sys.argv[1:]
with Atlas(path) as atlas:
    atlas.bind("net", "n" * 64)
    for n in range(0, {ROWS}, 15):
        atlas.cards.put(*(CardRecord(f"{{name}}:{{k}}", "card", {{"n": k}}) for k in range(n, n + 15)))
        atlas.put_arrays({{"same": torch.arange(1000) + n}})
    for n in range(0, {SHARED_ROWS}, 100):
        rows = [StimulusRecord("s" * 64, f"id{{k}}", k, "text", name) for k in range(n, n + 100)]
        atlas.stimuli.put(StimulusSetRecord("s" * 64, "set", {SHARED_ROWS}), rows)
    log = atlas.observations
    log.begin(ObservationRecord("o" * 64, ["conv1"], {{}}, 8, {BATCHES}))
    added = sum(
        log.add_shard(ShardRecord("o" * 64, n, 1, 8, 0), {{"x": torch.tensor([n])}}) for n in range({BATCHES})
    )
    print(added)
"""


def test_two_processes_write_thousands_of_rows(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "atlas")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, name], **pipes) for name in ("left", "right")]
    ends = [writer.communicate(timeout=120) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], ends
    with Atlas(tmp_path / "atlas") as atlas:
        addresses = [card.address for card in atlas.cards.all()]
        assert sorted(addresses) == sorted(f"{name}:{n}" for name in ("left", "right") for n in range(ROWS))
        assert len(atlas.stimuli.of_set("s" * 64)) == SHARED_ROWS
        shards = atlas.observations.shards(OBSERVATION.id)
        assert [shard.first_batch for shard in shards] == list(range(BATCHES))
        assert sum(int(end[0]) for end in ends) == BATCHES, "each shard was added by one of them"
        for shard in shards:
            stored = atlas.get_arrays(shard.array_hash)["x"]
            assert torch.equal(stored, torch.tensor([shard.first_batch]))
        assert atlas.check() == []


def test_shards_never_overlap(tmp_atlas: Atlas) -> None:
    log = tmp_atlas.observations
    log.begin(OBSERVATION)
    parts = [ShardRecord(OBSERVATION.id, n, 1, 8, 0) for n in range(4)]
    assert all(log.add_shard(part, {"x": torch.tensor([n])}) for n, part in enumerate(parts))
    stored = log.shards(OBSERVATION.id)
    merged = ShardRecord(OBSERVATION.id, 0, 4, 32, 0)
    assert log.replace_shards(stored, merged, {"x": torch.tensor([9])})
    assert not log.replace_shards(stored, merged, {"x": torch.tensor([8])}), "another process was faster"
    assert not log.add_shard(parts[2], {"x": torch.tensor([2])}), "it is covered by the merged one"
    assert not log.wants(OBSERVATION.id, 3)
    assert log.wants(OBSERVATION.id, 4)
    [only] = log.shards(OBSERVATION.id)
    assert (only.first_batch, only.end, only.seen) == (0, 4, 32)
    assert not any(tmp_atlas.array_path(part.array_hash).exists() for part in stored), "their files are gone"
    assert log.drop_shard(only)
    assert not log.drop_shard(only)
    assert log.wants(OBSERVATION.id, 3)


def test_a_claim_keeps_others_away_until_it_expires(tmp_atlas: Atlas, monkeypatch) -> None:
    log = tmp_atlas.observations
    log.begin(OBSERVATION)
    assert log.claim(OBSERVATION.id, 0, "me")
    assert log.claim(OBSERVATION.id, 0, "me"), "one's own claim is no obstacle"
    assert not log.claim(OBSERVATION.id, 0, "you")
    assert log.claim(OBSERVATION.id, 1, "you")
    now = __import__("time").time()
    monkeypatch.setattr("cutaway.atlas.observations.time.time", lambda: now + 1000)
    assert log.claim(OBSERVATION.id, 0, "you")
    assert log.add_shard(ShardRecord(OBSERVATION.id, 0, 1, 8, 0), {"x": torch.ones(1)})
    assert not log.claim(OBSERVATION.id, 0, "you"), "it is done"
