"""dictionary_learning (saprmarks/dictionary_learning): ``ae.pt``, a state dict, and ``config.json``.

``config.json`` names the class under ``trainer.dict_class``, which decides what lies in ``ae.pt`` and how it encodes:

=======================  ===================================  ============================================
class                    input of the encoder                 codes
=======================  ===================================  ============================================
AutoEncoder              x - bias                             relu
AutoEncoderNew           x                                    relu
GatedAutoEncoder         x - decoder_bias                     gated
AutoEncoderTopK          x - b_dec                            the k largest, relu
BatchTopKSAE             x - b_dec                            above one threshold
MatryoshkaBatchTopKSAE   x - b_dec                            above one threshold
JumpReluAutoEncoder      x                                    above a threshold for each latent
=======================  ===================================  ============================================

``ae.pt`` is read by cutaway's own reader of PyTorch files, which runs nothing in it. Decoder rows stay as they are in
the file; the library itself makes those of ``AutoEncoder`` unit vectors when it loads them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.bases.basis import Basis
from cutaway.bases.files import read_json, write_json, write_whole
from cutaway.bases.formats.checked import Wanted, check_finite, check_names, count, section, text
from cutaway.bases.formats.parts import Parts, about, parts_of, restored
from cutaway.bases.formats.places import from_submodule, to_submodule, unproven
from cutaway.errors import BadInput
from cutaway.networks.files import read_tensors
from cutaway.networks.files.reading import bad_file

JSON, TENSORS = "config.json", "ae.pt"
Config = Mapping[str, Any]


@dataclass(frozen=True)
class _Class:
    """A class of the library: our kind, its name for each of our tensors, and whether b_dec is subtracted."""

    kind: str
    names: dict[str, str]
    turned: bool  # matrices are those of nn.Linear: encoder [latent d], decoder [d latent]
    subtracts: bool = True
    beside: tuple[str, ...] = ()  # buffers that are no tensors of ours


_LINEAR = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight", "b_dec": "b_dec"}
_PLAIN = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
_GATED = {"b_enc": "mag_bias", "b_dec": "decoder_bias", "gate_bias": "gate_bias", "gate_scale": "r_mag"}
_CLASSES = {
    "AutoEncoder": _Class("relu", _LINEAR | {"b_dec": "bias"}, True),
    "AutoEncoderNew": _Class("relu", _LINEAR | {"b_dec": "decoder.bias"}, True, subtracts=False),
    "GatedAutoEncoder": _Class("gated", _LINEAR | _GATED, True),
    "AutoEncoderTopK": _Class("topk", _LINEAR, True, beside=("k", "threshold")),
    "BatchTopKSAE": _Class("batchtopk", _LINEAR, True, beside=("k", "threshold")),
    "MatryoshkaBatchTopKSAE": _Class("matryoshka", _PLAIN, False, beside=("k", "threshold", "group_sizes")),
    "JumpReluAutoEncoder": _Class("jumprelu", _PLAIN | {"threshold": "threshold"}, False, subtracts=False),
}


def read(folder: Path) -> Basis:
    """The dictionary of a folder, codes as the library computes them; raises ``BadFile``."""
    path = folder / JSON
    config = read_json(path)
    trainer = section(path, config, "trainer")
    name = text(path, trainer, "dict_class")
    if name not in _CLASSES:
        raise bad_file(path, f"names the class {name[:40]!r}", f"convert it to one of {', '.join(_CLASSES)}")
    kind = _CLASSES[name]
    tensors = _tensors(folder / TENSORS, kind)
    _check_sizes(folder / TENSORS, path, trainer, kind, tensors)
    ours = {name: tensors[theirs].float() for name, theirs in kind.names.items()}
    if kind.turned:
        ours["W_dec"] = ours["W_dec"].T
    else:
        ours["W_enc"] = ours["W_enc"].T
    k = _k(path, trainer, tensors) if "k" in kind.beside else None
    if kind.kind in ("batchtopk", "matryoshka"):
        # Below 0 it was never set, and relu is all that is done.
        ours["threshold"] = tensors["threshold"].float().clamp(min=0).expand(len(ours["b_enc"])).clone()
    b_in = None if kind.subtracts else torch.zeros_like(ours["b_dec"])
    site = from_submodule(text(path, trainer, "submodule_name"))
    origin = unproven(text(path, trainer, "lm_name"), site, site)
    parts = Parts(kind.kind, **ours, b_in=b_in, k=k, name=folder.name, origin=origin)
    return restored(path, parts, section(path, config, "cutaway")).dictionary()


def write(basis: Basis, folder: Path) -> None:
    """Writes a dictionary so that the library encodes as we do; ``BadInput`` for what it has no class for."""
    parts = parts_of(basis, "dictionary_learning")
    name = _class_of(parts)
    kind = _CLASSES[name]
    if parts.b_in is not None or not kind.subtracts:
        parts = parts.subtracting(None if kind.subtracts else torch.zeros_like(parts.b_dec))
    values: dict[str, Any] = {theirs: getattr(parts, ours) for ours, theirs in kind.names.items()}
    turned = "W_dec" if kind.turned else "W_enc"
    values[kind.names[turned]] = values[kind.names[turned]].T
    state = {key: value.float().contiguous() for key, value in values.items()} | _buffers(parts, kind)
    submodule, layer = to_submodule(parts.origin.reads) if parts.origin else ("", 0)
    trainer = {
        "dict_class": name, "activation_dim": parts.W_enc.shape[1], "dict_size": parts.W_enc.shape[0], "k": parts.k,
        "layer": layer, "lm_name": parts.origin.network if parts.origin else "", "submodule_name": submodule,
    }  # fmt: skip
    data = io.BytesIO()
    torch.save(state, data)
    write_whole(folder / TENSORS, data.getvalue())
    write_json(folder / JSON, {"trainer": trainer, "buffer": {}, "cutaway": about(parts)})


def _tensors(path: Path, kind: _Class) -> dict[str, Tensor]:
    if not path.is_file():
        raise bad_file(path, "does not exist", "give a folder with both files")
    tensors = read_tensors(path)
    optional = {"threshold"} if kind.kind == "topk" else set()  # it is not used there, and older files lack it
    names = (*kind.names.values(), *kind.beside)
    check_names(path, tensors, {name: Wanted((), optional=name in optional) for name in names})
    check_finite(path, tensors)
    return tensors


def _check_sizes(path: Path, json: Path, trainer: Config, kind: _Class, tensors: dict[str, Tensor]) -> None:
    encoder = tensors[kind.names["W_enc"]]
    if encoder.ndim != 2 or not encoder.is_floating_point() or 0 in encoder.shape:
        raise bad_file(path, f"holds an encoder of shape {list(encoder.shape)} in {encoder.dtype}")
    width, d = encoder.shape if kind.turned else encoder.shape[::-1]
    said = count(json, trainer, "dict_size", width), count(json, trainer, "activation_dim", d)
    if said != (width, d):
        raise bad_file(path, f"holds {width} latents of {d} units where {JSON} says {said[0]} of {said[1]}")
    matrix = (d, width) if kind.turned else (width, d)
    wanted = dict.fromkeys(kind.names, (width,)) | {"W_enc": tuple(encoder.shape), "W_dec": matrix, "b_dec": (d,)}
    for ours, theirs in kind.names.items():
        if tuple(tensors[theirs].shape) != wanted[ours] or not tensors[theirs].is_floating_point():
            found = f"{theirs!r} of shape {list(tensors[theirs].shape)} in {tensors[theirs].dtype}"
            raise bad_file(path, f"holds {found} where {list(wanted[ours])} of numbers fits")
    for name in ("k", "threshold"):
        if name in kind.beside and name in tensors and tensors[name].numel() != 1:
            raise bad_file(path, f"holds {name!r} of shape {list(tensors[name].shape)}, which is one number")


def _k(path: Path, trainer: Config, tensors: dict[str, Tensor]) -> int:
    held = int(tensors["k"].item())
    said = count(path, trainer, "k", held)
    if said != held:
        raise bad_file(path, f"says k = {said} where {TENSORS} holds k = {held}")
    return said


def _class_of(parts: Parts) -> str:
    if parts.transcodes:
        raise BadInput("dictionary_learning has no transcoders; save it in cutaway's own format.")
    one = parts.threshold is not None and bool((parts.threshold == parts.threshold[0]).all())
    names = {
        "relu": "AutoEncoder" if parts.b_in is None else "AutoEncoderNew", "gated": "GatedAutoEncoder",
        "topk": "AutoEncoderTopK", "batchtopk": "BatchTopKSAE", "matryoshka": "MatryoshkaBatchTopKSAE",
        "jumprelu": "JumpReluAutoEncoder",
    }  # fmt: skip
    if parts.kind not in names:
        raise BadInput(f"dictionary_learning has no {parts.kind} dictionary; save it in cutaway's own format.")
    if parts.kind in ("batchtopk", "matryoshka") and (not one or parts.k is None):
        return "JumpReluAutoEncoder"
    return names[parts.kind]


def _buffers(parts: Parts, kind: _Class) -> dict[str, Tensor]:
    threshold = float(parts.threshold[0]) if parts.threshold is not None else -1.0
    every = {
        "k": torch.tensor(parts.k or 0, dtype=torch.int32),
        "threshold": torch.tensor(threshold, dtype=torch.float32),
        "group_sizes": torch.tensor([parts.W_enc.shape[0]]),
    }
    return {name: every[name] for name in kind.beside}
