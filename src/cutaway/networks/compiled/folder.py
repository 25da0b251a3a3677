"""A compiled network on disk: ``config.json`` and ``weights.safetensors``, read as data and held against each other.

The layout is the one that programs of google-deepmind/tracr are exported to (``architecture: TracrTransformer``); ours
adds layers without an MLP and layer norms. Nothing is allocated before every size of the configuration has been found
in the weights, and a configuration that asks for anything else is one :class:`BadFile`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialized
from torch import Tensor

from cutaway.errors import BadFile
from cutaway.networks.compiled.module import CompiledTransformer
from cutaway.networks.compiled.spec import CATEGORICAL, NUMERICAL, TASKS, Output, Spec
from cutaway.networks.files import read_tensors
from cutaway.networks.network import Network

CONFIG, WEIGHTS = "config.json", "weights.safetensors"
ARCHITECTURES = ("TracrTransformer", "CompiledTransformer")
MOST_CONFIG_BYTES = 10_000_000
#: What an outside configuration may say, and the only value that this module computes.
_FIXED = {"activation": "relu", "attention_scale": "1/sqrt(key_size)"}


def is_compiled(folder: Path) -> bool:
    """True if the folder's ``config.json`` names this architecture; a file that cannot be read is not ours."""
    path = folder / CONFIG
    try:
        small = path.is_file() and path.stat().st_size <= MOST_CONFIG_BYTES
        raw = json.loads(path.read_bytes()) if small else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and raw.get("architecture") in ARCHITECTURES


def from_folder(folder: Path, *, name: str | None = None, source: str = "") -> Network:
    """The network of a folder; raises :class:`BadFile` for weights and configurations that do not belong together."""
    from cutaway.networks.load import wrap

    spec = read_spec(folder)
    tensors = _without_empty_mlps(spec, read_tensors(_weights(folder)))
    _check(folder, spec, tensors)
    with torch.device("meta"):
        module = CompiledTransformer(spec)
    module.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, assign=True)
    module.requires_grad_(False)
    return wrap(
        module,
        name=name or spec.name,
        tokenizer=spec.vocabulary,
        description=spec.computes or f"a compiled network from {folder.name}",
        source=source or str(folder),
    )


