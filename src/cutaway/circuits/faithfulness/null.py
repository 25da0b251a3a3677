"""Random circuits of the same size: what any circuit of so many edges does.

They are as connected as a found one: every edge lies on a path from an embedding to the output. Small ones grow by
random paths, each drawn backwards from the output; large ones (over 500 edges and 5 % of all) are the connected part of
a random order, in which hardly an edge hangs loose.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from cutaway.circuits.discovery.selection import Mask, Topology
from cutaway.circuits.discovery.setup import Progress, Setup

DENSE, MANY = 0.05, 500
TRIES = 200  # paths in a row that do not fit before a circuit is left a little smaller


def random_circuit(topology: Topology, count: int, rng: np.random.Generator) -> Mask:
    """A random connected circuit of ``count`` edges, or of a few less where no path fits into what is left."""
    if count >= max(MANY, DENSE * float(topology.possible.sum())):
        return topology.top(random_order(topology, rng), count)
    mask = np.zeros(topology.shape, dtype=bool)
    missed = size = 0
    while size < count and missed < TRIES:
        path = random_path(topology, rng)
        new = [place for place in path if not mask[place]]
        if not new or size + len(new) > count:
            missed += 1
            continue
        for place in new:
            mask[place] = True
        size, missed = size + len(new), 0
    return mask


def random_order(topology: Topology, rng: np.random.Generator) -> np.ndarray:
    """All edges in random order."""
    return rng.permutation(np.flatnonzero(topology.possible.ravel()))


def random_path(topology: Topology, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Edges of a path from the output back to an embedding, every step chosen evenly among what can come before."""
    column, path = topology.shape[1] - 1, []
    while True:
        row = int(rng.integers(topology.graph.targets[column].upstream))
        path.append((row, column))
        if row < topology.roots:
            return path
        feeding = np.flatnonzero(topology.feeds[:, row])
        column = int(feeding[rng.integers(len(feeding))])


def random_faithfulness(
    setup: Setup, topology: Topology, size: int, *, count: int = 100, seed: int = 0, progress: Progress | None = None
) -> Float[np.ndarray, " circuit"]:
    """f of ``count`` random connected circuits of ``size`` edges."""
    rng = np.random.default_rng(seed)
    keeps = [topology.tensor(random_circuit(topology, size, rng)) for _ in range(count)]
    return setup.faithfulness(setup.values(keeps, progress))


def random_curves(
    setup: Setup,
    topology: Topology,
    counts: tuple[int, ...],
    *,
    curves: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Float[np.ndarray, "circuit size"]:
    """f of random connected circuits of each of several sizes: the band under a curve."""
    rng = np.random.default_rng(seed)
    masks = [[random_circuit(topology, max(1, count), rng) for count in counts] for _ in range(curves)]
    keeps = [topology.tensor(mask) for row in masks for mask in row]
    return setup.faithfulness(setup.values(keeps, progress)).reshape(curves, len(counts))
