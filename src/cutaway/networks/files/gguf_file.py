"""GGUF: the file format of llama.cpp, with its quantized blocks.

The layout (magic, version, counts, metadata, tensor table, aligned data) is walked here with every length
held against the file, following https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; only then the
``gguf`` package dequantizes the blocks. ``validate_gguf`` is that walk alone, for files that another
library will read.
"""

import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.errors import missing_extra
from cutaway.networks.files.reading import bad_file, check_limit, count, human, is_shape, mapped, reading

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_AXES = 4
_MOST_ALIGNMENT = 2**16
_PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


@dataclass(frozen=True)
class GgufTensor:
    """One row of a GGUF file's tensor table: shape in torch order, place in bytes from the start of the
    file.
    """

    name: str
    shape: tuple[int, ...]
    quantization: str
    start: int
    stop: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself: enough to know what it is before anything is loaded."""

    version: int
    architecture: str
    metadata: Mapping[str, Any]
    """The metadata's numbers and texts; arrays are left out."""
    tensors: tuple[GgufTensor, ...]

    @property
    def tensor_count(self) -> int:
        """Number of tensors."""
        return len(self.tensors)

    @property
    def quantizations(self) -> dict[str, int]:
        """How many tensors are stored in each format, most frequent first: ``{"Q4_1": 210, "F32": 61}``."""
        return dict(Counter(tensor.quantization for tensor in self.tensors).most_common())


def validate_gguf(path: str | Path) -> GgufHeader:
    """The checked header of a GGUF file: every length, shape, type and place in it fits the file.

    Raises ``BadFile`` at the first thing that does not fit, ``Unavailable`` without the ``gguf`` package
    (it knows the sizes of the quantized blocks).
    """
    path = Path(path)
    with reading(path, "GGUF"), mapped(path) as view:
        return _Walk(path, view).header()


def read(path: Path, *, limit_bytes: int) -> dict[str, Tensor]:
    """The tensors of a GGUF file, quantized ones dequantized to float32; raises ``BadFile``."""
    header = validate_gguf(path)
    check_limit(path, 4 * sum(count(tensor.shape) for tensor in header.tensors), limit_bytes)
    with reading(path, "GGUF"), mapped(path) as view:
        return {tensor.name: _values(view, tensor) for tensor in header.tensors}


def _values(view: mmap.mmap, tensor: GgufTensor) -> Tensor:
    data = view[tensor.start : tensor.stop]
    if tensor.quantization in _PLAIN:
        return torch.from_numpy(np.frombuffer(data, _PLAIN[tensor.quantization]).copy()).reshape(tensor.shape)
    gguf = _gguf()
    blocks = np.frombuffer(data, np.uint8).reshape(*tensor.shape[:-1], -1)
    with np.errstate(all="ignore"):  # damaged scales may overflow; that is a value, not a fault of the format
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[tensor.quantization])
    return torch.from_numpy(np.ascontiguousarray(values)).reshape(tensor.shape)


