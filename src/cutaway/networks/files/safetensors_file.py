"""safetensors: eight bytes of header length, a JSON header, then the tensors back to back.

The header is checked here before the library sees the file: its length against the file, the JSON for
repeated keys, and every tensor's shape, type and place, which together must cover the data without a hole
or an overlap (the rule of the format's own specification, https://github.com/huggingface/safetensors).
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from cutaway.networks.files.reading import bad_file, check_limit, count, human, is_shape, mapped, reading

MOST_HEADER_BYTES = 100_000_000
BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
}
BITS |= {"BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4}


def read(path: Path, *, limit_bytes: int) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises ``BadFile``."""
    with reading(path, "safetensors"):
        header = checked_header(path)
        check_limit(path, path.stat().st_size, limit_bytes)
        tensors = load_file(path)
        if set(tensors) != set(header):
            raise bad_file(path, "names other tensors in its header than it holds")
        return tensors


def checked_header(path: Path) -> dict[str, dict[str, Any]]:
    """The header of a safetensors file: name to ``{"dtype", "shape", "data_offsets"}``, all of it checked."""
    with mapped(path) as view:
        if len(view) < 8:
            raise bad_file(path, f"ends after {len(view)} bytes, before its safetensors header")
        length = int.from_bytes(view[:8], "little")
        if length > min(len(view) - 8, MOST_HEADER_BYTES):
            raise bad_file(path, f"declares a header of {human(length)} and holds {human(len(view))} in all")
        header = json.loads(view[8 : 8 + length].decode("utf-8"), object_pairs_hook=_without_repeats)
        data_bytes = len(view) - 8 - length
    if not isinstance(header, dict):
        raise bad_file(path, "has a header that is not a JSON object")
    header.pop("__metadata__", None)
    _check_places(path, header, data_bytes)
    return header


def _check_places(path: Path, header: dict[str, Any], data_bytes: int) -> None:
    spans = sorted(_span(path, name, entry) for name, entry in header.items())
    end = 0
    for start, stop, name in spans:
        if start != end:
            fault = "overlaps the tensor before it" if start < end else "leaves a hole before it"
            raise bad_file(path, f"places the tensor {name!r} so that it {fault}")
        end = stop
    if end != data_bytes:
        raise bad_file(path, f"declares {human(end)} of tensors and holds {human(data_bytes)}")


def _span(path: Path, name: str, entry: Any) -> tuple[int, int, str]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise bad_file(path, f"describes the tensor {name!r} without a type, a shape and a place")
    bits, shape, place = BITS.get(str(entry["dtype"])), entry["shape"], entry["data_offsets"]
    if bits is None or not is_shape(shape) or not is_shape(place) or len(place) != 2:
        raise bad_file(path, f"gives the tensor {name!r} an impossible type, shape or place")
    start, stop = place
    if (stop - start) * 8 != count(shape) * bits:
        raise bad_file(path, f"gives the tensor {name!r} {stop - start} bytes, not what its shape and type need")
    return start, stop, name


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name appears twice in the header")
    return entries
