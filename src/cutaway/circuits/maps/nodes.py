"""Who is in the graph: units or features in cells of the picture, errors, patches of the input, constants, the target.

A cell is a square of so many input pixels on a side; a site with a coarser grid has as many of its own pixels in it as
fit (at least one). The strongest are nodes of their own, all others of a site are one node together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from cutaway.circuits.maps.codes import Coded

INPUT, UNIT, UNITS, ERROR, ERRORS, BIAS, OUTPUT = (
    "input",
    "unit",
    "other units",
    "error",
    "other errors",
    "bias",
    "output",
)
LEAVES = (INPUT, ERROR, ERRORS, BIAS)  # nothing flows into these
PARTS = (UNIT, UNITS)


@dataclass(frozen=True)
class MapNode:
    """A part at a place; ``value`` is what flows through it to the target (the target's unit).

    ``unit`` is the channel or latent; ``cell`` its square, counted from the top left corner, ``pixels`` the site's own
    pixels in it: y0, x0, y1, x1 (the last ones not in it).
    """

    name: str
    kind: str
    site: str = ""
    unit: int | None = None
    cell: tuple[int, int] | None = None
    pixels: tuple[int, int, int, int] | None = None
    value: float = 0.0


@dataclass(frozen=True, eq=False)
class Grid:
    """The squares of a site: ``size`` of its pixels on a side, ``across`` squares in a row."""

    shape: tuple[int, int]
    size: int
    across: int

    @classmethod
    def of(cls, shape: tuple[int, int], cell: int, shown: tuple[int, int]) -> Grid:
        """Squares that match ``cell`` input pixels."""
        size = max(1, round(cell * shape[0] / shown[0]))
        return cls(shape, size, -(-shape[1] // size))

    def cells(self, rows: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        """The square of each pixel (y * width + x)."""
        width = self.shape[1]
        return (rows // width // self.size) * self.across + rows % width // self.size

    @property
    def count(self) -> int:
        """How many squares there are."""
        return -(-self.shape[0] // self.size) * self.across

    def box(self, cell: int) -> tuple[int, int, int, int]:
        """The pixels of a square: y0, x0, y1, x1."""
        y, x = cell // self.across * self.size, cell % self.across * self.size
        return y, x, min(y + self.size, self.shape[0]), min(x + self.size, self.shape[1])


@dataclass(frozen=True, eq=False)
class Pool:
    """All nodes in the order of the pass.

    By site: ``entries`` [entry] and ``errors`` [row] say which node each active unit and each pixel's error belongs
    to; ``patches`` the same for the input's pixels.
    """

    nodes: tuple[MapNode, ...]
    entries: dict[str, Tensor]
    errors: dict[str, Tensor]
    patches: Int[Tensor, " pixel"]
    index: dict[str, int] = field(default_factory=dict)


def pooled(
    sites: Sequence[Coded], shown: tuple[int, int], *, cell: int, pool: int, target: str
) -> Pool:  # fmt: skip
    """The graph's nodes, with the ``pool`` strongest units and errors in cells on their own."""
    groups = [_groups(coded, Grid.of(coded.shape[1:], cell, shown)) for coded in sites]
    alone = _strongest([each.shares for each in groups], pool)
    nodes, patches = _patches(shown, cell)
    entries, errors = {}, {}
    for coded, each, own in zip(sites, groups, alone):
        made, of_entry, of_error = each.nodes(coded.opening.name, own, len(nodes))
        nodes += made
        entries[coded.opening.site.name], errors[coded.opening.site.name] = of_entry, of_error
    nodes += [MapNode(BIAS, BIAS), MapNode(target, OUTPUT)]
    return Pool(tuple(nodes), entries, errors, patches, {node.name: number for number, node in enumerate(nodes)})


def _patches(shown: tuple[int, int], cell: int) -> tuple[list[MapNode], Tensor]:
    grid = Grid.of(shown, cell, shown)
    nodes = [
        MapNode(f"input@{grid.box(k)[0]},{grid.box(k)[1]}", INPUT, "", None, divmod(k, grid.across), grid.box(k))
        for k in range(grid.count)
    ]
    return nodes, grid.cells(torch.arange(shown[0] * shown[1]))


@dataclass(frozen=True, eq=False)
class _Groups:
    """Candidates of a site: ``unit`` (-1: the error) and ``cell`` of each, its share, and who belongs to it."""

    grid: Grid
    unit: Tensor
    cell: Tensor
    shares: Tensor
    of_entry: Tensor
    of_error: Tensor

    def nodes(self, name: str, alone: Tensor, first: int) -> tuple[list[MapNode], Tensor, Tensor]:
        """Nodes of the site from number ``first`` on, and the node of each entry and of each pixel's error."""
        rest = {kind: float(self.shares[~alone & marks].sum()) for kind, marks in self._kinds()}
        nodes = [MapNode(f"{name}.{kind.replace(' ', '-')}", kind, name, value=rest[kind]) for kind, _ in self._kinds()]
        numbers = torch.where(self.unit < 0, first + 1, first)
        for row in alone.nonzero()[:, 0].tolist():
            numbers[row] = first + len(nodes)
            nodes.append(self._node(name, int(self.unit[row]), int(self.cell[row]), float(self.shares[row])))
        # Leaves first would be in order as well: an error is read by later sites alone.
        return nodes, numbers[self.of_entry], numbers[self.of_error]

    def _kinds(self) -> list[tuple[str, Tensor]]:
        units = [(UNITS, self.unit >= 0)]
        return units if len(self.of_error) == 0 else [*units, (ERRORS, self.unit < 0)]

    def _node(self, name: str, unit: int, cell: int, share: float) -> MapNode:
        y, x, *_ = box = self.grid.box(cell)
        place = divmod(cell, self.grid.across)
        short, kind, index = (f".error@{y},{x}", ERROR, None) if unit < 0 else (f":{unit}@{y},{x}", UNIT, unit)
        return MapNode(name + short, kind, name, index, place, box, share)


def _groups(coded: Coded, grid: Grid) -> _Groups:
    keys = coded.latent * grid.count + grid.cells(coded.row)
    known, of_entry = keys.unique(return_inverse=True)
    shares = torch.zeros(len(known), dtype=torch.float64).index_add_(0, of_entry, coded.shares)
    unit, cell = known // grid.count, known % grid.count
    if coded.error_share is None:
        return _Groups(grid, unit, cell, shares, of_entry, of_entry[:0])
    cells = grid.cells(torch.arange(len(coded.error_share)))
    of_cell = torch.zeros(grid.count, dtype=torch.float64).index_add_(0, cells, coded.error_share)
    unit, cell = torch.cat([unit, torch.full((grid.count,), -1)]), torch.cat([cell, torch.arange(grid.count)])
    return _Groups(grid, unit, cell, torch.cat([shares, of_cell]), of_entry, cells + len(known))


def _strongest(shares: Sequence[Tensor], count: int) -> list[Tensor]:
    flat = torch.cat([*shares, torch.zeros(0, dtype=torch.float64)]).abs()
    marks = torch.zeros(len(flat), dtype=torch.bool)
    marks[flat.argsort(descending=True, stable=True)[:count]] = True
    return list((marks & (flat > 0)).split([len(each) for each in shares]))