class _Walk:
    """A cursor over the header that never reads past the end of the file."""

    def __init__(self, path: Path, view: mmap.mmap) -> None:
        self.path, self.view, self.at = path, view, 0

    def header(self) -> GgufHeader:
        if self.take(4) != b"GGUF":
            raise bad_file(self.path, "does not begin with the GGUF magic", "give a GGUF file")
        version = self.number("I")
        if version not in (2, 3):
            do = "convert it to version 3, little-endian"
            raise bad_file(self.path, f"is of GGUF version {version}; versions 2 and 3 can be read", do)
        tensor_count, metadata_count = self.number("Q"), self.number("Q")
        self.expect_room(tensor_count, 24, "tensors")
        self.expect_room(metadata_count, 13, "metadata entries")
        metadata = self.metadata(metadata_count)
        tensors = self.tensor_table(tensor_count, metadata.get("general.alignment", 32))
        plain = {key: value for key, value in metadata.items() if value is not None}
        return GgufHeader(version, str(metadata.get("general.architecture", "")), plain, tensors)

    def take(self, size: int) -> bytes:
        if size > len(self.view) - self.at:
            raise bad_file(self.path, f"ends inside its GGUF header, at byte {len(self.view)}")
        self.at += size
        return self.view[self.at - size : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def expect_room(self, items: int, least_bytes: int, what: str) -> None:
        if items * least_bytes > len(self.view) - self.at:
            raise bad_file(self.path, f"declares {items} {what}, more than its {human(len(self.view))} can hold")

    def metadata(self, entries: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(entries):
            key = self.text()
            if key in found:
                raise bad_file(self.path, f"repeats the metadata key {key[:60]!r}")
            found[key] = self.value(self.number("I"))
        return found

    def value(self, kind: int, depth: int = 0) -> Any:
        """One metadata value; an array is walked and dropped (``None``)."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY and depth < 4:
            self.skip_array(self.number("I"), self.number("Q"), depth)
            return None
        raise bad_file(self.path, f"holds metadata of an unknown type ({kind})")

    def skip_array(self, kind: int, items: int, depth: int) -> None:
        if kind in _SCALARS:
            size = struct.calcsize(_SCALARS[kind])
            self.expect_room(items, size, "array items")
            self.at += items * size
            return
        self.expect_room(items, 8, "array items")
        for _ in range(items):
            self.value(kind, depth + 1)

    def tensor_table(self, rows: int, alignment: Any) -> tuple[GgufTensor, ...]:
        if type(alignment) is not int or not 0 < alignment <= _MOST_ALIGNMENT or alignment % 8:
            raise bad_file(self.path, f"declares an impossible alignment ({alignment!r})")
        raw = [self.tensor_row() for _ in range(rows)]
        if len({name for name, *_ in raw}) != rows:
            raise bad_file(self.path, "repeats a tensor name")
        base = -(-self.at // alignment) * alignment
        tensors = tuple(self.placed(*row, base=base, alignment=alignment) for row in raw)
        self.expect_no_overlap(tensors)
        return tensors

    def tensor_row(self) -> tuple[str, tuple[int, ...], int, int]:
        name, axes = self.text(), self.number("I")
        if axes > _MOST_AXES:
            raise bad_file(self.path, f"gives the tensor {name[:60]!r} {axes} axes; GGUF allows {_MOST_AXES}")
        shape = tuple(self.number("Q") for _ in range(axes))
        return name, shape[::-1], self.number("I"), self.number("Q")

    def placed(
        self, name: str, shape: tuple[int, ...], kind: int, offset: int, *, base: int, alignment: int
    ) -> GgufTensor:
        gguf = _gguf()
        known = {int(each): each for each in gguf.GGML_QUANT_SIZES}
        if kind not in known or not is_shape(shape):
            raise bad_file(self.path, f"gives the tensor {name[:60]!r} an unknown type or an impossible shape")
        block, block_bytes = gguf.GGML_QUANT_SIZES[known[kind]]
        if (shape[-1] if shape else 1) % block or offset % alignment:
            raise bad_file(self.path, f"cuts the tensor {name[:60]!r} inside a block or places it off its alignment")
        start = base + offset
        stop = start + count(shape) // block * block_bytes
        if stop > len(self.view):
            found = f"ends at byte {len(self.view)} and places the tensor {name[:60]!r} up to byte {stop}"
            raise bad_file(self.path, found)
        return GgufTensor(name, shape, known[kind].name, start, stop)

    def expect_no_overlap(self, tensors: tuple[GgufTensor, ...]) -> None:
        filled = sorted((tensor.start, tensor.stop, tensor.name) for tensor in tensors if tensor.stop > tensor.start)
        for (_, stop, first), (start, _, second) in pairwise(filled):
            if start < stop:
                raise bad_file(self.path, f"lets the tensors {first[:60]!r} and {second[:60]!r} overlap")


def _gguf() -> ModuleType:
    try:
        import gguf
    except ImportError as error:
        raise missing_extra("gguf", "language", "Reading GGUF files") from error
    return gguf
