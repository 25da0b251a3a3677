"""PyTorch files (.pt, .pth, .bin): a zip archive since PyTorch 1.6, a run of pickles before; both read as
data.

The pickle that names the tensors goes through ``pickle_data`` and cannot run anything; the numbers are then
taken from the file by our own arithmetic, every storage and view held against the bytes that are there.
"""

import mmap
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.networks.files.pickle_data import StorageRef, TensorRef, load_data
from cutaway.networks.files.reading import (
    bad_file,
    check_expansion,
    check_limit,
    count,
    human,
    mapped,
    reading,
)

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""What the first pickle of the layout before PyTorch 1.6 says."""

MOST_VALUES = 200_000
"""Most tensors and containers in one file; numbers and texts beside them do not count."""

MOST_DEPTH = 64
MOST_PICKLE_BYTES = 256 * 2**20

_WALKED = (TensorRef, dict, list, tuple)

Bytes = Callable[[StorageRef], bytearray]


def read(path: Path, *, limit_bytes: int) -> dict[str, Tensor]:
    """The tensors of a PyTorch file, nested names joined by dots; raises ``BadFile``, and says so of
    code in it.
    """
    with reading(path, "a PyTorch file"):
        check_limit(path, path.stat().st_size, limit_bytes)
        tensors = _read_zip(path, limit_bytes) if _begins_as_zip(path) else _read_legacy(path, limit_bytes)
    if not tensors:
        raise bad_file(path, "holds no tensors", "save a state dict: torch.save(module.state_dict(), path)")
    return tensors


def _begins_as_zip(path: Path) -> bool:
    """By the first bytes, not by the archive's end: a pickle with an archive behind it is a pickle."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _read_zip(path: Path, limit_bytes: int) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        _check_members(path, members)
        pickles = [name for name in members if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(pickles) != 1:
            raise bad_file(path, "is a zip archive without one data.pkl, so no PyTorch file", "give a weights file")
        root = pickles[0].removesuffix("data.pkl")
        if root + "constants.pkl" in members:
            raise bad_file(path, "is a TorchScript program, not weights", "save its state dict instead")
        if root + "byteorder" in members and archive.read(root + "byteorder") != sys.byteorder.encode():
            raise bad_file(path, "was written with the other byte order", "save it again on this kind of machine")
        value = load_data(path, BytesIO(archive.read(pickles[0])))
        return _tensors(path, value, lambda ref: bytearray(archive.read(f"{root}data/{ref.key}")), limit_bytes)


def _check_members(path: Path, members: Mapping[str, zipfile.ZipInfo]) -> None:
    """PyTorch stores its members uncompressed; anything else could grow when it is read."""
    for name, info in members.items():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise bad_file(path, f"holds the compressed member {name[:60]!r}, which PyTorch never writes")
        if name.endswith("data.pkl") and info.file_size > MOST_PICKLE_BYTES:
            raise bad_file(path, f"holds a pickle of {human(info.file_size)}")
    if sum(info.file_size for info in members.values()) > path.stat().st_size:
        raise bad_file(path, "declares members that are larger than the file")


def _read_legacy(path: Path, limit_bytes: int) -> dict[str, Tensor]:
    with mapped(path) as view:
        if load_data(path, view) != MAGIC_NUMBER:
            raise bad_file(path, "is a pickle that PyTorch did not write", "give a weights file; nothing was run")
        _protocol, _system = load_data(path, view), load_data(path, view)
        value, keys = load_data(path, view), load_data(path, view)
        storages = {ref.storage.key: ref.storage for _, ref in _walk(path, value)}
        places = _legacy_places(path, view, keys, storages)
        return _tensors(path, value, lambda ref: bytearray(view[slice(*places[ref.key])]), limit_bytes)


def _legacy_places(
    path: Path, view: mmap.mmap, keys: Any, storages: Mapping[str, StorageRef]
) -> dict[str, tuple[int, int]]:
    """Where each storage lies behind the pickles: a count of elements, then the elements."""
    places: dict[str, tuple[int, int]] = {}
    at = view.tell()
    for key in keys:
        storage = storages.get(key) if type(key) is str else None
        if storage is None:  # its length is in elements, and only a tensor tells how large these are
            raise bad_file(path, "lists a storage that no tensor uses")
        start, at = at + 8, at + 8 + storage.numel * storage.dtype.itemsize
        if at > len(view) or int.from_bytes(view[start - 8 : start], sys.byteorder) != storage.numel:
            raise bad_file(path, f"ends or contradicts itself inside the storage {key[:60]!r}")
        places[key] = (start, at)
    return places


def _tensors(path: Path, value: Any, data: Bytes, limit_bytes: int) -> dict[str, Tensor]:
    found = list(_walk(path, value["state_dict"] if _has_state_dict(value) else value))
    needed = sum(count(ref.size) * ref.dtype.itemsize for _, ref in found)
    check_limit(path, needed, limit_bytes)
    check_expansion(path, needed)  # a view of stride zero can be as large as it likes
    storages: dict[StorageRef, bytearray] = {}
    tensors: dict[str, Tensor] = {}
    for name, ref in found:
        if ref.storage not in storages:
            storages[ref.storage] = _checked(path, ref.storage, data)
        if name in tensors:
            raise bad_file(path, f"repeats the tensor name {name[:60]!r}")
        tensors[name] = _view(path, name, ref, storages[ref.storage])
    return tensors


def _has_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("state_dict"), dict)


def _checked(path: Path, storage: StorageRef, data: Bytes) -> bytearray:
    content = data(storage)
    if len(content) != storage.numel * storage.dtype.itemsize:
        declared = f"{storage.numel} numbers for the storage {storage.key[:60]!r}"
        raise bad_file(path, f"declares {declared} and holds {human(len(content))}")
    return content


def _view(path: Path, name: str, ref: TensorRef, storage: bytearray) -> Tensor:
    if not count(ref.size):
        return torch.empty(ref.size, dtype=ref.dtype)
    last = ref.offset + sum((size - 1) * stride for size, stride in zip(ref.size, ref.stride))
    if (last + 1) * ref.dtype.itemsize > len(storage):
        raise bad_file(path, f"lets the tensor {name[:60]!r} reach beyond its storage")
    flat = torch.frombuffer(storage, dtype=ref.dtype, count=len(storage) // ref.dtype.itemsize)
    return flat.as_strided(ref.size, ref.stride, ref.offset).contiguous()


def _walk(path: Path, value: Any) -> Iterator[tuple[str, TensorRef]]:
    """All tensors with their dotted names; visits a bounded number of values, however they refer to each
    other.
    """
    stack: list[tuple[tuple[str, ...], Any]] = [((), value)] if isinstance(value, _WALKED) else []
    visited = 0
    while stack:
        names, item = stack.pop()
        visited += 1
        if visited > MOST_VALUES or len(names) > MOST_DEPTH:
            raise bad_file(path, "nests its values more deeply or more often than weights do")
        if isinstance(item, TensorRef):
            yield ".".join(names) or "tensor", item
            continue
        pairs = item.items() if isinstance(item, dict) else enumerate(item)
        inner = [((*names, str(key)), each) for key, each in pairs if isinstance(each, _WALKED)]
        stack.extend(inner[::-1])
