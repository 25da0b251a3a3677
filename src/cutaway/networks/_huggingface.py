"""transformers folders, hub ids and GGUF files: language models, encoders, image classifiers."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.errors import BadFile, BadInput, Unavailable, missing_extra
from cutaway.networks.network import Batch, Network, first_tensor

# Weights that a checkpoint may lack: they are not read by what we ask of the network.
_OPTIONAL_WEIGHTS = ("pooler.", "position_ids", "lm_head.weight", "rotary_emb.inv_freq")
_BIGGEST_RATIO = 4.0  # parameters that a config may ask for, per parameter that the files hold


def from_folder(folder: Path, *, name: str, source: str) -> Network:
    """A local folder in the transformers layout; nothing is fetched and no code of the folder is run."""
    transformers = _transformers()
    config = _config(folder)
    _check_weights(folder, config)
    model_class = _model_class(transformers, config)
    with _quiet():
        try:
            model, info = model_class.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, output_loading_info=True, dtype="auto"
            )
        except Exception as error:
            raise BadFile(f"The network in {folder} cannot be loaded: {_first_line(error)}") from error
    _check_complete(folder, model, info)
    return _network(model, folder, name=name, source=source)


def from_hub(hub_id: str, say: Callable[[str], None]) -> Network:
    """A network of the hub: its data files are fetched to the hub's own cache, then loaded like a local folder."""
    _transformers()
    from huggingface_hub import snapshot_download

    say(f"Fetching {hub_id} from the hub")
    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "1_Pooling/*"]
    try:
        folder = snapshot_download(hub_id, allow_patterns=patterns)
    except Exception as error:
        raise Unavailable(
            f"{hub_id!r} is neither a local path nor an embedded network, and the hub cannot give it "
            f"({_first_line(error)}); check the name and the connection, or see: cutaway zoo."
        ) from error
    return from_folder(Path(folder), name=hub_id.split("/")[-1], source=hub_id)


def from_gguf(path: Path, source: str, say: Callable[[str], None]) -> Network:
    """A GGUF file: dequantized once into a folder of the cache, named by the file's hash."""
    from cutaway.networks._single_files import converted_gguf

    say(f"Reading {path.name}; the first time its weights are dequantized (about 20 seconds for 135 M parameters)")
    folder = converted_gguf(path)
    network = from_folder(folder, name=path.stem, source=source)
    return dataclasses.replace(network, notes=(*network.notes, "weights dequantized from GGUF"))


def _transformers() -> Any:
    try:
        with _quiet():
            import transformers
    except ImportError as error:
        raise missing_extra("transformers", "language", "Loading language models") from error
    return transformers


def _config(folder: Path) -> Any:
    transformers = _transformers()
    path = folder / "config.json"
    if not path.is_file():
        raise BadInput(f"{folder} holds no config.json; give a folder in the transformers layout.")
    try:
        raw = json.loads(path.read_text())
        if "auto_map" in raw and raw.get("model_type") not in transformers.CONFIG_MAPPING:
            raise BadFile(
                f"{folder} asks to run code of its own (auto_map), which is never done; use module:FILE.py:FUNCTION."
            )
        with _quiet():
            return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except BadFile:
        raise
    except Exception as error:
        raise BadFile(f"{path} cannot be read as a network's configuration: {_first_line(error)}") from error


def _weight_files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not found:
        raise BadInput(f"{folder} holds no weights; expected *.safetensors or pytorch_model*.bin.")
    return found


def _check_weights(folder: Path, config: Any) -> None:
    """Every weight file is sound, and the configuration asks for no more than they can fill."""
    from cutaway.networks._single_files import tensor_sizes

    sizes = [tensor_sizes(path) for path in _weight_files(folder)]
    stored = sum(sum(size.values()) for size in sizes)
    layers = getattr(config, "num_hidden_layers", 1)
    if not isinstance(layers, int) or layers > max(1, sum(map(len, sizes))):
        raise BadFile(
            f"{folder / 'config.json'} asks for {layers} layers; the weights hold {sum(map(len, sizes))} tensors."
        )
    asked = _estimate(config)
    if asked > _BIGGEST_RATIO * max(stored, 1) + 1e6:
        raise BadFile(
            f"{folder / 'config.json'} asks for at least {asked:.3g} parameters; the weights hold {stored:.3g}. "
            "Use the configuration that belongs to them."
        )


