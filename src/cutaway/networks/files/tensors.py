"""The one door: find out what a file is from its content, and hand it to the reader of that format."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from cutaway.networks.files import gguf_file, hdf5_file, npz_file, safetensors_file, torch_file
from cutaway.networks.files.reading import LIMIT_BYTES, bad_file

Reader = Callable[..., dict[str, Tensor]]

READERS: dict[str, Reader] = {
    "safetensors": safetensors_file.read,
    "gguf": gguf_file.read,
    "hdf5": hdf5_file.read,
    "npz": npz_file.read,
    "torch": torch_file.read,
}

_BY_SUFFIX = {
    ".safetensors": "safetensors",
    ".gguf": "gguf",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".keras": "hdf5",
}
_BY_SUFFIX |= {".npz": "npz", ".pt": "torch", ".pth": "torch", ".bin": "torch", ".ckpt": "torch"}

_IMPOSTORS = {
    b"version https://git-lfs": ("is a Git LFS pointer, not the weights", "run git lfs pull in its folder"),
    b"<!DOCTYPE": ("is a web page, not weights", "download the file itself"),
    b"<html": ("is a web page, not weights", "download the file itself"),
}


def read_tensors(path: str | Path, *, limit_bytes: int = LIMIT_BYTES) -> dict[str, Tensor]:
    """The tensors of a weights file, by name, read as data: nothing in the file is executed.

    The format is found from the content (safetensors, GGUF, HDF5, PyTorch, npz); the suffix only decides
    whose complaint is shown about a file that is none of them. GGUF tensors come dequantized, HDF5 names
    are the paths of the datasets (``block1/vars/0``), nested PyTorch dictionaries are joined by dots
    (``state_dict`` is unwrapped).

    ``limit_bytes`` is the most memory that the tensors may take. Raises ``BadFile`` for anything that
    cannot be read safely and completely, ``Unavailable`` if the format needs a package that is not
    installed.
    """
    path = Path(path)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise bad_file(path, found, "give the path of one weights file")
    return READERS[format_of(path)](path, limit_bytes=limit_bytes)


def format_of(path: Path) -> str:
    """The format of a weights file, a key of ``READERS``, by its content first; raises ``BadFile`` if
    there is none.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise bad_file(path, "is empty")
    for magic, (found, do) in _IMPOSTORS.items():
        if head.startswith(magic):
            raise bad_file(path, found, do)
    known = _by_magic(path, head) or _BY_SUFFIX.get(path.suffix.lower())
    if known is None:
        found = f"is none of the formats that can be read ({', '.join(READERS)}): it begins with {head[:8]!r}"
        raise bad_file(path, found, "convert it to safetensors")
    return known


def _by_magic(path: Path, head: bytes) -> str | None:
    if head.startswith(b"GGUF"):
        return "gguf"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if head.startswith(b"PK\x03\x04"):
        return "npz" if path.suffix.lower() == ".npz" else "torch"
    if len(head) > 8 and head[8:9] == b"{" and head[7] == 0:
        return "safetensors"
    return "torch" if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") else None
