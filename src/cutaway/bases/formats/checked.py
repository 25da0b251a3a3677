"""Tensors of a file against what was announced: every name, shape and type, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.networks.files import read_tensors
from cutaway.networks.files.reading import bad_file, reading
from cutaway.networks.files.safetensors_file import checked_header

#: Types that weights come in, as safetensors names them.
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
#: No basis is wider, or reads or writes more units.
MOST_UNITS = 2**32


@dataclass(frozen=True)
class Wanted:
    """What a tensor is to be; ``optional``: it may be absent."""

    shape: tuple[int, ...]
    types: frozenset[str] = FLOATS
    optional: bool = False


def read_exactly(path: Path, wanted: Mapping[str, Wanted]) -> dict[str, Tensor]:
    """The tensors of a safetensors file that holds these and no others; raises ``BadFile`` before loading any."""
    if not path.is_file():
        raise bad_file(path, "does not exist", "give a folder with both files")
    with reading(path, "safetensors"):
        header = checked_header(path)
    check_names(path, header, wanted)
    for name, entry in header.items():
        want = wanted[name]
        if tuple(entry["shape"]) != want.shape or entry["dtype"] not in want.types:
            types = " or ".join(sorted(want.types))
            found = f"holds {name!r} of shape {entry['shape']} in {entry['dtype']} where {list(want.shape)} in {types}"
            raise bad_file(path, f"{found} was announced")
    tensors = read_tensors(path)
    check_finite(path, tensors)
    return tensors


def check_names(path: Path, found: Iterable[str], wanted: Mapping[str, Wanted]) -> None:
    """Raises ``BadFile`` for a tensor that is lacking, or one that nobody asked for."""
    names = set(found)
    lacking = sorted(name for name, want in wanted.items() if name not in names and not want.optional)
    extra = sorted(names - set(wanted))
    if lacking or extra:
        fault = f"lacks {lacking[0][:60]!r}" if lacking else f"holds {extra[0][:60]!r}, which nothing announced"
        raise bad_file(path, fault, "export it again in the format that its description names")


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises ``BadFile`` for weights that are NaN or infinite."""
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise bad_file(path, f"holds NaN or infinite numbers in {name[:60]!r}")


def count(path: Path, config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """A size that a description gives, a plain positive integer; raises ``BadFile``."""
    value = config.get(name, default)
    if type(value) is not int or not 1 <= value <= MOST_UNITS:
        raise bad_file(path, f"gives {name} as {str(value)[:40]!r}, which is no size")
    return value


def flag(path: Path, config: Mapping[str, Any], name: str, default: bool) -> bool:
    """A yes or no of a description; null counts as absent; raises ``BadFile``."""
    value = default if config.get(name) is None else config[name]
    if type(value) is not bool:
        raise bad_file(path, f"gives {name} as {str(value)[:40]!r}, which is neither true nor false")
    return value


def text(path: Path, config: Mapping[str, Any], name: str, default: str = "") -> str:
    """A short text of a description; null counts as absent; raises ``BadFile``."""
    value = default if config.get(name) is None else config[name]
    if type(value) is not str or len(value) > 1000:
        raise bad_file(path, f"gives {name} as {str(value)[:40]!r}, which is no short text")
    return value


def section(path: Path, config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside a description; null and absence are an empty one; raises ``BadFile``."""
    value = {} if config.get(name) is None else config[name]
    if not isinstance(value, Mapping):
        raise bad_file(path, f"gives {name} as {str(value)[:40]!r}, which is no object")
    return value
