"""Small files that other people may have written, and files that must be whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cutaway.errors import BadInput
from cutaway.networks.files.reading import bad_file, human, reading

#: No description of a basis or of a folder of shards is longer than that; a longer one is not read.
MOST_JSON_BYTES = 16 * 2**20


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; raises ``BadFile`` for one that is absent, damaged, huge or no object."""
    if not path.is_file():
        raise bad_file(path, "does not exist", "give the folder that holds it")
    if path.stat().st_size > MOST_JSON_BYTES:
        raise bad_file(path, f"holds {human(path.stat().st_size)}, more than a description takes")
    with reading(path, "JSON"):
        content = json.loads(path.read_text("utf-8"), parse_constant=_no_constant)
    if not isinstance(content, dict):
        raise bad_file(path, f"holds a JSON {type(content).__name__}, not an object")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes an object, readable and in its order, atomically; ``BadInput`` for a value that JSON cannot say."""
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{path.name} cannot be written ({error}); give plain, finite values.") from error
    write_whole(path, (text + "\n").encode())


def write_whole(path: Path, data: bytes) -> None:
    """Writes beside the file, flushes to the disk, then renames: the file is whole or as it was before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise BadInput(f"{path} could not be written ({error.strerror or error}); mend that and run again.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON knows")
