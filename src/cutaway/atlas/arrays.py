"""The array store: safetensors files that are named by the sha256 of their bytes.

A name that is a hash makes three things cheap: the same arrays are stored once, two processes may write the same
file, and a file that was cut short or changed gives itself away. A file appears under its name only when it is
complete (written beside it, flushed to the disk, then renamed).
"""

import contextlib
import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cutaway.errors import AtlasError, BadInput, DamagedArray

_HASH = re.compile(r"[0-9a-f]{64}")
#: A file that no row names yet may belong to a row that is about to be written.
GRACE_SECONDS = 3600.0


@dataclass(frozen=True)
class Packed:
    """Named arrays as the bytes of a file, and the name that these bytes have."""

    hash: str
    data: bytes


def pack(arrays: Mapping[str, Tensor | np.ndarray]) -> Packed:
    """Named arrays of any numeric dtype as safetensors bytes; the same arrays give the same bytes."""
    data = save({name: _plain(name, arrays[name]) for name in sorted(arrays)})
    return Packed(hashlib.sha256(data).hexdigest(), data)


def _plain(name: str, array: Tensor | np.ndarray) -> Tensor:
    if isinstance(array, Tensor):
        return array.detach().cpu().contiguous()
    try:
        # ascontiguousarray would turn a single number into an array of one.
        return torch.from_numpy(array.copy(order="C"))
    except TypeError as error:
        raise BadInput(f"Array {name!r} of type {array.dtype} cannot be stored; give numbers or booleans.") from error


class ArrayStore:
    """The folder ``arrays/`` of an atlas: ``arrays/ab/abcdef....safetensors``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, array_hash: str) -> Path:
        """The file of this hash, whether it exists or not; anything but a sha256 in hex is refused."""
        if not _HASH.fullmatch(array_hash):
            raise AtlasError(f"{array_hash!r} was asked for; the name of an array is 64 hex digits, check the atlas.")
        return self.folder / array_hash[:2] / f"{array_hash}.safetensors"

    def put(self, packed: Packed) -> None:
        """Writes the file unless it is there, whole, already; afterwards it is on the disk."""
        path = self.path(packed.hash)
        if self.damage(packed.hash) is None:
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)  # young again: the clean-up of another process leaves it alone
                return
        temporary = path.with_name(f".{packed.hash[:16]}.{os.getpid()}.{time.monotonic_ns()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_through(temporary, packed.data)
            temporary.replace(path)
            _flush_folder(path.parent)
        except OSError as error:
            raise AtlasError(explain_os_error(error, f"store an array of {len(packed.data)} bytes", path)) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def get(self, array_hash: str) -> dict[str, Tensor]:
        """The arrays of this file; :class:`DamagedArray` names one that is missing, cut short or changed."""
        damage = self.damage(array_hash)
        path = self.path(array_hash)
        if damage is None:
            try:
                return load(path.read_bytes())
            except (SafetensorError, ValueError, KeyError, OSError) as error:
                damage = f"holds no safetensors data ({error})"
        raise DamagedArray(
            f"Array file {path} was asked for and {damage}; run the command that made it again to recompute it."
        )

    def damage(self, array_hash: str) -> str | None:
        """What is wrong with a file, in words; None if its bytes have the hash that is its name."""
        path = self.path(array_hash)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                return "is not a regular file"
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return None if found == array_hash else f"is damaged (its content has the sha256 {found[:12]}...)"

    def hashes(self) -> Iterator[str]:
        """The hashes of all files in the store."""
        for path in self.folder.glob("??/*.safetensors"):
            if _HASH.fullmatch(path.stem):
                yield path.stem

    def discard(self, hashes: Iterable[str], *, older_than: float = 0.0) -> int:
        """Deletes files that were last written at least ``older_than`` seconds ago; returns how many."""
        paths = (self.path(array_hash) for array_hash in hashes)
        return sum(_unlink_if_old(path, older_than) for path in paths)

    def discard_leftovers(self, *, older_than: float) -> int:
        """Deletes the half-written files of killed processes; returns how many."""
        return sum(_unlink_if_old(path, older_than) for path in self.folder.glob("??/.*.tmp"))


def explain_os_error(error: OSError, asked: str, path: Path) -> str:
    """One sentence for a failed write: what was asked, what the system said, what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"There was no space left to {asked} ({path}); free some and run again, what is stored is kept."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"It is not permitted to {asked} ({path}); choose a folder that you can write to."
    return f"The system could not {asked} ({path}: {error.strerror or error}); mend that and run again."


def _unlink_if_old(path: Path, older_than: float) -> bool:
    try:
        if time.time() - path.stat().st_mtime < older_than:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _write_through(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """Makes a rename survive a power cut, where folders can be flushed (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
