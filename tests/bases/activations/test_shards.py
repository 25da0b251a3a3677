"""Activations on the disk: the right rows, whole or refused, resumed, and the same as without a disk."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cutaway.bases import to_rows
from cutaway.bases.activations import ShardSource, Source, StreamSource, cache, read_manifest
from cutaway.errors import BadFile, BadInput, UnknownName
from cutaway.networks import Network
from cutaway.stimuli import Stimulus, StimulusSet
from tests.bases.activations.small import BOS, DEEP, EOS, SITE, language, pictures, texts, vision

ROOT = Path(__file__).parents[3]


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("shard-*")}


def epoch(source: Source, size: int = 1) -> torch.Tensor:
    """All rows of an epoch as one sorted table of what is read and what is written."""
    return table([torch.cat(part, 1) for part in islice(source.batches(size), source.count // size)])


def table(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.tensor(sorted(torch.cat(parts).tolist()))


def small(network: Network, folder: Path, **options: Any) -> ShardSource:
    settings: dict[str, Any] = {"window": 8, "batch": 3, "shard_rows": 50} | options
    return cache(network, texts(), SITE, folder=folder, **settings)


def test_windows_are_packed_and_begin_as_the_tokenizer_does() -> None:
    source = StreamSource(language(), texts(3, words=5), SITE, window=8, skip=2)
    joined = [token for text in texts(3, words=5) for token in [*(int(w[1:]) for w in text.split()), EOS]]
    windows = source.passes.windows
    assert windows is not None
    assert windows.tolist() == [[BOS, *joined[at : at + 7]] for at in (0, 7, 14)]
    assert source.count == 3 * 6
    plain = StreamSource(language(bos=False), texts(3, words=5), SITE, window=8).passes.windows
    assert plain is not None
    assert plain.flatten().tolist() == joined[: len(joined) // 8 * 8]


def test_cached_rows_are_those_of_the_network_at_the_wanted_positions(tmp_path: Path) -> None:
    network = language()
    source = small(network, tmp_path, skip=1, dtype="float32")
    windows = source_windows(network)
    wanted = network.run(torch.from_numpy(windows).long(), capture=[SITE])[SITE][:, 1:].flatten(0, 1)
    found = torch.cat([source.rows(place)[0] for place in range(len(source.shards))])
    assert found.shape == wanted.shape
    assert torch.allclose(torch.unique(found, dim=0), torch.unique(wanted, dim=0), atol=1e-6)


def source_windows(network: Network) -> Any:
    return StreamSource(network, texts(), SITE, window=8).passes.windows


def test_padding_is_left_out_where_texts_stand_alone(tmp_path: Path) -> None:
    network = language()
    source = small(network, tmp_path, window=None, skip=1)
    assert source.count == sum(len(text.split()) for text in texts())
    assert StreamSource(network, texts(), SITE, window=None, skip=1, batch=3).count == source.count
    alone = torch.cat([network.run([text], capture=[SITE])[SITE][0, 1:] for text in texts()])
    found = torch.cat([source.rows(place)[0] for place in range(len(source.shards))]).float()
    assert torch.allclose(found.sum(0), alone.sum(0), atol=2e-3)


@pytest.mark.parametrize("case", ["windows", "texts", "transcoder", "maps", "pixels"])
def test_a_stream_has_the_rows_of_the_cache(tmp_path: Path, case: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "windows": {"window": 8, "skip": 1},
        "texts": {"window": None},
        "transcoder": {"writes": DEEP, "window": 8},
        "maps": {"writes": "same"},
        "pixels": {"per_image": 9, "seed": 4},
    }
    network, stimuli, site = language(), texts(), SITE
    if case in ("maps", "pixels"):
        network, stimuli, site = vision(), pictures(), "relu"
    shards = cache(network, stimuli, site, folder=tmp_path, dtype="float32", shard_rows=40, batch=3, **options[case])
    stream = StreamSource(network, stimuli, site, batch=3, **options[case])
    assert (shards.count, shards.d_in, shards.d_out) == (stream.count, stream.d_in, stream.d_out)
    wide = table([torch.cat(shards.rows(place), 1) for place in range(len(shards.shards))])
    assert len(wide) == shards.count
    assert torch.equal(epoch(shards), wide)
    assert torch.allclose(epoch(stream), wide, atol=1e-6)


def test_a_stream_goes_on_where_it_was() -> None:
    stream = StreamSource(language(), texts(), SITE, window=8, batch=3, together=2)
    whole = [x for x, _ in islice(stream.batches(10, seed=5), 25)]
    rest = [x for x, _ in islice(stream.batches(10, seed=5, start=17), 8)]
    assert all(torch.equal(a, b) for a, b in zip(whole[17:], rest, strict=True))


def test_pixels_are_drawn_by_seed_and_belong_to_their_picture() -> None:
    network, images = vision(), pictures(4)
    stream = StreamSource(network, images, "first", per_image=5, batch=3)
    assert stream.count == 20
    maps = to_rows(network.run(torch.stack(images), capture=["first"])["first"], network.site("first")).view(4, 64, 5)
    drawn = epoch(stream)[:, :5]
    found = (maps[None] - drawn[:, None, None]).abs().amax(-1) < 1e-5
    assert found.any(-1).sum(0).tolist() == [5, 5, 5, 5]
    other = StreamSource(network, images, "first", per_image=5, batch=3, seed=1)
    assert not torch.allclose(epoch(other), epoch(stream), atol=1e-3)
    alone = StreamSource(network, images, "first", per_image=5, batch=1)
    assert torch.allclose(epoch(alone), epoch(stream), atol=1e-5)


def test_a_pass_stops_at_the_deeper_site(monkeypatch: pytest.MonkeyPatch) -> None:
    network = language()
    late = network.module.get_submodule("lm_head")
    monkeypatch.setattr(late, "forward", lambda *_: pytest.fail("the pass went on to the end"))
    assert StreamSource(network, texts(), SITE, DEEP, window=8).passes.run(0)[1].shape[1] == 16


def test_the_same_call_gives_the_same_bytes_and_runs_nothing_twice(tmp_path: Path) -> None:
    network = language()
    first = small(network, tmp_path / "a")
    small(language(), tmp_path / "b")
    assert stored(tmp_path / "a") == stored(tmp_path / "b")
    ages = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").glob("shard-*")}
    again = small(network, tmp_path / "a")
    assert {path: path.stat().st_mtime_ns for path in ages} == ages
    assert again.fingerprint == first.fingerprint
    assert small(language(), tmp_path / "c", seed=1).fingerprint != first.fingerprint


def test_the_manifest_says_where_the_rows_come_from(tmp_path: Path) -> None:
    network = language()
    source = small(network, tmp_path, dtype="bfloat16")
    said = json.loads((tmp_path / "manifest.json").read_text())
    assert said["settings"]["network_fingerprint"] == network.fingerprint
    assert said["settings"]["reads"] == said["settings"]["writes"] == SITE
    assert said["made_by"].startswith("cutaway ")
    assert len(said["settings"]["stimuli_fingerprint"]) == 64
    held = load_file(tmp_path / "shard-00000.safetensors")
    assert list(held) == ["x"]
    assert held["x"].dtype == torch.bfloat16
    assert sum(shard["rows"] for shard in said["shards"]) == source.count


def test_a_damaged_shard_is_named_and_only_it_is_made_again(tmp_path: Path) -> None:
    network = language()
    whole = small(network, tmp_path)
    assert len(whole.shards) > 2
    before = stored(tmp_path)
    damaged = tmp_path / "shard-00001.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-3] ^= 1
    damaged.write_bytes(data)
    ages = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*") if path != damaged}
    source = ShardSource(tmp_path)
    assert torch.isfinite(source.rows(0)[0]).all()
    with pytest.raises(BadFile, match=r"shard-00001.*is damaged.*run the same caching again"):
        list(islice(source.batches(5), source.count // 5))
    small(network, tmp_path)
    assert stored(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in ages} == ages


@pytest.mark.parametrize(("fault", "said"), [("short", "bytes and not"), ("gone", "is missing")])
def test_a_short_or_missing_shard_is_named(tmp_path: Path, fault: str, said: str) -> None:
    source = small(language(), tmp_path)
    path = tmp_path / source.shards[0].file
    path.unlink() if fault == "gone" else path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadFile, match=said):
        source.rows(0)


def test_a_shard_that_holds_other_things_than_announced_is_refused(tmp_path: Path) -> None:
    small(language(), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"d_in": 17, "d_out": 17}))
    with pytest.raises(BadFile, match="was announced"):
        ShardSource(tmp_path).rows(0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 9}, "version '9'"),
        ({"shards": [{"number": 0, "rows": -4, "bytes": 1, "sha256": "0" * 64}]}, "no count"),
        ({"shards": [{"number": 10**6, "rows": 4, "bytes": 1, "sha256": "0" * 64}]}, "cannot be"),
        ({"shards": 5}, "does not describe shards"),
        ({"dtype": "object"}, "cannot be"),
        ({"d_in": 2**60}, "no count"),
        ({"shards": []}, "lists 0 of"),
    ],
)
def test_a_hostile_manifest_is_one_sentence(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    small(language(), tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadFile, match=said):
        ShardSource(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"[" * 200_000, b'{"d_in": NaN}', b"\xff\xfe"])
def test_a_manifest_that_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(BadFile, match=r"manifest\.json"):
        ShardSource(tmp_path)
    with pytest.raises(BadFile, match="does not exist"):
        ShardSource(tmp_path / "nowhere")


def test_other_activations_in_the_folder_are_refused_and_kept(tmp_path: Path) -> None:
    small(language(), tmp_path)
    before = stored(tmp_path)
    for options, said in (({"skip": 2}, "another skip"), ({"dtype": "float32"}, "another dtype")):
        with pytest.raises(BadInput, match=said):
            small(language(), tmp_path, **options)
    with pytest.raises(BadInput, match="another network_fingerprint"):
        small(language(seed=1), tmp_path)
    assert stored(tmp_path) == before


def test_nan_and_what_overflows_never_reach_a_shard(tmp_path: Path) -> None:
    network = language()
    weight = network.module.get_parameter("model.layers.0.mlp.down_proj.weight").data
    weight *= 1e12
    with pytest.raises(BadInput, match=r"too large for float16.*bfloat16"):
        small(network, tmp_path / "large")
    assert not stored(tmp_path / "large")
    small(network, tmp_path / "wide", dtype="bfloat16")
    weight[3, 0] = float("nan")
    with pytest.raises(BadInput, match=f"Unit 3 of {SITE} is NaN or infinite"):
        small(network, tmp_path / "nan")
    assert not stored(tmp_path / "nan")


def test_what_cannot_be_cached_is_said() -> None:
    network, images = language(), vision()
    cases: list[tuple[Any, str]] = [
        (lambda: StreamSource(network, texts(), SITE, window=8, skip=8), "skip fewer"),
        (lambda: StreamSource(network, texts(), SITE, window=0), "window=0"),
        (lambda: StreamSource(network, texts(), SITE, window=65), "at most 64"),
        (lambda: StreamSource(network, [], SITE, window=8), "at least one"),
        (lambda: StreamSource(network, ["w3"], SITE, window=8, skip=3), "give more text"),
        (lambda: StreamSource(network, [3], SITE), "type int"),
        (lambda: StreamSource(images, pictures(), "relu", "pool").passes.run(0), "same positions"),
        (lambda: StreamSource(images, pictures(), "relu", skip=1).passes.run(0), "which is a map"),
        (lambda: StreamSource(images, pictures(), "relu", per_image=65).passes.run(0), "has 64"),
        (lambda: StreamSource(images, pictures(), "relu", together=0), "at least 1"),
    ]
    for make, said in cases:
        with pytest.raises(BadInput, match=said):
            make()
    with pytest.raises(BadInput, match="not a vector"):
        StreamSource(network, texts(), "layers.0.attn.pattern", window=8).passes.run(0)
    with pytest.raises(UnknownName, match="site"):
        StreamSource(network, texts(), "layers.9.mlp", window=8)


def test_pictures_of_two_sizes_are_cached_and_stream_with_a_number_each(tmp_path: Path) -> None:
    network, mixed = vision(), [*pictures(3), *pictures(2, side=6)]
    assert cache(network, mixed, "relu", folder=tmp_path, batch=2).count == 3 * 64 + 2 * 36
    with pytest.raises(BadInput, match="per_image"):
        list(islice(StreamSource(network, mixed, "relu", batch=2).batches(8), 30))
    assert len(epoch(StreamSource(network, mixed, "relu", batch=2, per_image=4))) == 20


def test_stimuli_that_cannot_be_loaded_are_counted(tmp_path: Path) -> None:
    def broken() -> torch.Tensor:
        raise BadInput("it is torn.")

    good = [Stimulus(f"s{n}", "tensor", "here", lambda n=n: pictures()[n]) for n in range(4)]
    stimuli = StimulusSet("some", [*good, Stimulus("torn", "tensor", "here", broken)])
    source = cache(vision(), stimuli, "relu", folder=tmp_path, batch=2, shard_rows=64)
    assert (source.count, source.manifest.skipped) == (4 * 64, 1)
    read = [Stimulus(f"t{n}", "text", "here", lambda n=n: texts()[n]) for n in range(4)]
    some = StimulusSet("some", [read[0], Stimulus("torn", "text", "here", broken), *read[1:]])
    packed = cache(language(), some, SITE, folder=tmp_path / "texts", window=8)
    assert packed.manifest.skipped == 1
    assert packed.fingerprint != source.fingerprint
    whole = cache(language(), texts()[:4], SITE, folder=tmp_path / "whole", window=8)
    assert packed.fingerprint == whole.fingerprint


WORKER = """
import sys, time, torch
torch.set_num_threads(1)
from cutaway.bases.activations import cache
from tests.bases.activations.small import pictures, vision
def slowly(done, total):
    print(done, flush=True)
    time.sleep(0.05)
cache(vision(), pictures(20), "relu", folder=sys.argv[1], batch=1, shard_rows=64, progress=slowly)
"""


def mapped(folder: Path) -> ShardSource:
    return cache(vision(), pictures(20), "relu", folder=folder, batch=1, shard_rows=64)


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    mapped(tmp_path / "whole")
    folder = tmp_path / "killed"
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert [worker.stdout.readline() for _ in range(2)] == ["1\n", "2\n"]
    with pytest.raises(BadInput, match="Another process"):
        mapped(folder)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(timeout=30)
    worker.stdout.close()
    done = read_manifest(folder)
    assert 2 <= len(done.shards) < done.planned
    with pytest.raises(BadFile, match="goes on where it was"):
        ShardSource(folder)
    (folder / ".shard-00007.safetensors.1.tmp").write_bytes(b"half")
    ages = {shard.file: (folder / shard.file).stat().st_mtime_ns for shard in done.shards}
    time.sleep(0.01)
    mapped(folder)
    assert {name: (folder / name).stat().st_mtime_ns for name in ages} == ages
    assert stored(folder) == stored(tmp_path / "whole")
    assert not list(folder.glob(".*.tmp"))
