"""One shape for the activations of every site: a batch of positions of units.

A position is where a unit is looked at: a token, a pixel of a feature map, a pair of query and key. A *place* is
the code of a position that does not depend on how a batch was padded: the index for one axis, ``y * 65536 + x``
for two, the flat index for more.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cutaway.errors import BadInput

_SIDE = 1 << 16
_BLOCK = 1 << 18  # numbers, one megabyte


@dataclass(frozen=True, eq=False)
class Positions:
    """The activations of one site and batch, position by position.

    ``valid`` is False where a position is padding; None where every position is real. ``places`` holds the code
    of each position, and ``grid`` the sizes of the axes that were flattened.
    """

    acts: Float[Tensor, "batch pos unit"]
    valid: Bool[Tensor, "batch pos"] | None
    places: Int[Tensor, " pos"]
    grid: tuple[int, ...]


def as_positions(layout: str, tensor: Tensor, mask: Bool[Tensor, "batch pos"] | None = None) -> Positions:
    """A captured tensor in its site's ``layout``, as float32 positions of units.

    Maps give ``y * x`` positions, patterns ``query * key``, vectors one. A head is the norm over its ``d_head``
    axis. ``mask`` is that of the batch (True = real token) and applies to layouts that have token axes. The
    activations lie unit by unit in memory, as reducers read them; the tensor is copied where it does not.
    """
    axes = layout.split()
    if tensor.ndim != len(axes):
        raise BadInput(f"A tensor of shape {tuple(tensor.shape)} was captured at a site of layout {layout!r}.")
    tensor = tensor.detach()
    tensor = tensor if tensor.dtype == torch.float32 else tensor.to(torch.float32)
    if "d_head" in axes:
        tensor = torch.linalg.vector_norm(tensor, dim=axes.index("d_head"))
        axes.remove("d_head")
    unit = axes.index("unit")
    grid = tuple(size for axis, size in enumerate(tensor.shape) if axis not in (0, unit))
    along = [axis for axis in range(len(axes)) if axis not in (0, unit)]
    by_unit = tensor.permute(unit, 0, *along).reshape(tensor.shape[unit], len(tensor), math.prod(grid))
    acts = by_unit.contiguous().permute(1, 2, 0)
    names = [axes[axis] for axis in along]
    return Positions(acts, _valid(names, mask), places_of(grid).to(tensor.device), grid)


def _valid(names: list[str], mask: Bool[Tensor, "batch pos"] | None) -> Bool[Tensor, "batch place"] | None:
    if mask is None or bool(mask.all()):
        return None
    if names == ["pos"]:
        return mask
    if names == ["query", "key"]:
        return (mask[:, :, None] & mask[:, None, :]).flatten(1)
    return None


def places_of(grid: tuple[int, ...]) -> Int[Tensor, " pos"]:
    """The place codes of all positions of a grid, in order (int32)."""
    if len(grid) == 2 and max(grid) < _SIDE // 2:
        y, x = torch.arange(grid[0]), torch.arange(grid[1])
        return (y[:, None] * _SIDE + x).flatten().to(torch.int32)
    return torch.arange(math.prod(grid), dtype=torch.int32)


def decode_place(place: int, axes: int) -> tuple[int, ...]:
    """The index along each axis of a position, from its place code: ``(y, x)`` for two axes.

    >>> decode_place(3 * 65536 + 5, axes=2)
    (3, 5)
    """
    return divmod(place, _SIDE) if axes == 2 else (place,)


# -- helpers of reducers -------------------------------------------------------------------------------------


def unit_major(acts: Float[Tensor, "batch pos unit"]) -> Float[Tensor, "unit batch pos"]:
    """The same activations, unit by unit without gaps in memory; free for what :func:`as_positions` gives."""
    return acts.permute(2, 0, 1).contiguous()


def unit_blocks(
    acts: Float[Tensor, "batch pos unit"], valid: Bool[Tensor, "batch pos"] | None = None
) -> Iterator[tuple[int, Float[Tensor, "units row"]]]:
    """The activations at real positions, a few units at a time, each with the number of its first unit.

    A block fits in a processor's cache, which makes a chain of elementwise steps several times as fast.
    """
    rows = unit_major(acts).flatten(1) if valid is None else acts.permute(2, 0, 1)[:, valid].contiguous()
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    for first in range(0, len(rows), step):
        yield first, rows[first : first + step]
