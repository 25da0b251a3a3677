"""Files of a report: all formats are rendered first, then written whole or not at all."""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from cutaway.audits.findings import AuditResult
from cutaway.errors import BadInput, UnknownName
from cutaway.report.html import render_html
from cutaway.report.json_twin import render_json
from cutaway.report.markdown import render_markdown

FORMATS: dict[str, Callable[[AuditResult], str]] = {
    "html": render_html,
    "md": render_markdown,
    "json": render_json,
}


def write_report(
    result: AuditResult, folder: str | Path, *, formats: Sequence[str] = ("html", "md", "json")
) -> dict[str, Path]:
    """Writes ``report.html``, ``report.md`` and ``report.json`` into ``folder`` (made if absent) and returns their
    paths by format.

    Each file appears whole or not at all: an earlier report stays until all new ones are on the disk. A folder
    that cannot be written to, or a full disk, raises :class:`BadInput` and leaves nothing half-written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UnknownName("report format", unknown[0], FORMATS, f"Choose from {', '.join(FORMATS)}.")
    texts = {name: FORMATS[name](result) for name in formats}
    paths = {name: Path(folder) / f"report.{name}" for name in texts}
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _write_all([(paths[name], text.encode()) for name, text in texts.items()])
    except OSError as error:
        raise BadInput(_explained(error, Path(folder))) from error
    return paths


def _write_all(files: Sequence[tuple[Path, bytes]]) -> None:
    """Every file to a temporary neighbour first; only when all are on the disk do they take their names."""
    temporary = [path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp") for path, _ in files]
    try:
        for place, (_, content) in zip(temporary, files, strict=True):
            _write_through(place, content)
        for place, (path, _) in zip(temporary, files, strict=True):
            place.replace(path)
    finally:
        for place in temporary:
            with contextlib.suppress(OSError):
                place.unlink(missing_ok=True)


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _explained(error: OSError, folder: Path) -> str:
    asked = f"The report was to be written to {folder}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{asked}, but the disk is full; free some space or choose another folder (nothing was written)."
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"{asked}, but that path is a file; choose a folder."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{asked}, but writing there is not permitted; choose a folder that you may write to."
    return f"{asked}, but the system refused ({error.strerror or error}); mend that or choose another folder."
