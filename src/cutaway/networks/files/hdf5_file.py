"""HDF5 (Keras weights and others), read by a short-lived child process: the C library may crash there
and not here.
"""

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from cutaway.errors import missing_extra
from cutaway.networks.files import hdf5_child, safetensors_file
from cutaway.networks.files.reading import EXPANSION, EXPANSION_FREE_BYTES, bad_file

SECONDS = 60
SECONDS_PER_GB = 60


def read(path: Path, *, limit_bytes: int) -> dict[str, Tensor]:
    """The arrays of an HDF5 file as tensors, named by their paths in it (``block1/layers/conv2d/vars/0``).

    Arrays that hold no numbers are left out; links to other files are refused. A crash, a hang or a refusal
    of the child is a ``BadFile``; a missing ``h5py`` is ``Unavailable``.
    """
    if find_spec("h5py") is None:
        raise missing_extra("h5py", "hdf5", "Reading HDF5 files")
    with tempfile.TemporaryDirectory(prefix="cutaway-hdf5-") as folder:
        target = Path(folder) / "tensors.safetensors"
        _convert(path, target, limit_bytes)
        tensors = safetensors_file.read(target, limit_bytes=2 * limit_bytes)
        owned = {name: tensor.clone() for name, tensor in tensors.items()}
    if not owned:
        raise bad_file(path, "holds no arrays of numbers", "give a weights file")
    return owned


def _convert(path: Path, target: Path, limit_bytes: int) -> None:
    size = path.stat().st_size
    most_bytes = min(limit_bytes, max(EXPANSION_FREE_BYTES, EXPANSION * size))
    command = [sys.executable, "-I", hdf5_child.__file__, str(path.resolve()), str(target), str(most_bytes)]
    try:
        child = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS + SECONDS_PER_GB * size / 1e9,
            check=False,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # its per-thread buffers count as memory
        )
    except subprocess.TimeoutExpired as error:
        raise bad_file(path, "kept the HDF5 library busy without an end") from error
    if child.returncode == 0:
        return
    said = child.stderr.decode("utf-8", "replace").strip().replace("\n", " ")[:240]
    if child.returncode == hdf5_child.NO_MODULE:
        raise missing_extra("h5py", "hdf5", "Reading HDF5 files")
    if child.returncode == hdf5_child.REFUSED and said:
        raise bad_file(path, said)
    raise bad_file(path, f"crashed the HDF5 library (exit {child.returncode}) in the process that shields this one")
