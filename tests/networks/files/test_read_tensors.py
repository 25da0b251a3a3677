"""Each reader against the library that wrote the file, and the door that chooses between them."""

import collections

import numpy as np
import pytest
import torch

from cutaway.errors import BadFile
from cutaway.networks.files import READERS, format_of, read_tensors, validate_gguf
from tests.networks.files.seeds import (
    TENSORS,
    gguf_bytes,
    hdf5_bytes,
    npz_bytes,
    quantized_source,
    safetensors_bytes,
    torch_bytes,
)


def written(tmp_path, content: bytes, name: str = "weights"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def assert_same(found: dict, wanted: dict) -> None:
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize(
    "content",
    [safetensors_bytes(), torch_bytes(), torch_bytes(legacy=True)],
    ids=["safetensors", "torch zip", "torch before 1.6"],
)
def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path, content):
    assert_same(read_tensors(written(tmp_path, content, "anything.dat")), TENSORS)


@pytest.mark.parametrize("compressed", [False, True])
def test_npz(tmp_path, compressed):
    assert_same(read_tensors(written(tmp_path, npz_bytes(compressed=compressed), "arrays.npz")), TENSORS)


def test_npz_keeps_fortran_order_and_foreign_byte_order_right(tmp_path):
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    np.savez(tmp_path / "a.npz", fortran=np.asfortranarray(array), big=array.astype(">f8"))
    found = read_tensors(tmp_path / "a.npz")
    assert torch.equal(found["fortran"], torch.from_numpy(array))
    assert torch.equal(found["big"], torch.from_numpy(array))


def test_hdf5_names_are_paths_and_texts_are_left_out(tmp_path):
    found = read_tensors(written(tmp_path, hdf5_bytes(tmp_path)))
    assert set(found) == {"layer/weight", "layer/bias", "steps", "packed"}
    assert torch.equal(found["layer/weight"], TENSORS["layer.weight"])
    assert found["layer/bias"].dtype == torch.float16
    assert found["packed"].sum() == 64 * 64


def test_gguf_values_are_the_dequantized_ones(tmp_path):
    found = read_tensors(written(tmp_path, gguf_bytes(tmp_path)))
    assert torch.equal(found["plain.weight"], TENSORS["layer.weight"])
    # Q4_1 keeps 16 levels between the least and the largest of 32 values: at most half a step of error.
    step = float(np.ptp(quantized_source()[0])) / 15
    error = (found["blocks.weight"] - torch.from_numpy(quantized_source())).abs().max()
    assert 0 < error <= 0.51 * step


def test_gguf_header_summary(tmp_path):
    header = validate_gguf(written(tmp_path, gguf_bytes(tmp_path)))
    assert (header.architecture, header.tensor_count, header.version) == ("llama", 2, 3)
    assert header.quantizations == {"F32": 1, "Q4_1": 1}
    assert header.metadata["llama.block_count"] == 1
    assert header.metadata["test.scale"] == 0.5
    assert "tokenizer.ggml.tokens" not in header.metadata
    assert [tensor.shape for tensor in header.tensors] == [(3, 4), (2, 32)]


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_views_shared_storages_and_types_agree_with_torch_load(tmp_path, legacy):
    base = torch.arange(24.0).reshape(4, 6)
    value = collections.OrderedDict(
        whole=base,
        turned=base.t(),
        part=base[1:3, ::2],
        empty=torch.empty(0, 3),
        flags=torch.tensor([True, False]),
        brain=torch.tensor([1.5], dtype=torch.bfloat16),
        complex=torch.tensor([1 + 2j]),
        parameter=torch.nn.Parameter(torch.ones(2)),
    )
    path = written(tmp_path, torch_bytes(value, legacy=legacy))
    assert_same(read_tensors(path), torch.load(path, weights_only=True))


def test_torch_types_that_have_no_storage_class(tmp_path):
    value = {"small": torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn), "wide": torch.tensor([7]).to(torch.uint32)}
    found = read_tensors(written(tmp_path, torch_bytes(value)))
    assert found["small"].dtype == torch.float8_e4m3fn
    assert found["small"].float().tolist() == [1.0, -2.0]
    assert found["wide"].dtype == torch.uint32


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_is_unwrapped_and_its_other_values_left_out(tmp_path, legacy):
    module = torch.nn.Linear(2, 3)
    checkpoint = {"epoch": 3, "state_dict": module.state_dict(), "optimizer": {"lr": 0.1, "m": [torch.ones(1)]}}
    found = read_tensors(written(tmp_path, torch_bytes(checkpoint, legacy=legacy)))
    assert_same(found, dict(module.state_dict()))


def test_nested_dictionaries_are_joined_by_dots(tmp_path):
    value = {"encoder": {"w": torch.ones(1)}, "heads": [torch.zeros(1), torch.ones(2)]}
    found = read_tensors(written(tmp_path, torch_bytes(value)))
    assert list(found) == ["encoder.w", "heads.0", "heads.1"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.bin", b"", "is empty"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        ("a.bin", b"<!DOCTYPE html><html>", "web page"),
        ("a.txt", b"hello world", "is none of the formats"),
        ("a.gguf", b"hello world", "does not begin with the GGUF magic"),
        ("a.safetensors", b"hello", "ends after 5 bytes"),
    ],
)
def test_what_is_no_weights_file_is_named_for_what_it_is(tmp_path, name, content, said):
    path = written(tmp_path, content, name)
    with pytest.raises(BadFile, match=said) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(BadFile, match="does not exist"):
        read_tensors(tmp_path / "nothing.pt")
    with pytest.raises(BadFile, match="is a folder"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("kind", ["safetensors", "torch", "npz", "gguf", "hdf5"])
def test_the_limit_holds_for_every_format(tmp_path, kind):
    contents = {
        "safetensors": safetensors_bytes,
        "torch": torch_bytes,
        "npz": npz_bytes,
        "gguf": lambda: gguf_bytes(tmp_path),
        "hdf5": lambda: hdf5_bytes(tmp_path),
    }
    path = written(tmp_path, contents[kind](), "weights.npz" if kind == "npz" else "weights")
    assert format_of(path) == kind
    with pytest.raises(BadFile, match="limit"):
        read_tensors(path, limit_bytes=50)


def test_every_reader_is_covered_here():
    assert set(READERS) == {"safetensors", "torch", "npz", "gguf", "hdf5"}
