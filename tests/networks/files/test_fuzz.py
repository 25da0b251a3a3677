"""Two thousand damaged files: each gives tensors or one ``BadFile``, never another error, a hang or a flood of memory.

The mutations are those of damage and of malice: flipped bytes, cut, doubled and deleted slices, and integers (the
sizes, counts and offsets of headers) replaced by hostile ones. Hypothesis draws them from fixed seeds, so that every
run sees the same files. HDF5 files are read by a child process each, which takes a third of a second; most of them
are therefore read in a batch, by children that are forked from one process that has loaded the library.
"""

import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cutaway.errors import BadFile
from cutaway.networks.files import hdf5_child, read_tensors
from tests.networks.files.seeds import gguf_bytes, hdf5_bytes, npz_bytes, safetensors_bytes, torch_bytes

EXAMPLES = {"safetensors": 480, "gguf": 480, "torch": 440, "torch-legacy": 380, "npz": 220, "hdf5": 6}
HDF5_BATCH = 80
SUFFIX = {"safetensors": ".safetensors", "gguf": ".gguf", "npz": ".npz", "hdf5": ".h5"}
LIMIT_BYTES = 4 * 2**20
MEMORY_BYTES = 256 * 2**20
SECONDS_PER_FILE = 5.0

HOSTILE = (0, 1, 0x7F, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)


KINDS = ("flip", "number", "cut", "double", "delete", "insert")
SHARE = st.one_of(st.integers(0, 999), st.integers(0, 99))  # headers lie at the beginning
EDIT = st.tuples(st.sampled_from(KINDS), SHARE, st.integers(0, 2**16 - 1))
MUTATIONS = st.lists(EDIT, min_size=1, max_size=4)
"""Edits: what, where (in thousandths of the file, so that it fits any length), and a number that sets the details."""


def mutate(content: bytes, edits) -> bytes:
    for kind, share, value in edits:
        at = share * len(content) // 1000
        content = content[:at] + changed(kind, content[at:], value)
    return content


def changed(kind: str, rest: bytes, value: int) -> bytes:
    """The rest of a file after one edit at its beginning."""
    length = 1 + value % 64
    if kind == "flip":
        return bytes([rest[0] ^ (1 + value % 255)]) + rest[1:] if rest else rest
    if kind == "number":
        width = (4, 8)[value % 2]
        return (HOSTILE[value % len(HOSTILE)] % 2 ** (8 * width)).to_bytes(width, "little") + rest[width:]
    if kind == "cut":
        return b""
    if kind == "double":
        return rest[:length] + rest
    if kind == "delete":
        return rest[length:]
    return struct.pack("<H", value) * length + rest


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    return {
        "safetensors": safetensors_bytes(),
        "gguf": gguf_bytes(folder),
        "torch": torch_bytes(),
        "torch-legacy": torch_bytes(legacy=True),
        "npz": npz_bytes(compressed=True),
        "hdf5": hdf5_bytes(folder),
    }


def peak_memory() -> int:
    """Most memory that this process has ever held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def read_or_refuse(path) -> str:
    """``"read"`` or ``"refused"``; any other outcome is raised."""
    started = time.monotonic()
    try:
        tensors = read_tensors(path, limit_bytes=LIMIT_BYTES)
    except BadFile as error:
        # The net under the parsers must not hide mistakes of our own.
        assert not isinstance(error.__cause__, NameError | AttributeError | TypeCheckError), error
        assert "\n" not in str(error)
        return "refused"
    finally:
        assert time.monotonic() - started < SECONDS_PER_FILE + 10 * (path.suffix == ".h5")
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    assert sum(tensor.nbytes for tensor in tensors.values()) <= 2 * LIMIT_BYTES
    return "read"


@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_mutated_files(kind, seeds, tmp_path):
    path = tmp_path / f"weights{SUFFIX.get(kind, '.pt')}"
    path.write_bytes(seeds[kind])
    assert read_or_refuse(path) == "read"
    outcomes = []

    @settings(
        max_examples=EXAMPLES[kind],
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(MUTATIONS)
    def check(edits):
        path.write_bytes(mutate(seeds[kind], edits))
        outcomes.append(read_or_refuse(path))

    before = peak_memory()
    check()
    assert peak_memory() - before < MEMORY_BYTES
    assert len(outcomes) == EXAMPLES[kind]
    assert outcomes.count("refused") >= EXAMPLES[kind] / 2  # the mutations do damage


BATCH = """
import os, sys
sys.path.insert(0, sys.argv[1])
import h5py, hdf5_child, safetensors.numpy
for source in sys.argv[3:]:
    child = os.fork()
    if child == 0:
        os._exit(hdf5_child.main(source, source + ".out", sys.argv[2]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_mutated_hdf5_files_in_a_batch(seeds, tmp_path):
    paths = [str(tmp_path / "whole.h5")]
    Path(paths[0]).write_bytes(seeds["hdf5"])

    @settings(max_examples=HDF5_BATCH, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
    @given(MUTATIONS)
    def collect(edits):
        paths.append(str(tmp_path / f"{len(paths)}.h5"))
        Path(paths[-1]).write_bytes(mutate(seeds["hdf5"], edits))

    collect()
    command = [sys.executable, "-c", BATCH, str(Path(hdf5_child.__file__).parent), str(LIMIT_BYTES), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    exits = [int(line) for line in done.stdout.split()]
    assert len(exits) == HDF5_BATCH + 1
    assert exits[0] == 0
    # A crash (negative) is what the child is for; a traceback (1) would be a mistake of ours.
    assert all(code in (0, hdf5_child.REFUSED) or code < 0 for code in exits)
    assert exits.count(hdf5_child.REFUSED) >= HDF5_BATCH / 4


def test_the_number_of_files():
    assert sum(EXAMPLES.values()) + HDF5_BATCH >= 2000
