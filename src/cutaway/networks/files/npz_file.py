"""npz: a zip of numpy arrays, read without pickle; object arrays, which need it, are refused."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from cutaway.networks.files.reading import bad_file, check_expansion, check_limit, count, is_shape, reading

MOST_HEADER_BYTES = 10_000


def read(path: Path, *, limit_bytes: int) -> dict[str, Tensor]:
    """The arrays of an npz file as tensors; raises ``BadFile``."""
    with reading(path, "npz"), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        needed = sum(info.file_size for info in members)
        check_limit(path, needed, limit_bytes)
        check_expansion(path, needed)
        if not members:
            raise bad_file(path, "holds no numpy arrays")
        return {info.filename.removesuffix(".npy"): _read_array(path, archive, info) for info in members}


def _read_array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Tensor:
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file)
        if dtype.kind not in "biufc":
            do = "save its arrays as plain numbers"
            raise bad_file(path, f"holds {info.filename!r}, an array of {dtype} that is not numeric", do)
        if not is_shape(shape) or count(shape) * dtype.itemsize != info.file_size - file.tell():
            raise bad_file(path, f"declares a shape for {info.filename!r} that its bytes do not fill")
        data = bytearray(file.read())
    flat = np.frombuffer(data, dtype=dtype)
    array = flat.reshape(shape, order="F" if fortran else "C")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype.newbyteorder("="))).reshape(shape)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read_header(file, max_header_size=MOST_HEADER_BYTES)
