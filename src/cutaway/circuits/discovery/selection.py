"""From scores to circuits: sets of edges in which every edge lies on a path from an embedding to the output.

    connected   what is left of a set of edges when those on no such path are dropped
    top         the longest beginning of an order whose connected part has at most so many edges
    greedy      grown backwards from the output, always by the best edge into what is there (as in EAP-IG's code)

Under resample ablation dropping an edge that is on no path changes nothing at all: what it carries is the reference
either way.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cutaway.circuits.edges.graph import EdgeGraph, owners
from cutaway.circuits.edges.wiring import Wired
from cutaway.errors import BadInput

Mask = Bool[np.ndarray, "source target"]


@dataclass(frozen=True, eq=False)
class Topology:
    """A graph with what is needed to walk it: which target feeds which sources, step by step.

    ``feeds`` [target source] is True where a target's input is part of a source (a query of its head; a group's keys of
    all its heads). ``steps`` are columns of targets that can be served together and the sources that they complete.
    """

    graph: EdgeGraph
    feeds: Bool[np.ndarray, "target source"]
    steps: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def of(cls, wired: Wired) -> Topology:
        """The topology of an opened network."""
        graph, groups = wired.graph, {layer.index: layer.group for layer in wired.parts.layers}
        feeds = np.zeros((len(graph.targets), len(graph.sources)), dtype=bool)
        for column, target in enumerate(graph.targets):
            for name in owners(target.name, groups.get(target.layer, 1)):
                feeds[column, graph.source_index[name]] = True
        steps = []
        for layer in wired.parts.layers:
            for ports in (("q", "k", "v"), ("mlp",)):
                columns = np.array(graph.layer_targets(layer.index, ports), dtype=int)
                if len(columns):
                    steps.append((columns, np.flatnonzero(feeds[columns].any(0))))
        return cls(graph, feeds, tuple(steps))

    @cached_property
    def roots(self) -> int:
        """How many of the first sources are embeddings."""
        return len(self.graph.sources) - int(self.feeds.any(0).sum())

    @cached_property
    def possible(self) -> Mask:
        """Every edge."""
        return self.graph.possible.numpy()

    @property
    def shape(self) -> tuple[int, int]:
        """Sources and targets."""
        return self.feeds.shape[1], self.feeds.shape[0]

    def reached(self, mask: Mask) -> Bool[np.ndarray, " source"]:
        """Sources to which a path of edges leads from an embedding."""
        found = np.zeros(self.shape[0], dtype=bool)
        found[: self.roots] = True
        for columns, sources in self.steps:
            fed = np.any(mask[:, columns] & found[:, None], axis=0)
            found[sources] = (self.feeds[np.ix_(columns, sources)] & fed[:, None]).any(0)
        return found

    def useful(self, mask: Mask) -> Bool[np.ndarray, " target"]:
        """Targets from which a path of edges leads to the output."""
        found = np.zeros(self.shape[1], dtype=bool)
        found[-1] = True
        for columns, sources in reversed(self.steps):
            needed = np.any(mask[sources] & found, axis=1)
            found[columns] = (self.feeds[np.ix_(columns, sources)] & needed).any(1)
        return found

    def connected(self, mask: Mask) -> Mask:
        """The edges that lie on a path from an embedding to the output."""
        return mask & self.reached(mask)[:, None] & self.useful(mask)

    def of_order(self, order: Int[np.ndarray, " edge"], length: int) -> Mask:
        """The connected part of the first so many edges of an order."""
        mask = np.zeros(self.shape, dtype=bool)
        mask.ravel()[order[:length]] = True
        return self.connected(mask)

    def top(self, order: Int[np.ndarray, " edge"], count: int) -> Mask:
        """The longest beginning of the order whose connected part has at most ``count`` edges: that part.

        The connected part only grows with the beginning, so that halving finds it.
        """
        _check_count(count, len(order))
        low, high = 0, len(order)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.of_order(order, middle).sum() <= count else (low, middle - 1)
        return self.of_order(order, low)

    def greedy(self, key: Float[np.ndarray, "source target"], count: int) -> Mask:
        """``count`` edges grown backwards from the output by falling key, then those without a path are dropped."""
        _check_count(count, int(self.possible.sum()))
        mask = np.zeros(self.shape, dtype=bool)
        waiting: list[tuple[float, int, int]] = []
        opened = np.zeros(self.shape[1], dtype=bool)

        def open_target(column: int) -> None:
            if not opened[column]:
                opened[column] = True
                for row in np.flatnonzero(self.possible[:, column]):
                    heapq.heappush(waiting, (-float(key[row, column]), int(row), column))

        open_target(self.shape[1] - 1)
        for _ in range(count):
            if not waiting:
                break
            _, row, column = heapq.heappop(waiting)
            mask[row, column] = True
            for feeding in np.flatnonzero(self.feeds[:, row]):
                open_target(int(feeding))
        return self.connected(mask)

    def tensor(self, mask: Mask) -> Bool[Tensor, "source target"]:
        """A mask as the runtime takes it."""
        return torch.from_numpy(mask.copy())


def _check_count(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise BadInput(f"A circuit of {count} edges was asked for; this network has {most}.")
