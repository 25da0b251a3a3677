"""Tables of stimulus ids: sorted, without repetition, so that equal sets of ids have equal tables."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

#: Ids in the order of their code points; rows of examples refer to them by index.
Ids = tuple[str, ...]


def union(*tables: Iterable[str]) -> tuple[Ids, list[np.ndarray]]:
    """One table of all ids, and for each given sequence the index of its ids in that table (int32)."""
    listed = [list(table) for table in tables]
    ids = tuple(sorted({name for table in listed for name in table}))
    index = {name: place for place, name in enumerate(ids)}
    return ids, [np.fromiter((index[name] for name in table), np.int32, len(table)) for table in listed]


def prune(ids: Ids, used: np.ndarray) -> tuple[Ids, np.ndarray]:
    """The table without ids that no index in ``used`` names, and ``used`` for that table; -1 stays -1."""
    kept = np.unique(used[used >= 0])
    mapping = np.full(len(ids) + 1, -1, np.int32)  # the last entry is where -1 leads
    mapping[kept] = np.arange(len(kept), dtype=np.int32)
    return tuple(ids[index] for index in kept.tolist()), mapping[used]


def to_arrays(ids: Sequence[str]) -> dict[str, Tensor]:
    """A table as two arrays: UTF-8 bytes, and where each id ends."""
    encoded = [name.encode() for name in ids]
    ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    return {
        "ids": torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy()),
        "id_ends": torch.from_numpy(ends),
    }


def from_arrays(arrays: dict[str, Tensor]) -> Ids:
    """The inverse of :func:`to_arrays`."""
    data, ends = arrays["ids"].numpy().tobytes(), arrays["id_ends"].tolist()
    return tuple(data[start:end].decode() for start, end in zip([0, *ends], ends))
