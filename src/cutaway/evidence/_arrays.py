"""What every measuring function does to its arguments first: turn them into arrays, or say why it cannot."""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from cutaway.errors import BadInput


@runtime_checkable
class SupportsArray(Protocol):
    """Anything numpy can read: arrays, and tensors of the central processor."""

    def __array__(self) -> np.ndarray: ...


Numbers = Sequence[Any] | SupportsArray  # one number a row
Names = Sequence[Hashable] | SupportsArray  # one name a row: entities, groups, strata


def as_numbers(values: Numbers, what: str) -> Float[np.ndarray, " row"]:
    """``values`` as a vector of finite float64, otherwise :class:`BadInput` with ``what`` as its subject."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise BadInput(f"{what} must be a non-empty list of numbers, found shape {array.shape}; flatten it.")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise BadInput(f"{what} holds {bad} values that are not finite; drop those rows and say so.")
    return array


def as_labels(labels: Numbers, rows: int) -> Bool[np.ndarray, " row"]:
    """Labels of two classes as booleans; both classes must occur."""
    array = np.asarray(labels)
    if array.shape != (rows,):
        raise BadInput(f"Labels have shape {array.shape}, expected one for each of {rows} rows.")
    if not np.isin(array, (0, 1)).all():
        raise BadInput("Labels must be 0 or 1 (or booleans); recode them.")
    if array.min() == array.max():
        raise BadInput("Labels hold one class only; both are needed.")
    return array.astype(bool)


def as_codes(names: Names | None, rows: int, what: str) -> Int[np.ndarray, " row"]:
    """Names as integers 0, 1, ... in order of first appearance; without names every row is its own entity."""
    if names is None:
        return np.arange(rows)
    listed = names.tolist() if isinstance(names, np.ndarray) else list(names)  # type: ignore[arg-type]
    if len(listed) != rows:
        raise BadInput(f"{what} name {len(listed)} rows, expected {rows}; give one name for each row.")
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in listed])


def as_stratum(strata: Names | None, rows: int) -> Int[np.ndarray, " row"]:
    """Strata as integers; without strata all rows lie in one."""
    return np.zeros(rows, dtype=int) if strata is None else as_codes(strata, rows, "Strata")
