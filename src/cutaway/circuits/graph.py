"""Circuits as graphs: units at several sites and the weights between them, grown backwards from one unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cutaway.circuits.contributions import inputs_of
from cutaway.circuits.weights import Kernel, kernel
from cutaway.errors import BadInput
from cutaway.networks.network import Network


@dataclass(frozen=True)
class Node:
    """A unit in a circuit; ``column`` is its layer from left to right, from 0."""

    address: str
    column: int


@dataclass(frozen=True)
class Edge:
    """A weight between two nodes: the kernel's signed ``total`` and L2 ``norm``, and how it was come by."""

    source: str
    target: str
    total: float
    norm: float
    how: str = "direct"
    exact: bool = True


@dataclass(frozen=True)
class Circuit:
    """Units and the signed weights between them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"nodes": [vars(node) for node in self.nodes], "edges": [vars(edge) for edge in self.edges]}


def grow(network: Network, address: str, sites: Sequence[str], *, top: int = 4, every_edge: bool = False) -> Circuit:
    """The circuit of a unit: its ``top`` strongest inputs (L2 norm) at the last of ``sites``, theirs at the one before.

    ``sites`` are in the order of the forward pass and end before the unit's. Edges are each unit's strongest inputs,
    or with ``every_edge`` all between chosen units of neighbouring sites. Raises ``BadInput`` where a site does not
    lead to the next.
    """
    end = network.address(address)
    if not sites or top < 1:
        raise BadInput("A circuit of no site or no unit was asked for; name at least one site and top >= 1.")
    chain = [*sites, end.site]
    kernels = [kernel(network, first, second) for first, second in pairwise(chain)]
    chosen, strong = [[end.unit]], []
    for each in reversed(kernels):
        strongest = {unit: [one.unit for one in inputs_of(each, unit, top=top)] for unit in chosen[0]}
        strong.insert(0, strongest)
        chosen.insert(0, list(dict.fromkeys(unit for units in strongest.values() for unit in units)))
    nodes = [Node(f"{site}:{unit}", column) for column, site in enumerate(chain) for unit in chosen[column]]
    edges = [
        _edge(each, source, target)
        for each, sources, inputs in zip(kernels, chosen, strong)
        for target, own in inputs.items()
        for source in (sources if every_edge else own)
    ]
    return Circuit(tuple(nodes), tuple(edges))


def _edge(each: Kernel, source: int, target: int) -> Edge:
    weights = each.values[target, source]
    addresses = f"{each.source}:{source}", f"{each.target}:{target}"
    return Edge(*addresses, float(weights.sum()), float(weights.norm()), each.how, each.exact)
