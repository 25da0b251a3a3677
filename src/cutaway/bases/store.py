"""Bases by name: those that ship with cutaway, or any folder that holds one.

A shipped basis is a folder in cutaway's own format inside the package; its folder's name is the name to ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutaway.bases.basis import Basis, Origin
from cutaway.bases.formats import describe, load
from cutaway.bases.formats.checked import count, section, text
from cutaway.bases.formats.parts import origin_from
from cutaway.errors import BadInput, UnknownName
from cutaway.networks.network import Network

#: The folder of the shipped bases, one folder each.
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Shipped:
    """What is known of a shipped basis without loading it; ``about`` is what was written beside it."""

    name: str
    folder: Path
    type: str
    width: int
    origin: Origin | None
    about: dict[str, Any]

    @property
    def bytes(self) -> int:
        """What its files take on the disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())


def list_bases(network: Network | None = None) -> list[Shipped]:
    """The shipped bases by name; with ``network``, those that were learned on it (by fingerprint)."""
    folders = sorted(path.parent for path in SHIPPED.glob("*/basis.json")) if SHIPPED.is_dir() else []
    found = [_shipped(folder) for folder in folders]
    if network is None:
        return found
    return [each for each in found if each.origin is not None and each.origin.fingerprint == network.fingerprint]


def open_basis(name_or_path: str | Path, network: Network | None = None, **options: Any) -> Basis:
    """The basis of a shipped name, or of a folder in any format that :func:`cutaway.bases.formats.load` reads.

    What has a separator in it, or is a folder, is a path; anything else is a name, and wins over a folder of that
    name. With ``network``, a basis of another network or width is refused. ``options`` are those of ``load``
    (``reads``, ``writes``, ``name``). Raises ``UnknownName`` with suggestions, ``BadFile`` for a damaged folder.
    """
    name = str(name_or_path)
    if not name:
        raise BadInput("A basis without a name was asked for; give a name or the path of a folder.")
    known = {each.name: each for each in list_bases()}
    if name in known:
        return load(known[name].folder, network, **{"name": name, **options})
    path = Path(name_or_path).expanduser()
    if path.is_dir() or isinstance(name_or_path, Path) or any(mark in name for mark in "/\\"):
        return load(path, network, **options)
    raise UnknownName("basis", name, known, "Give one of those that are shipped, or the path of a folder.")


def _shipped(folder: Path) -> Shipped:
    said, path = describe(folder), folder / "basis.json"
    about = dict(section(path, said, "about"))
    width, origin = count(path, said, "width"), origin_from(path, said.get("origin"))
    return Shipped(folder.name, folder, text(path, said, "type"), width, origin, about)
