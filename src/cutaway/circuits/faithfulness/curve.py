"""Faithfulness over circuit size: the curve, its areas, and the smallest circuit that does 90 % of the job.

f(C) = (m(C) - m(empty)) / (m(N) - m(empty)) of metrics averaged over pairs; intervals resample entities, and with them
numerator and denominator together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.circuits.discovery.selection import Mask, Topology
from cutaway.circuits.discovery.setup import Progress, Setup
from cutaway.errors import BadInput
from cutaway.evidence import Measurement
from cutaway.evidence.metrics import SIZES, cmd, cpr, k90

LEVEL = 0.9
EVERY = 128  # edges: up to so many, every size is tried
CLOSE = 0.05  # beyond, the size of the k90 circuit is found to this share of itself
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Curve:
    """Circuits of growing size, cut from one order of edges.

    ``sizes`` are shares of all edges, ``edges`` how many each circuit really has (none hangs loose), ``values``
    [size pair] the metric.
    """

    setup: Setup
    sizes: tuple[float, ...]
    edges: tuple[int, ...]
    values: Float[Tensor, "size pair"]
    seed: int = 0

    @property
    def faithfulness(self) -> Float[np.ndarray, " size"]:
        """f at each size."""
        return self.setup.faithfulness(self.values)

    def _measured(self, area: Callable[[Float[np.ndarray, " size"]], float]) -> Measurement:
        drawn = resampled(self.setup, self.values, seed=self.seed)
        areas = [area(each) if np.isfinite(each).all() else math.nan for each in drawn]
        low, high = bounds(np.array(areas))
        return Measurement(area(self.faithfulness), low, high, n=entity_count(self.setup), seed=self.seed)

    @property
    def cpr(self) -> Measurement:
        """Area under f over size, unbounded; higher is better."""
        return self._measured(lambda f: cpr(self.sizes, f))

    @property
    def cmd(self) -> Measurement:
        """Area between f and 1; lower is better."""
        return self._measured(lambda f: cmd(self.sizes, f))

    @property
    def k90(self) -> Measurement:
        """The share of edges at which f first reaches 0.9, straight lines between sizes; NaN if it never does."""
        return self._measured(lambda f: k90(self.sizes, f))

    def intervals(self) -> list[Measurement]:
        """f at each size with its interval."""
        drawn = resampled(self.setup, self.values, seed=self.seed)
        ends = [bounds(column) for column in drawn.T]
        count = entity_count(self.setup)
        return [Measurement(float(f), *ends[i], n=count, seed=self.seed) for i, f in enumerate(self.faithfulness)]


def curve(
    setup: Setup,
    topology: Topology,
    order: Int[np.ndarray, " edge"],
    *,
    sizes: tuple[float, ...] = SIZES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Curve:
    """The metric of the connected top circuit at every share of edges."""
    masks = [topology.top(order, edge_count(topology, size)) for size in sizes]
    values = setup.values([topology.tensor(mask) for mask in masks], progress)
    return Curve(setup, tuple(sizes), tuple(int(mask.sum()) for mask in masks), values, seed)


def edge_count(topology: Topology, size: float) -> int:
    """How many edges a share of all of them is, at least one."""
    if not 0 < size <= 1:
        raise BadInput(f"A circuit of the share {size} was asked for; shares lie between 0 and 1.")
    return max(1, round(size * int(topology.possible.sum())))


def faithfulness_of(setup: Setup, values: Float[Tensor, " pair"], *, seed: int = 0) -> Measurement:
    """f of one circuit from its metric per pair, with the interval over entities."""
    low, high = bounds(resampled(setup, values[None], seed=seed)[:, 0])
    value = float(setup.faithfulness(values[None])[0])
    return Measurement(value, low, high, n=entity_count(setup), seed=seed)


def bounds(drawn: Float[np.ndarray, " resample"]) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles; NaN where more than 2.5 % of the resamples left the number undefined."""
    known = drawn[np.isfinite(drawn)]
    if len(known) < 0.975 * len(drawn):
        return math.nan, math.nan
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def resampled(
    setup: Setup, values: Float[Tensor, "circuit pair"], *, count: int = RESAMPLES, seed: int = 0
) -> Float[np.ndarray, "resample circuit"]:
    """f of circuits in bootstrap samples of the entities; NaN in samples in which the network's gap vanishes or turns.

    (f has no meaning there: such an ablation has hardly a gap, and its interval is unbounded.)
    """
    codes = _codes(setup)
    entities = int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(entities, np.full(entities, 1 / entities), size=count)[:, codes].astype(float)
    empty, network = setup.empty.double().numpy(), setup.network.double().numpy()
    gap = weights @ (network - empty)
    restored = weights @ (values.double().numpy() - empty).T
    turned = gap * np.sign(setup.gap) <= 1e-9 * float(np.abs(network - empty).sum())
    return restored / np.where(turned, np.nan, gap)[:, None]


