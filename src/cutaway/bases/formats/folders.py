"""One door for all formats: a folder is recognized by the files in it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cutaway.bases.basis import Basis, Origin, check_origin
from cutaway.bases.dictionaries import Dictionary
from cutaway.bases.files import read_json
from cutaway.bases.formats import dictionary_learning, own, saelens, sparsify
from cutaway.errors import BadFile, BadInput, UnknownName
from cutaway.networks.files.reading import bad_file
from cutaway.networks.network import Network


@dataclass(frozen=True)
class Format:
    """The two files that mark a folder as of this format, and how it is read and written."""

    files: tuple[str, str]
    read: Callable[[Path], Basis]
    write: Callable[[Basis, Path], None] | None


#: By name; cutaway's own takes more options and is written by :func:`save` itself.
FORMATS: dict[str, Format] = {
    "cutaway": Format((own.JSON, own.TENSORS), own.read, None),
    "saelens": Format((saelens.JSON, saelens.TENSORS), saelens.read, saelens.write),
    "dictionary_learning": Format(
        (dictionary_learning.JSON, dictionary_learning.TENSORS), dictionary_learning.read, dictionary_learning.write
    ),
    "sparsify": Format((sparsify.JSON, sparsify.TENSORS), sparsify.read, sparsify.write),
}


def save(
    basis: Basis,
    folder: str | Path,
    *,
    format: str = "cutaway",
    dtype: str = "float32",
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Writes ``basis`` into ``folder`` and returns the folder; what lay there under the same names is replaced.

    cutaway's own format takes dictionaries, linear bases and non-negative parts; ``dtype`` is float32 (exact),
    float16, bfloat16 or int8 (matrices with a scale for each row), and ``about`` what a reader should know, in plain
    values. The other formats take dictionaries of the kinds that their libraries have, in float32. Raises
    ``UnknownName`` for a format, ``BadInput`` for a basis or a type that it does not hold.
    """
    where = Path(folder)
    _check_name(basis.name)
    if format not in FORMATS:
        raise UnknownName("format of bases", format, FORMATS)
    if dtype not in own.STORED or (format != "cutaway" and (dtype != "float32" or about)):
        raise BadInput(
            f"A basis in {dtype} was to be saved as {format}; cutaway's own format takes {', '.join(own.STORED)} and "
            "about=, the others float32 alone."
        )
    write = FORMATS[format].write
    with _disk(where):
        if write is None:
            own.write(basis, where, dtype=dtype, about=about or {})
        else:
            write(basis, where)
    return where


def load(
    folder: str | Path,
    network: Network | None = None,
    *,
    reads: str | None = None,
    writes: str | None = None,
    name: str | None = None,
) -> Basis:
    """The basis in a folder of any of the formats, in float32 on the processor.

    ``reads`` and ``writes`` name the sites where the file does not, or says so in words that are not ours; ``name``
    is what addresses will call it. With ``network``, a basis of another network (by fingerprint, where the file has
    one) or of another width than its sites is refused. Raises ``BadFile`` for a folder that cannot be used, before
    anything of it is kept.
    """
    where = Path(folder)
    if name is not None:
        _check_name(name)
    basis = _placed(_read(where), network, reads, writes, name)
    if network is not None:
        check_fits(basis, network)
    return basis


def describe(folder: str | Path) -> dict[str, Any]:
    """What a folder in cutaway's own format says of itself, without loading its tensors; raises ``BadFile``."""
    path = Path(folder) / own.JSON
    config = read_json(path)
    if config.get("format") != own.FORMAT:
        raise bad_file(path, "describes no basis", "give a folder in cutaway's own format")
    return config


def format_of(folder: Path) -> str:
    """The name of a folder's format, by its files; raises ``BadFile`` if it has none."""
    found = [name for name, each in FORMATS.items() if all((folder / file).is_file() for file in each.files)]
    if found:
        return found[0]
    half = [file for each in FORMATS.values() for file in each.files if (folder / file).is_file()]
    if not folder.is_dir():
        raise bad_file(folder, "is no folder", "give the folder that holds a basis")
    marks = "; ".join(f"{' and '.join(each.files)} ({name})" for name, each in FORMATS.items())
    raise bad_file(folder, f"holds {half[0] + ' alone' if half else 'no basis'}", f"give a folder with {marks}")


def check_fits(basis: Basis, network: Network) -> None:
    """Raises ``BadInput`` unless the basis is of this network and as wide as its sites."""
    origin = check_origin(basis, network)
    site = network.site(origin.reads)
    d_in = basis.d_in if isinstance(basis, Dictionary) else int(basis.directions().shape[1])
    if site.width is not None and not site.heads and site.width != d_in:
        raise BadInput(
            f"The basis {basis.name!r} reads vectors of {d_in} units, and {site.name} of {network.name} has "
            f"{site.width}; take a basis of that width."
        )


def _read(folder: Path) -> Basis:
    """What the folder's reader makes of it; what a basis itself refuses is a fault of the file."""
    try:
        return FORMATS[format_of(folder)].read(folder)
    except BadFile:
        raise
    except (BadInput, UnknownName) as error:
        raise bad_file(folder, f"holds no basis that can be used ({str(error).rstrip('.?')})") from error


def _check_name(name: str) -> None:
    """A name must go into an address, SITE@NAME:7."""
    if not re.fullmatch(r"[^:@\s]+", name):
        raise BadInput(f"A basis was to be called {name!r}, which no address can hold; leave out spaces, ':' and '@'.")


def _placed(basis: Any, network: Network | None, reads: str | None, writes: str | None, name: str | None) -> Basis:
    origin: Origin | None = basis.origin
    if writes is not None and reads is None and origin is None:
        raise BadInput(f"The site {writes} was given to be written and none to be read; give reads= too.")
    if reads is not None or writes is not None:
        first = reads or (origin.reads if origin else "")
        known = origin or Origin(network.name if network else "", "", first, first)
        kept = origin.writes if origin and origin.replaces else first
        origin = replace(known, reads=first, writes=writes or kept)
    if isinstance(basis, Dictionary):
        basis.origin, basis.name = origin, name or basis.name
        return basis
    return replace(basis, origin=origin, name=name or basis.name)


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A folder that cannot be written is one sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise BadInput(f"{folder} could not be written ({error.strerror or error}); name another folder.") from error
