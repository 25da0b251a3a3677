"""Tensors at sites as rows of units, and back: one row for each position (or pixel) of each stimulus."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.networks.sites import HEAD_STREAM, PATTERN, Site


def to_rows(value: Tensor, site: Site) -> Float[Tensor, "row unit"]:
    """Every position as a row, in the order batch, then positions; heads count as one vector of all of them.

    Raises ``BadInput`` for attention patterns, queries, keys and values, which are no vectors at a position.
    """
    if site.layout in (PATTERN, HEAD_STREAM):
        raise BadInput(f"{site.name} holds {site.layout}, not a vector at each position; take the heads or the stream.")
    return site.unview(value).movedim(_axis(site), -1).flatten(0, -2)


def from_rows(rows: Float[Tensor, "row unit"], like: Tensor, site: Site) -> Tensor:
    """Rows put where :func:`to_rows` took them from; ``like`` gives the shape."""
    flat = site.unview(like).movedim(_axis(site), -1)
    return site.view(rows.unflatten(0, flat.shape[:-1]).movedim(-1, _axis(site)))


def real_rows(mask: Bool[Tensor, "batch pos"] | None, value: Tensor, site: Site) -> Bool[Tensor, " row"] | None:
    """Which rows are no padding; None where all count."""
    return None if mask is None or site.spatial or value.shape[:2] != mask.shape else mask.flatten()


def _axis(site: Site) -> int:
    return -1 if site.heads else site.unit_axis
