"""cutaway's own format: a folder with ``basis.json`` and ``basis.safetensors``; see docs/dictionary-format.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from sklearn.decomposition import NMF
from torch import Tensor

import cutaway
from cutaway.bases.basis import Basis
from cutaway.bases.dictionaries import Dictionary
from cutaway.bases.files import read_json, sha256_of, write_json, write_whole
from cutaway.bases.formats.checked import Wanted, count, flag, read_exactly, section, text
from cutaway.bases.formats.parts import EXTRAS, Parts, origin_from, parts_of
from cutaway.bases.linear import Factors, Linear
from cutaway.errors import BadInput
from cutaway.networks.files.reading import bad_file

JSON, TENSORS = "basis.json", "basis.safetensors"
FORMAT, VERSION = "cutaway-basis", 1
_TAGS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}
#: How matrices may be stored; vectors are float32 beside int8 matrices.
STORED = ("float32", "float16", "bfloat16", "int8")
SCALE = ".scale"

Config = Mapping[str, Any]


@dataclass(frozen=True)
class _Type:
    """One type of basis: its own fields, its tensors by name, and how to make it again."""

    fields: Callable[[Any], dict[str, Any]]
    tensors: Callable[[Any], dict[str, Tensor]]
    shapes: Callable[[int, int, int], dict[str, tuple[int, ...]]]
    optional: tuple[str, ...]
    make: Callable[[Path, Config, dict[str, Tensor]], Basis]


def write(basis: Basis, folder: Path, *, dtype: str, about: Mapping[str, Any]) -> None:
    """Writes the tensors, then the description with their hash: a folder is whole or refused."""
    kind = next((name for name, each in _CLASSES.items() if isinstance(basis, each)), None)
    if kind is None:
        raise BadInput(f"A {type(basis).__name__} was given; the format holds {', '.join(_CLASSES)}.")
    plain = _TYPES[kind].tensors(basis)
    packed = {name: part for tensor, value in plain.items() for name, part in _packed(tensor, value, dtype).items()}
    data = to_bytes(packed)
    write_whole(folder / TENSORS, data)
    head = {"format": FORMAT, "version": VERSION, "made_by": f"cutaway {cutaway.__version__}", "type": kind}
    sizes = {"width": basis.width, "d_in": _d_in(basis), "d_out": int(basis.directions().shape[1])}
    origin = None if basis.origin is None else basis.origin.to_json()
    said = {"name": basis.name, **sizes, **_TYPES[kind].fields(basis), "origin": origin, "about": dict(about)}
    stored = {name: str(value.dtype).removeprefix("torch.") for name, value in packed.items()}
    write_json(folder / JSON, head | said | {"tensors": stored, "sha256": sha256_of(folder / TENSORS)})


def read(folder: Path) -> Basis:
    """The basis of a folder; raises ``BadFile`` before anything of a file that does not fit is loaded."""
    path = folder / JSON
    config = read_json(path)
    if config.get("format") != FORMAT or config.get("version") != VERSION:
        found = f"is of format {str(config.get('format'))[:40]!r}, version {str(config.get('version'))[:10]!r}"
        raise bad_file(path, found, f"give a basis of format {FORMAT}, version {VERSION}, or a newer cutaway")
    kind = text(path, config, "type")
    if kind not in _TYPES:
        raise bad_file(path, f"describes a basis of type {kind[:40]!r}", f"give one of {', '.join(_TYPES)}")
    wanted = _wanted(path, config, _TYPES[kind])
    tensors = folder / TENSORS
    if not tensors.is_file():
        raise bad_file(tensors, "does not exist", "give a folder with both files")
    if sha256_of(tensors) != config.get("sha256"):
        raise bad_file(tensors, f"does not have the hash that {JSON} gives: it is damaged or of another basis")
    return _TYPES[kind].make(path, config, _unpacked(read_exactly(tensors, wanted)))


def _wanted(path: Path, config: Config, kind: _Type) -> dict[str, Wanted]:
    """Every tensor that the file must hold, from the sizes and the stored types of the description."""
    sizes = [count(path, config, name) for name in ("width", "d_in", "d_out")]
    shapes = kind.shapes(*sizes)
    stored = section(path, config, "tensors")
    known = {*shapes, *(name + SCALE for name in shapes)}
    wanted: dict[str, Wanted] = {}
    for name, dtype in stored.items():
        if name not in known or not isinstance(dtype, str) or dtype not in _TAGS:
            raise bad_file(path, f"lists the tensor {name[:40]!r} in {str(dtype)[:20]!r}, which this type has not")
        shape = shapes.get(name) or shapes[name.removesuffix(SCALE)][:1]
        wanted[name] = Wanted(shape, frozenset({_TAGS[dtype]}))
    lacking = [name for name in shapes if name not in stored and name not in kind.optional]
    lacking += [name for name, d in stored.items() if (d == "int8") != (name + SCALE in stored)]
    lacking = [name for name in lacking if not name.endswith(SCALE)]
    if lacking:
        raise bad_file(path, f"does not list all that belongs to {lacking[0]!r}")
    return wanted


# -- numbers in less room --------------------------------------------------------------------------------------


def _packed(name: str, value: Tensor, dtype: str) -> dict[str, Tensor]:
    """One tensor as it is stored; a matrix in int8 has one scale for each row (symmetric, largest entry 127)."""
    if not bool(torch.isfinite(value).all()):
        raise BadInput(f"{name} of the basis holds NaN or infinite numbers; nothing was saved.")
    if dtype == "int8" and value.ndim == 2:
        scale = (value.float().abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        return {name: (value.float() / scale[:, None]).round().to(torch.int8).contiguous(), name + SCALE: scale}
    if dtype in ("int8", "float32"):
        return {name: value.contiguous() if value.dtype == torch.float64 else value.float().contiguous()}
    small = value.to(getattr(torch, dtype)).contiguous()
    if not bool(torch.isfinite(small).all()):
        raise BadInput(f"{name} of the basis is too large for {dtype}; save it in bfloat16 or float32.")
    return {name: small}


def _unpacked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.endswith(SCALE):
            continue
        exact = value if value.dtype == torch.float64 else value.float()
        values[name] = exact * tensors[name + SCALE].float()[:, None] if value.dtype == torch.int8 else exact
    return values


# -- the types of bases ----------------------------------------------------------------------------------------


def _dictionary_tensors(basis: Any) -> dict[str, Tensor]:
    parts = parts_of(basis, FORMAT)
    named = {name: getattr(parts, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec", "b_in", *EXTRAS)}
    return {name: value for name, value in named.items() if value is not None}


def _dictionary_shapes(width: int, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
    vectors = dict.fromkeys(("b_enc", "threshold", "gate_bias", "gate_scale"), (width,))
    return {"W_enc": (width, d_in), "W_dec": (width, d_out), "b_dec": (d_out,), "b_in": (d_in,),
            "skip": (d_out, d_in), **vectors}  # fmt: skip


def _dictionary(path: Path, config: Config, tensors: dict[str, Tensor]) -> Basis:
    k = None if config.get("k") is None else count(path, config, "k")
    kind, name = text(path, config, "kind"), text(path, config, "name")
    if "b_in" not in tensors and config["d_in"] != config["d_out"]:
        raise bad_file(path, "describes a transcoder between two widths without b_in")
    return Parts(kind, **tensors, k=k, name=name, origin=origin_from(path, config.get("origin"))).dictionary()


def _linear(path: Path, config: Config, tensors: dict[str, Tensor]) -> Basis:
    keep = None if config.get("keep") is None else count(path, config, "keep")
    origin, positive = origin_from(path, config.get("origin")), flag(path, config, "positive", False)
    return Linear(text(path, config, "name"), **tensors, origin=origin, keep=keep, positive=positive)


def _factors(path: Path, config: Config, tensors: dict[str, Tensor]) -> Basis:
    """NMF without its pickle: coordinates in fixed parts need the parts and the solver's settings, nothing else."""
    parts, seed = tensors["parts"], config.get("seed")
    if bool((parts < 0).any()):
        raise bad_file(path.parent / TENSORS, "holds negative parts, which no non-negative factorization has")
    seed, rounds = seed if type(seed) is int else 0, count(path, config, "rounds")
    width: Any = len(parts)
    model = NMF(width, init="nndsvda", random_state=seed, max_iter=rounds, tol=1e-4)
    fitted = {"components_": parts.double().numpy(), "n_components_": width, "n_features_in_": parts.shape[1]}
    for name, value in fitted.items():
        setattr(model, name, value)
    return Factors(text(path, config, "name"), parts.float(), model, origin_from(path, config.get("origin")))


_CLASSES: dict[str, type] = {"dictionary": Dictionary, "linear": Linear, "factors": Factors}
_TYPES: dict[str, _Type] = {
    "dictionary": _Type(
        lambda basis: {"kind": basis.kind, "k": basis.k},
        _dictionary_tensors,
        _dictionary_shapes,
        ("b_in", *EXTRAS),
        _dictionary,
    ),
    "linear": _Type(
        lambda basis: {"keep": basis.keep, "positive": basis.positive},
        lambda basis: {name: getattr(basis, name).detach().cpu() for name in ("read", "write", "mean")},
        lambda width, d_in, d_out: {"read": (d_in, width), "write": (width, d_out), "mean": (d_in,)},
        (),
        _linear,
    ),
    "factors": _Type(
        lambda basis: {"rounds": int(basis.model.max_iter), "seed": basis.model.random_state},
        lambda basis: {"parts": torch.from_numpy(basis.model.components_)},
        lambda width, d_in, d_out: {"parts": (width, d_out)},
        (),
        _factors,
    ),
}


def _d_in(basis: Any) -> int:
    return int(basis.d_in if isinstance(basis, Dictionary) else basis.directions().shape[1])
