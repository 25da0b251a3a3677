"""What the readers share: the error, the size limits, and the net under the libraries that they call."""

import math
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cutaway.errors import BadFile, CutawayError

LIMIT_BYTES = 32 * 2**30
"""Most bytes that the tensors of one file may take in memory, unless the caller says otherwise."""

EXPANSION = 64
"""Most that a compressed file may grow when it is read (compressed weights rarely reach 10)."""

EXPANSION_FREE_BYTES = 16 * 2**20
"""A file may always grow to this size: small files of zeros compress well and harm nobody."""

AGAIN = "fetch or export it again"


def bad_file(path: Path, found: str, do: str = AGAIN) -> BadFile:
    """The error for ``path``: what was found in it, and what to do."""
    return BadFile(f"{path} {found}; {do}.")


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a parser raises on a damaged file into a ``BadFile``.

    The net is wide on purpose: parsers of foreign bytes fail with a dozen exception types, ``MemoryError``
    and ``RecursionError`` among them, and to the user all of them mean the same. A full disk or a missing
    right to read stays an ``OSError`` of its own kind only in the sentence.
    """
    try:
        yield
    except CutawayError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise bad_file(path, f"cannot be read as {kind} ({reason})") from error


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file as read-only memory: reads past its end come back short instead of allocating what was
    asked.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        yield view


def check_limit(path: Path, needed: int, limit_bytes: int) -> None:
    """Refuse tensors that take more memory than the caller allows."""
    if needed > limit_bytes:
        raise bad_file(
            path,
            f"declares {human(needed)} of tensors, more than the limit of {human(limit_bytes)}",
            "raise limit_bytes if you trust it",
        )


def check_expansion(path: Path, needed: int) -> None:
    """Refuse a file that would grow out of proportion when read: a decompression bomb."""
    size = path.stat().st_size
    if needed > max(EXPANSION_FREE_BYTES, EXPANSION * size):
        raise bad_file(
            path,
            f"holds {human(size)} and declares {human(needed)} of tensors, as a decompression bomb does",
            "export it again as safetensors if you trust it",
        )


def is_shape(value: object, most_axes: int = 32) -> bool:
    """Whether ``value`` is a sequence of at most ``most_axes`` plain non-negative integers below 2**48."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > most_axes:
        return False
    return all(type(size) is int and 0 <= size < 2**48 for size in value)


def count(shape: Sequence[int]) -> int:
    """Number of elements of a tensor of this shape."""
    return math.prod(shape)


def human(size: int) -> str:
    """A size in bytes as a person says it: ``human(98_362_432) == "98.4 MB"``."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
