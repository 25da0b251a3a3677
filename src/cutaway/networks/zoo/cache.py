"""Where the zoo's files lie, and whether they are still what they were."""

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cutaway.networks.zoo.catalogue import ZooEntry, entry

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1

_known_good: set[tuple[str, int, int, str]] = set()
"""Files that this process has hashed: path, size, time of change and the hash they were held against."""


@dataclass(frozen=True)
class ZooStatus:
    """What the cache holds of one network."""

    name: str
    state: Literal["absent", "ready", "damaged"]
    folder: Path
    disk_bytes: int
    damaged: tuple[str, ...] = ()


def cache_folder() -> Path:
    """The folder of everything that cutaway fetches: ``$CUTAWAY_CACHE``, or ``cutaway`` in the user's
    cache folder.
    """
    if chosen := os.environ.get("CUTAWAY_CACHE"):
        return Path(chosen).expanduser()
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen).expanduser() / "cutaway"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "cutaway"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "cutaway" / "cache"
    return Path.home() / ".cache" / "cutaway"


def home(which: ZooEntry) -> Path:
    """The folder of one network of the zoo."""
    return cache_folder() / "zoo" / f"{which.name}-{which.version}"


def source_folder(which: ZooEntry) -> Path:
    """The files as they came out of the package."""
    return home(which) / "source"


def status(name: str) -> ZooStatus:
    """What the cache holds of a network, judged by the files' presence and size (``verify`` reads their
    content).
    """
    return judge(entry(name), read=False)


def judge(which: ZooEntry, *, read: bool) -> ZooStatus:
    """The state of a network's files; with ``read`` every byte is hashed again, without it only sizes
    are compared.
    """
    from cutaway.networks.zoo.convert import model_folder

    source, model = source_folder(which), model_folder(which)
    size = sum(file.stat().st_size for file in home(which).rglob("*") if file.is_file())
    if not source.is_dir() and not model.is_dir():
        return ZooStatus(which.name, "absent", model, size)
    wrong = [f"source/{name}" for name in damaged(source, source_records(which), read=read)]
    if model != source:
        wrong += [f"model/{name}" for name in damaged(model, manifest_records(model), read=read)]
    return ZooStatus(which.name, "damaged" if wrong else "ready", model, size, tuple(wrong))


def source_records(which: ZooEntry) -> dict[str, tuple[int, str]]:
    """Name to size and SHA-256 of the files out of the package, as the catalogue knows them."""
    return {file.name: (file.size, file.sha256) for file in which.files}


def manifest_records(folder: Path) -> dict[str, tuple[int, str]]:
    """Name to size and SHA-256 of prepared files, as the manifest beside them says; one impossible row
    without it.
    """
    manifest = read_manifest(folder)
    if not manifest:
        return {MANIFEST: (-1, "")}
    return {name: (int(row["size"]), str(row["sha256"])) for name, row in manifest["files"].items()}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder of prepared files, empty if there is none that can be used."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        rows = manifest["files"].values()
        usable = manifest["format"] == MANIFEST_FORMAT and all({"size", "sha256"} <= set(row) for row in rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return manifest if usable else {}


def write_manifest(folder: Path, made_by: dict[str, Any]) -> None:
    """Record size and hash of every file in the folder, and what made them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in files
    }
    text = json.dumps({"format": MANIFEST_FORMAT, "made_by": made_by, "files": rows}, indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def damaged(folder: Path, records: dict[str, tuple[int, str]], *, read: bool = True) -> list[str]:
    """Names of the files that are missing, or whose size or (with ``read``) content is not the recorded
    one.
    """
    return [name for name, record in records.items() if not _is_good(folder / name, *record, read=read)]


def trusted(folder: Path, records: dict[str, tuple[int, str]]) -> list[str]:
    """Like ``damaged``, but a file that this process has hashed before and that has not changed is not
    read again.
    """
    wrong = []
    for name, (size, sha256) in records.items():
        path = folder / name
        if not path.is_file():
            wrong.append(name)
            continue
        found = path.stat()
        mark = (str(path), found.st_size, found.st_mtime_ns, sha256)
        if mark not in _known_good:
            if _is_good(path, size, sha256, read=True):
                _known_good.add(mark)
            else:
                wrong.append(name)
    return wrong


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_good(path: Path, size: int, sha256: str, *, read: bool) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    return not read or sha256_of(path) == sha256
