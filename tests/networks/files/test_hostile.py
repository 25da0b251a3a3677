"""Files that want something: to run code, to take memory, to read other files. Each ends in one clear sentence."""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from cutaway.errors import BadFile, Unavailable
from cutaway.networks.files import hdf5_file, read_tensors, validate_gguf
from tests.networks.files.seeds import TENSORS, gguf_bytes, hdf5_bytes, safetensors_bytes, safetensors_with, torch_bytes


class Touch:
    """Unpickling it makes a file: the trace that code has run."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def refused(tmp_path, content: bytes, said: str, name: str = "weights.bin") -> str:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadFile, match=said) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and message.endswith(".")
    return message


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_wants_to_run_code_is_named_and_not_run(tmp_path, legacy):
    trace = tmp_path / "trace"
    content = torch_bytes({"w": torch.ones(1), "x": Touch(trace)}, legacy=legacy)
    message = refused(tmp_path, content, "asks to run code")
    assert f"{os.mkdir.__module__}.mkdir" in message
    assert "nothing was run" in message
    assert not trace.exists()
    pickle.loads(pickle.dumps(Touch(trace)))  # the trap itself works
    assert trace.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bare_pickle_of_any_protocol(tmp_path, protocol):
    trace = tmp_path / "trace"
    refused(tmp_path, pickle.dumps(Touch(trace), protocol=protocol), "asks to run code")
    assert not trace.exists()


@pytest.mark.parametrize("callee", ["builtins.eval", "torch.load", "torch._utils._rebuild_tensor_v2.__globals__"])
def test_no_other_name_is_found(tmp_path, callee):
    module, name = callee.rsplit(".", 1)
    stack_global = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name)) + b"\x93."
    refused(tmp_path, stack_global, "asks to run code")


def test_a_whole_module_is_refused_with_the_way_out(tmp_path):
    message = refused(tmp_path, torch_bytes(torch.nn.Linear(2, 2)), "asks to run code")
    assert "torch.nn.modules.linear.Linear" in message
    assert "state dict" in message


def repickled(change, content: bytes) -> bytes:
    """A PyTorch archive whose pickle went through ``change``."""
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for info in source.infolist():
            data = source.read(info)
            archive.writestr(info.filename, change(data) if info.filename.endswith("data.pkl") else data)
    return target.getvalue()


def replaced(old: bytes, new: bytes):
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new)

    return change


HUGE = b"J" + struct.pack("<i", 2**30)  # BININT


def test_a_storage_that_declares_more_than_its_record(tmp_path):
    content = torch_bytes({"w": torch.arange(4.0)})
    refused(tmp_path, repickled(replaced(b"K\x04t", HUGE + b"t"), content), "declares 1073741824 numbers")


def test_a_tensor_that_reaches_beyond_its_storage(tmp_path):
    content = torch_bytes({"w": torch.arange(4.0)})
    bigger = repickled(replaced(b"K\x00K\x04\x85", b"K\x00K\x05\x85"), content)
    refused(tmp_path, bigger, "reach beyond its storage")


def test_a_view_of_stride_zero_cannot_grow_without_bound(tmp_path):
    refused(tmp_path, torch_bytes({"w": torch.ones(1).expand(2**30)}), "decompression bomb")


def test_a_legacy_file_with_a_hostile_storage_size(tmp_path):
    content = torch_bytes({"w": torch.arange(4.0)}, legacy=True)
    refused(tmp_path, replaced(b"K\x04N", HUGE + b"N")(content), "ends or contradicts itself")


def test_values_that_refer_to_each_other_a_billion_times(tmp_path):
    value: list = []
    for _ in range(40):
        value = [value, value]
    refused(tmp_path, torch_bytes({"laughs": value}), "nests its values")


def test_a_compressed_archive_is_not_one_of_pytorch(tmp_path):
    source, target = zipfile.ZipFile(io.BytesIO(torch_bytes())), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for info in source.infolist():
            archive.writestr(info.filename, source.read(info))
    refused(tmp_path, target.getvalue(), "compressed member")


def test_torchscript_is_a_program(tmp_path):
    buffer = io.BytesIO(torch_bytes())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    refused(tmp_path, buffer.getvalue(), "TorchScript")


def test_an_npz_bomb_and_an_object_array(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", zeros=np.zeros(2**23))
    with pytest.raises(BadFile, match="decompression bomb"):
        read_tensors(tmp_path / "bomb.npz")
    np.savez(tmp_path / "objects.npz", objects=np.array([{}], dtype=object))
    with pytest.raises(BadFile, match="not numeric"):
        read_tensors(tmp_path / "objects.npz")


def header(**entries) -> bytes:
    return json.dumps(entries).encode()


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (safetensors_with(b"{}", length=2**55), "declares a header of"),
        (safetensors_with(b"{}", length=3), "declares a header of 3 bytes"),
        (safetensors_with(b'{"a": 1, "a": 2}'), "a name appears twice"),
        (safetensors_with(b"{" + b'"a":{' * 100_000), "cannot be read as safetensors"),
        (safetensors_with(header(a=1)), "without a type, a shape and a place"),
        (safetensors_with(header(a=F32), bytes(4)), "declares 8 bytes of tensors and holds 4"),
        (safetensors_with(header(a=F32), bytes(12)), "declares 8 bytes of tensors and holds 12"),
        (safetensors_with(header(a=F32, b=F32), bytes(8)), "overlaps"),
        (safetensors_with(header(a={**F32, "data_offsets": [4, 12]}), bytes(12)), "hole"),
        (safetensors_with(header(a={**F32, "shape": [2**40, 2**40]}), bytes(8)), "not what its shape"),
        (safetensors_with(header(a={**F32, "shape": [-2]}), bytes(8)), "impossible"),
        (safetensors_with(header(a={**F32, "shape": [True]}), bytes(8)), "impossible"),
        (safetensors_with(header(a={**F32, "dtype": "F31"}), bytes(8)), "impossible"),
        (safetensors_bytes()[:-1], "declares 62 bytes of tensors and holds 61"),
    ],
)
def test_safetensors_headers(tmp_path, content, said):
    refused(tmp_path, content, said, "weights.safetensors")


def gguf_with(tensor_count: int = 0, metadata_count: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensor_count, metadata_count) + rest


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def row(name: bytes, *shape: int, kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GGUF", "ends inside its GGUF header"),
        (gguf_with(version=2**24 * 3), "version 50331648"),
        (gguf_with(tensor_count=2**60), "declares 1152921504606846976 tensors"),
        (gguf_with(metadata_count=2**60), "metadata entries, more than"),
        (gguf_with(metadata_count=1, rest=struct.pack("<Q", 2**62) + bytes(40)), "ends inside its GGUF header"),
        (gguf_with(metadata_count=1, rest=text(b"k") + struct.pack("<II", 99, 0)), "unknown type"),
        (gguf_with(metadata_count=1, rest=text(b"k") + struct.pack("<IIQ", 9, 10, 2**60)), "array items"),
        (gguf_with(metadata_count=2, rest=(text(b"k") + struct.pack("<IB", 0, 1)) * 2), "repeats the metadata"),
        (gguf_with(1, 0, row(b"w", 2**40, 2**40)), "and places the tensor 'w' up to byte"),
        (gguf_with(1, 0, row(b"w", 4, offset=2**50)), "and places the tensor 'w' up to byte"),
        (gguf_with(1, 0, row(b"w", 4, offset=1) + bytes(64)), "off its alignment"),
        (gguf_with(1, 0, row(b"w", 33, kind=3) + bytes(64)), "inside a block"),
        (gguf_with(1, 0, row(b"w", 4, kind=777) + bytes(64)), "unknown type"),
        (gguf_with(1, 0, row(b"w", 1, 1, 1, 1, 1) + bytes(64)), "5 axes"),
        (gguf_with(2, 0, row(b"w", 4) * 2 + bytes(64)), "repeats a tensor name"),
        (gguf_with(2, 0, row(b"v", 4) + row(b"w", 4) + bytes(64)), "overlap"),
    ],
)
def test_gguf_headers(tmp_path, content, said):
    refused(tmp_path, content, said, "weights.gguf")


def test_gguf_alignment_of_zero_would_divide_by_it(tmp_path):
    zero = text(b"general.alignment") + struct.pack("<II", 4, 0)
    refused(tmp_path, gguf_with(0, 1, zero), "impossible alignment \\(0\\)")


def test_a_truncated_gguf(tmp_path):
    content = gguf_bytes(tmp_path)
    (tmp_path / "cut.gguf").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadFile, match="ends"):
        validate_gguf(tmp_path / "cut.gguf")


def test_hdf5_links_out_of_the_file(tmp_path):
    secret = tmp_path / "secret.h5"
    secret.write_bytes(hdf5_bytes(tmp_path))
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["stolen"] = h5py.ExternalLink(str(secret), "steps")
    with pytest.raises(BadFile, match="links out of itself at 'stolen'"):
        read_tensors(tmp_path / "link.h5")


def test_hdf5_numbers_from_another_file(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("w", (8,), "f8", external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(BadFile, match="from another file"):
        read_tensors(tmp_path / "external.h5")


def test_hdf5_that_declares_a_terabyte_and_holds_nothing(tmp_path):
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("w", (2**20, 2**18), "f4", chunks=(1024, 1024))
    with pytest.raises(BadFile, match="more than the limit or its own size allows"):
        read_tensors(tmp_path / "huge.h5")


def test_hdf5_groups_in_a_circle(tmp_path):
    with h5py.File(tmp_path / "circle.h5", "w") as file:
        file.create_group("a")["back"] = file["/"]
    with pytest.raises(BadFile, match="circle"):
        read_tensors(tmp_path / "circle.h5")


def test_a_crash_of_the_hdf5_library_stays_in_the_child(tmp_path, monkeypatch):
    crash = tmp_path / "crash.py"
    crash.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr(hdf5_file.hdf5_child, "__file__", str(crash))
    refused(tmp_path, hdf5_bytes(tmp_path), r"crashed the HDF5 library \(exit -9\)", "weights.h5")


def test_a_hang_of_the_hdf5_library_ends(tmp_path, monkeypatch):
    hang = tmp_path / "hang.py"
    hang.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(hdf5_file.hdf5_child, "__file__", str(hang))
    monkeypatch.setattr(hdf5_file, "SECONDS", 0.5)
    refused(tmp_path, hdf5_bytes(tmp_path), "without an end", "weights.h5")


def test_hdf5_without_h5py_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_file, "find_spec", lambda name: None)
    (tmp_path / "weights.h5").write_bytes(hdf5_bytes(tmp_path))
    with pytest.raises(Unavailable, match=r"pip install 'cutaway\[hdf5\]'"):
        read_tensors(tmp_path / "weights.h5")


def test_whole_files_are_still_read(tmp_path):
    (tmp_path / "weights.bin").write_bytes(repickled(lambda data: data, torch_bytes()))
    assert set(read_tensors(tmp_path / "weights.bin")) == set(TENSORS)