def _estimate(config: Any) -> float:
    """A lower bound of the parameters that a configuration asks for, from its sizes alone."""

    def size(name: str) -> float:
        value = getattr(config, name, 0)
        return float(value) if isinstance(value, (int, float)) and value > 0 else 0.0

    width, layers = size("hidden_size"), size("num_hidden_layers")
    inner = size("intermediate_size") or width
    return size("vocab_size") * width + layers * width * (2 * inner + width)


def _model_class(transformers: Any, config: Any) -> Any:
    architecture = (getattr(config, "architectures", None) or [""])[0]
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return transformers.AutoModelForCausalLM
    if architecture.endswith("ForImageClassification"):
        return transformers.AutoModelForImageClassification
    if architecture.endswith("ForSequenceClassification"):
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModel


def _check_complete(folder: Path, model: Any, info: dict[str, Any]) -> None:
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    missing = [
        key for key in info["missing_keys"] if key not in tied and not any(part in key for part in _OPTIONAL_WEIGHTS)
    ]
    mismatched = [entry[0] for entry in info.get("mismatched_keys", ())]
    if missing or mismatched:
        raise BadFile(
            f"The weights in {folder} do not fill the network: {len(missing)} missing, {len(mismatched)} of another "
            f"shape (first: {[*missing, *mismatched][0]}); use the weights that belong to its config.json."
        )


def _network(model: Any, folder: Path, *, name: str, source: str) -> Network:
    from cutaway.networks.load import wrap

    image = hasattr(model.config, "image_size") or hasattr(model.config, "num_channels")
    preprocess = _preprocess(folder) if image else None
    tokenizer = None if image else _tokenizer(folder)
    labels = getattr(model.config, "id2label", None) or {}
    is_classifier = "Classification" in type(model).__name__
    network = wrap(
        model,
        name=name,
        tokenizer=tokenizer,
        preprocess=preprocess,
        labels=tuple(str(labels[key]) for key in sorted(labels)) if is_classifier else (),
        task="classifier" if is_classifier else None,
        modality="image" if image else "text",
        description=f"{type(model).__name__} from {folder.name}",
        source=source,
    )
    if network.task == "encoder" and not image:
        return dataclasses.replace(network, readout=_sentence_readout(folder))
    return network


def _tokenizer(folder: Path) -> Any:
    transformers = _transformers()
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception:
        return None  # a folder without a tokenizer still runs on token tensors
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _preprocess(folder: Path) -> Any:
    from cutaway.networks.preprocess import from_hf_folder

    return from_hf_folder(folder) if (folder / "preprocessor_config.json").is_file() else None


def _sentence_readout(folder: Path) -> Callable[[Any, Batch], Tensor]:
    """Sentence embeddings as sentence-transformers define them: mean or first token, then unit length if so asked."""
    pooling = folder / "1_Pooling" / "config.json"
    first = pooling.is_file() and json.loads(pooling.read_text()).get("pooling_mode_cls_token", False)
    modules = folder / "modules.json"
    normalize = modules.is_file() and "Normalize" in modules.read_text()

    def readout(raw: Any, batch: Batch) -> Tensor:
        hidden = first_tensor(raw, batch)
        if batch.mask is None or hidden.ndim != 3:
            return hidden
        weight = batch.mask.to(hidden.dtype)[..., None]
        pooled = hidden[:, 0] if first else (hidden * weight).sum(1) / weight.sum(1)
        return torch.nn.functional.normalize(pooled, dim=-1) if normalize else pooled

    return readout


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers speaks of optional image backends and generation settings; none of it concerns our users."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield
    finally:
        logger.setLevel(before)
