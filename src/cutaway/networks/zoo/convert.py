"""From the files of the packages to what loads fast: safetensors with readable names, or a Hugging Face
folder.
"""

from collections.abc import Callable
from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cutaway.errors import missing_extra
from cutaway.networks.files import read_tensors, validate_gguf
from cutaway.networks.zoo.cache import home, source_folder
from cutaway.networks.zoo.catalogue import ZooEntry
from cutaway.networks.zoo.hed import DEPTHS

CONVERTER_VERSION = 1
"""Raise it when a conversion changes: folders that an older one made are made again."""

WEIGHTS = "model.safetensors"


def model_folder(which: ZooEntry) -> Path:
    """The folder that loads: the prepared files, or the package's own where they need no preparation."""
    return home(which) / "model" if converter(which) else source_folder(which)


def converter(which: ZooEntry) -> Callable[[Path, Path], None] | None:
    """The function (source file, target folder) that prepares this network, if it needs one."""
    return _CONVERTERS.get(which.architecture.split("-Lite")[0])


def hed_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keras' nameless layout to the names of ``VGG16HED``, kernels from ``[y, x, in, out]`` to ``[out,
    in, y, x]``.
    """
    renamed: dict[str, Tensor] = {}
    for new, old in _hed_layers():
        renamed[f"{new}.weight"] = tensors[f"{old}/vars/0"].permute(3, 2, 0, 1).contiguous()
        renamed[f"{new}.bias"] = tensors[f"{old}/vars/1"]
    return renamed


def lite_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of the published state dicts to those of ``EfficientNetLite``."""
    return {_lite_name(name): tensor for name, tensor in tensors.items()}


def _hed_layers() -> list[tuple[str, str]]:
    layers = [("fuse", "fuse")]
    for block, depth in enumerate(DEPTHS, start=1):
        layers.append((f"side{block}", f"dsn{block}"))
        for layer in range(depth):
            suffix = f"_{layer}" if layer else ""
            layers.append((f"conv{block}_{layer + 1}", f"block{block}/layers/conv2d{suffix}"))
    return layers


_LITE_OUTSIDE = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
}
_LITE_OUTSIDE |= {"_fc": "classifier"}
_LITE_INSIDE = {"_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv"}
_LITE_INSIDE |= {"_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm"}


def _lite_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "_blocks":
        return ".".join(["blocks", parts[1], _LITE_INSIDE[parts[2]], *parts[3:]])
    return ".".join([_LITE_OUTSIDE[parts[0]], *parts[1:]])


def _convert_hed(source: Path, target: Path) -> None:
    save_file(hed_names(read_tensors(source)), target / WEIGHTS)


def _convert_lite(source: Path, target: Path) -> None:
    save_file(lite_names(read_tensors(source)), target / WEIGHTS)


def convert_gguf(source: Path, target: Path) -> None:
    """A Hugging Face folder with dequantized float32 weights.

    transformers reads the GGUF but refuses to save what it read, so the weights move to a fresh module of
    the same configuration without the mark of quantization; the logits are the same to the bit.
    """
    validate_gguf(source)
    for package in ("transformers", "gguf", "accelerate"):
        if find_spec(package) is None:
            raise missing_extra(package, "language", "Converting a GGUF language model")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    origin: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    with redirect_stderr(StringIO()):  # its progress bar knows no other way to be silent
        tokenizer = AutoTokenizer.from_pretrained(source.parent, **origin)
        quantized = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, **origin)
        config = quantized.config
        vars(config).pop("quantization_config", None)
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
            plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(quantized.state_dict(), strict=True, assign=True)
        plain.tie_weights()
        plain.save_pretrained(target)
        tokenizer.save_pretrained(target)


_CONVERTERS: dict[str, Callable[[Path, Path], None]] = {
    "VGG16-HED": _convert_hed,
    "EfficientNet": _convert_lite,
    "Llama": convert_gguf,
}