def entity_count(setup: Setup) -> int:
    """How many independent entities the pairs come from."""
    return int(_codes(setup).max()) + 1


def _codes(setup: Setup) -> Int[np.ndarray, " pair"]:
    names = setup.entities or tuple(range(len(setup.pairs)))
    known: dict[object, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names])


# -- the circuit at k90 --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Smallest:
    """The smallest circuit of an order that reaches the level: its mask, its f on the pairs it was cut on, passes."""

    mask: Mask
    faithfulness: float
    passes: int
    dropped: int = 0

    @property
    def size(self) -> int:
        """Number of edges."""
        return int(self.mask.sum())


def smallest(
    setup: Setup,
    topology: Topology,
    order: Int[np.ndarray, " edge"],
    *,
    level: float = LEVEL,
    every: int = EVERY,
    progress: Progress | None = None,
) -> Smallest:
    """The smallest connected beginning of the order with f >= ``level``.

    On graphs of at most ``every`` edges every size is tried; on others the grid of sizes, then the gap between two of
    them is halved down to 5 %. The whole network reaches every level up to 1, so that there always is one.
    """
    total = int(topology.possible.sum())
    if total <= every:
        return _of_every_size(setup, topology, order, level, progress)
    low, high, passes, mask, f = 0, total, 0, topology.possible, 1.0
    for size in SIZES:
        count = edge_count(topology, size)
        trial, reached = _tried(setup, topology, order, count)
        passes += 1
        if reached >= level:
            high, mask, f = count, trial, reached
            break
        low = count
    while high - low > max(1, CLOSE * high):
        middle = (low + high) // 2
        trial, reached = _tried(setup, topology, order, middle)
        passes += 1
        if reached >= level:
            high, mask, f = middle, trial, reached
        else:
            low = middle
    return Smallest(mask, f, passes)


def _tried(setup: Setup, topology: Topology, order: np.ndarray, count: int) -> tuple[Mask, float]:
    mask = topology.top(order, count)
    return mask, float(setup.faithfulness(setup.values([topology.tensor(mask)]))[0])


def _of_every_size(
    setup: Setup, topology: Topology, order: np.ndarray, level: float, progress: Progress | None
) -> Smallest:
    masks: list[Mask] = []
    for length in range(1, len(order) + 1):
        mask = topology.of_order(order, length)
        if mask.any() and (not masks or (mask != masks[-1]).any()):
            masks.append(mask)
    values = setup.faithfulness(setup.values([topology.tensor(mask) for mask in masks], progress))
    first = next((i for i, f in enumerate(values) if f >= level), len(masks) - 1)
    return Smallest(masks[first], float(values[first]), len(masks))


def without_idle(setup: Setup, topology: Topology, found: Smallest, *, most: int = EVERY) -> Smallest:
    """The circuit without edges whose removal moves no output at all, if it has at most ``most`` edges.

    An order of single edges lets such edges in where several important ones tie. All idle edges go at once; if that
    does change the output (two that stand in for each other), none does.
    """
    if not 1 < found.size <= most:
        return found
    places = np.argwhere(found.mask)
    keeps = []
    for row, column in places:
        mask = found.mask.copy()
        mask[row, column] = False
        keeps.append(topology.tensor(mask))
    whole = setup.outputs(topology.tensor(found.mask)[None])[0]
    scale = max(float(whole.abs().max()), 1e-12)
    idle = found.mask.copy()
    size = setup.copies()
    for first in range(0, len(keeps), size):
        outputs = setup.outputs(torch.stack(keeps[first : first + size]))
        apart = (outputs - whole).abs().flatten(1).max(1).values / scale
        for (row, column), moved in zip(places[first : first + size], apart.tolist()):
            idle[row, column] = moved < 1e-6
    if not idle.any():
        return Smallest(found.mask, found.faithfulness, found.passes + len(keeps) + 1)
    rest = topology.connected(found.mask & ~idle)
    left = setup.outputs(topology.tensor(rest)[None])[0]
    if float((left - whole).abs().max()) / scale > 1e-5:
        rest = found.mask
    return Smallest(rest, found.faithfulness, found.passes + len(keeps) + 2, found.size - int(rest.sum()))