def save(module: CompiledTransformer, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes ``config.json`` and ``weights.safetensors`` so that :func:`from_folder` gives the network back."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.detach().cpu().to(dtype).contiguous() for key, tensor in module.state_dict().items()}
    (folder / WEIGHTS).write_bytes(serialized(tensors))
    (folder / CONFIG).write_text(json.dumps(to_config(module.spec), indent=1) + "\n", encoding="utf-8")


def to_config(spec: Spec) -> dict[str, Any]:
    """The specification as the plain values of ``config.json``."""
    output: dict[str, Any] = {"kind": spec.output.kind}
    output |= (
        {"tolerance": spec.output.tolerance} if spec.output.kind == NUMERICAL else {"values": list(spec.output.values)}
    )
    sizes = ("d_model", "num_layers", "num_heads", "key_size", "mlp_hidden")
    return {
        "name": spec.name,
        "architecture": ARCHITECTURES[1],
        "computes": spec.computes,
        "task": spec.task,
        **{size: getattr(spec, size) for size in sizes},
        "max_seq_len": spec.max_len,
        "num_outputs": spec.num_outputs,
        "causal": spec.causal,
        "layer_norm": spec.layer_norm,
        **_FIXED,
        "vocab": list(spec.vocab),
        "bos_id": spec.bos_id,
        "pad_id": spec.pad_id,
        "output": output,
        "residual_labels": list(spec.labels),
    }


def read_spec(folder: Path) -> Spec:
    """The specification in a folder's ``config.json``, every field checked; raises :class:`BadFile`."""
    path = folder / CONFIG
    raw = _Fields(path, _read_json(path))
    for key, only in _FIXED.items():
        if raw.values.get(key, only) != only:
            raise raw.bad(key, f"only {only!r} can be run")
    vocab = raw.words("vocab", numbers=True)
    if not vocab or len(set(vocab)) != len(vocab):
        raise raw.bad("vocab", "the words must be different, and there must be one at least")
    return Spec(
        name=raw.text("name", folder.resolve().name),
        vocab=vocab,
        bos_id=raw.count("bos_id", least=0, most=len(vocab) - 1),
        max_len=raw.count("max_seq_len"),
        d_model=raw.count("d_model"),
        num_layers=raw.count("num_layers"),
        num_heads=raw.count("num_heads"),
        key_size=raw.count("key_size"),
        mlp_hidden=raw.count("mlp_hidden", least=0),
        causal=raw.truth("causal"),
        output=_output(raw),
        layer_norm=raw.truth("layer_norm", False),
        pad_id=None if raw.values.get("pad_id") is None else raw.count("pad_id", least=0, most=len(vocab) - 1),
        labels=raw.words("residual_labels") if "residual_labels" in raw.values else (),
        computes=raw.text("computes", ""),
        task=_task(raw),
    )


def _task(raw: "_Fields") -> str:
    task = raw.text("task", TASKS[0])
    if task not in TASKS:
        raise raw.bad("task", f"it must be one of {', '.join(TASKS)}")
    return task


def _output(raw: "_Fields") -> Output:
    output = raw.values.get("output")
    kind = output.get("kind") if isinstance(output, dict) else None
    if not isinstance(output, dict) or kind not in (CATEGORICAL, NUMERICAL):
        raise raw.bad("output", f"its kind must be {CATEGORICAL} or {NUMERICAL}")
    if kind == NUMERICAL:
        tolerance = output.get("tolerance", 0.005)
        if type(tolerance) not in (int, float) or not 0 <= tolerance < float("inf"):
            raise raw.bad("output", "its tolerance must be a number from 0")
        return Output(kind, (), float(tolerance))
    values = output.get("values")
    plain = (str, bool, int, float, type(None))
    if not isinstance(values, list) or not values or any(type(each) not in plain for each in values):
        raise raw.bad("output", "its values must be a list of words and numbers")
    return Output(kind, tuple(values))


class _Fields:
    """The fields of one configuration, each asked for by its type."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path, self.values = path, values

    def bad(self, key: str, rule: str) -> BadFile:
        """The error for a field: what it holds, and what it should."""
        found = repr(self.values.get(key))
        shown = found if len(found) <= 40 else f"{found[:37]}..."
        return BadFile(f"{self.path} says {key} = {shown}; {rule}.")

    def count(self, key: str, least: int = 1, most: int = 10**6) -> int:
        """A plain whole number within bounds."""
        value = self.values.get(key)
        if type(value) is not int or not least <= value <= most:
            raise self.bad(key, f"it must be a whole number from {least} to {most}")
        return value

    def truth(self, key: str, otherwise: bool | None = None) -> bool:
        """True or false."""
        value = self.values.get(key, otherwise)
        if not isinstance(value, bool):
            raise self.bad(key, "it must be true or false")
        return value

    def text(self, key: str, otherwise: str) -> str:
        """A text."""
        value = self.values.get(key, otherwise)
        if not isinstance(value, str):
            raise self.bad(key, "it must be a text")
        return value

    def words(self, key: str, *, numbers: bool = False) -> tuple[str, ...]:
        """A list of texts; with ``numbers``, numbers count as their digits."""
        value = self.values.get(key)
        allowed = (str, int, float) if numbers else (str,)
        if not isinstance(value, list) or any(type(each) not in allowed for each in value):
            raise self.bad(key, f"it must be a list of texts{' or numbers' if numbers else ''}")
        return tuple(str(each) for each in value)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadFile(f"{path.parent} holds no {CONFIG}; give the folder of a compiled network.")
    if path.stat().st_size > MOST_CONFIG_BYTES:
        raise BadFile(f"{path} is larger than {MOST_CONFIG_BYTES} bytes, too large for a configuration.")
    try:
        raw = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{path} cannot be read as JSON ({str(error)[:100]}); export it again.") from error
    if not isinstance(raw, dict) or raw.get("architecture") not in ARCHITECTURES:
        raise BadFile(f"{path} does not describe a compiled network; its architecture must be {ARCHITECTURES[0]}.")
    return raw


def _weights(folder: Path) -> Path:
    path = folder / WEIGHTS
    if not path.is_file():
        raise BadFile(f"{folder} holds no {WEIGHTS}; export the network again.")
    return path


def shapes(spec: Spec) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor that the specification asks for; nothing is allocated."""
    width, inner = spec.d_model, spec.num_heads * spec.key_size
    yield "token_embed.weight", (spec.vocab_size, width)
    yield "pos_embed.weight", (spec.max_len + 1, width)
    for index in range(spec.num_layers):
        maps = {f"attn.{part}": (inner, width) for part in ("query", "key", "value")} | {"attn.linear": (width, inner)}
        if spec.mlp_hidden:
            maps |= {"mlp.linear_1": (spec.mlp_hidden, width), "mlp.linear_2": (width, spec.mlp_hidden)}
        for part, shape in maps.items():
            yield f"layers.{index}.{part}.weight", shape
            yield f"layers.{index}.{part}.bias", shape[:1]
        for norm in _norms(spec):
            yield f"layers.{index}.{norm}.weight", (width,)
            yield f"layers.{index}.{norm}.bias", (width,)
    if spec.layer_norm:
        yield "final_norm.weight", (width,)
        yield "final_norm.bias", (width,)
    yield "unembed.weight", (spec.num_outputs, width)


def _without_empty_mlps(spec: Spec, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors less those of MLPs without a neuron, which an exporter may write though they do nothing."""
    if spec.mlp_hidden:
        return tensors
    empty = {name for name, tensor in tensors.items() if ".mlp." in name and not bool(tensor.any())}
    return {name: tensor for name, tensor in tensors.items() if name not in empty}


def _norms(spec: Spec) -> tuple[str, ...]:
    if not spec.layer_norm:
        return ()
    return ("norm1", "norm2") if spec.mlp_hidden else ("norm1",)


def _check(folder: Path, spec: Spec, tensors: Mapping[str, Tensor]) -> None:
    """Every tensor that the configuration asks for is there, has its shape, is finite; and there is no other."""
    asked = 0
    for name, shape in shapes(spec):
        asked += 1
        if name not in tensors:
            raise BadFile(f"{folder / CONFIG} asks for the tensor {name}, which {WEIGHTS} does not hold.")
        found = tensors[name]
        if tuple(found.shape) != shape:
            raise BadFile(
                f"{folder / CONFIG} asks for {name} of shape {list(shape)}; {WEIGHTS} holds {list(found.shape)}."
            )
        if not found.is_floating_point() or not bool(torch.isfinite(found).all()):
            raise BadFile(f"{folder / WEIGHTS} holds values in {name} that are no finite numbers; export it again.")
    if asked < len(tensors):
        extra = sorted(set(tensors) - {name for name, _ in shapes(spec)})[0]
        raise BadFile(f"{folder / WEIGHTS} holds {extra}, which {CONFIG} does not ask for; use the one that belongs.")
    declared = json.loads((folder / CONFIG).read_bytes()).get("num_outputs", spec.num_outputs)
    if declared != spec.num_outputs or (spec.labels and len(spec.labels) != spec.d_model):
        raise BadFile(
            f"{folder / CONFIG} contradicts itself: {declared} outputs for {spec.num_outputs} output values, "
            f"{len(spec.labels)} residual labels for {spec.d_model} dimensions."
        )
