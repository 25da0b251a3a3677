"""Small whole files of every format, as bytes: what the fuzzers mutate and the readers' tests start from."""

import io
import struct
from pathlib import Path

import gguf
import h5py
import numpy as np
import torch
from safetensors.torch import save

TENSORS = {
    "layer.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7,
    "layer.bias": torch.tensor([1.5, -2.0, 0.25], dtype=torch.float16),
    "steps": torch.tensor(41, dtype=torch.int64),
}


def safetensors_bytes() -> bytes:
    return save(TENSORS, metadata={"format": "pt"})


def torch_bytes(value: object = TENSORS, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def npz_bytes(*, compressed: bool = False) -> bytes:
    buffer = io.BytesIO()
    arrays = {name: tensor.numpy() for name, tensor in TENSORS.items()}
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def gguf_bytes(folder: Path) -> bytes:
    """One plain and one quantized tensor, and metadata of every kind that is common."""
    path = folder / "seed.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_float32("test.scale", 0.5)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "çd"])
    writer.add_array("test.numbers", [1, 2, 3])
    writer.add_tensor("plain.weight", TENSORS["layer.weight"].numpy())
    blocks = gguf.quants.quantize(quantized_source(), gguf.GGMLQuantizationType.Q4_1)
    writer.add_tensor("blocks.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def quantized_source() -> np.ndarray:
    return np.linspace(-1, 1, 2 * 32, dtype=np.float32).reshape(2, 32)


def hdf5_bytes(folder: Path) -> bytes:
    path = folder / "seed.h5"
    with h5py.File(path, "w") as file:
        for name, tensor in TENSORS.items():
            file[name.replace(".", "/")] = tensor.numpy()
        file.create_dataset("packed", data=np.ones((64, 64), np.float32), chunks=(16, 16), compression="gzip")
        file["note"] = "not a tensor"
    return path.read_bytes()


def safetensors_with(header: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data
