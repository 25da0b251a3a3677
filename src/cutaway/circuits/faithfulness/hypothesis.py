"""Is it the circuit? Tests after Shi et al. 2024 ("Hypothesis Testing the Circuit Hypothesis in LLMs"), done right.

equivalence    Published as a sign test whose *failure* to reject counts as success, so that few pairs prove anything.
               Here the claim is the alternative (TOST): the share of pairs on which the circuit scores above the
               network is within a margin of one half, and the mean within a tenth of the gap.
independence   What is left without the circuit should carry nothing of the network's answer: HSIC over pairs, p
               by permutation with +1 (Phipson and Smyth 2010). Not rejecting is no proof; p comes with n.
minimality     Every edge should matter more than a random edge of an inflated circuit: p with +1, Holm over edges.
completeness   Removing a part of the circuit should hurt the circuit as it hurts the network (Wang et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from cutaway.circuits.discovery.selection import Mask, Topology
from cutaway.circuits.discovery.setup import Progress, Setup
from cutaway.circuits.faithfulness.null import random_path
from cutaway.errors import NotTestable
from cutaway.evidence import Measurement, holm, measure_against_null, measure_proportion, permutation_p
from cutaway.evidence.metrics import completeness as completeness_of

ALPHA = 0.05
MARGIN = 0.2  # of the share of pairs, around one half
MEAN_MARGIN = 0.1  # of the gap
TIED = 1e-6  # of the gap


@dataclass(frozen=True)
class Equivalence:
    """``share`` of pairs on which the circuit scores above the network (ties half) with the p of its TOST; the same for
    the mean difference in units of the gap. ``needed``: pairs from which on a perfect half would be accepted.
    """

    share: Measurement
    share_p: float
    mean: Measurement
    mean_p: float
    needed: int
    margin: float = MARGIN
    mean_margin: float = MEAN_MARGIN

    @property
    def holds(self) -> bool:
        """True if the circuit is shown to be equivalent by both."""
        return max(self.share_p, self.mean_p) <= ALPHA


def equivalence(
    circuit: Float[np.ndarray, " pair"],
    network: Float[np.ndarray, " same_pair"],
    *,
    gap: float | int,
    margin: float = MARGIN,
    mean_margin: float = MEAN_MARGIN,
) -> Equivalence:
    """Two one-sided tests of the share of pairs above, and of the mean difference."""
    apart = (np.asarray(circuit, dtype=float) - np.asarray(network, dtype=float)) / abs(float(gap))
    above, ties, n = int((apart > TIED).sum()), int((np.abs(apart) <= TIED).sum()), len(apart)
    low, high = above + ties // 2, above + (ties + 1) // 2
    interval = measure_proportion(low, n)
    share = Measurement((above + ties / 2) / n, interval.low, interval.high, 0.5, n=n)
    error = float(apart.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    reach = float(stats.t.ppf(0.975, max(n - 1, 1))) * error
    mean = float(apart.mean())
    return Equivalence(
        share, _share_p(low, high, n, margin), Measurement(mean, mean - reach, mean + reach, 0.0, n=n),
        _mean_p(mean, error, n, mean_margin), _needed(margin), margin, mean_margin,
    )  # fmt: skip


def _share_p(low: int, high: int, n: int, margin: float) -> float:
    """The larger of P(X >= x) under 1/2 - margin and P(X <= x) under 1/2 + margin."""
    return float(max(stats.binom.sf(low - 1, n, 0.5 - margin), stats.binom.cdf(high, n, 0.5 + margin)))


def _mean_p(mean: float, error: float, n: int, margin: float) -> float:
    if not error > 0:  # all differences alike: no smaller p than that of n equal signs
        return 2.0**-n if abs(mean) < margin else 1.0
    below = stats.t.sf((mean + margin) / error, n - 1)
    above = stats.t.cdf((mean - margin) / error, n - 1)
    return float(max(below, above))


def _needed(margin: float) -> int:
    return next((n for n in range(2, 4000, 2) if _share_p(n // 2, n // 2, n, margin) <= ALPHA), 4000)


# -- independence --------------------------------------------------------------------------------------------------


def independence(
    rest: Float[np.ndarray, " pair"], network: Float[np.ndarray, " same_pair"], *, shuffles: int = 999, seed: int = 0
) -> Measurement:
    """HSIC between the metric without the circuit and the network's, over pairs; p against shuffled pairs, with +1.

    Gaussian kernels of median width, biased estimate (Gretton et al. 2007); 0 where the rest says the same for all.
    """
    one, other = _kernel(rest), _kernel(network)
    n = len(one)
    rng = np.random.default_rng(seed)
    observed = float((one * other).sum() / n**2)
    null = np.array([(one * other[np.ix_(order, order)]).sum() / n**2 for order in _orders(n, shuffles, rng)])
    return measure_against_null(observed, null, n=n, alternative="greater", seed=seed)


def _orders(n: int, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.permutation(n) for _ in range(count)]


def _kernel(values: Float[np.ndarray, " pair"]) -> Float[np.ndarray, "pair pair"]:
    """A centred Gaussian kernel matrix."""
    apart = np.abs(values[:, None] - values[None]).astype(float)
    width = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
    kernel = np.exp(-(apart**2) / (2 * width**2))
    return kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean()


# -- minimality ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Minimality:
    """For each tested edge what its removal changes, in units of the gap, and Holm's p against random edges."""

    edges: tuple[tuple[int, int], ...]
    change: Float[np.ndarray, " edge"]
    p: Float[np.ndarray, " edge"]
    null: Float[np.ndarray, " draw"]
    tested_all: bool

    @property
    def share(self) -> float:
        """Share of tested edges that matter more than random ones (Holm, 5 %)."""
        return float((self.p <= ALPHA).mean()) if len(self.p) else math.nan


def minimality(
    setup: Setup,
    topology: Topology,
    mask: Mask,
    *,
    most: int = 16,
    nulls: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Minimality:
    """Removes edges of the circuit (``most`` of them, at random), and random edges from inflated circuits.

    Holm's first step needs p <= 0.05 / edges, and p is at least 1 / (nulls + 1): so many nulls are drawn.
    Raises ``NotTestable`` where the circuit is the whole network.
    """
    rng = np.random.default_rng(seed)
    places = [(int(row), int(column)) for row, column in np.argwhere(mask)]
    if not places:
        raise NotTestable("Minimality of a circuit without edges was asked for; there is nothing to remove.")
    tested = places if len(places) <= most else [places[i] for i in sorted(rng.permutation(len(places))[:most])]
    draws = nulls if nulls is not None else int(len(tested) / ALPHA) + 19
    change = _changes(setup, topology, [(mask, place) for place in tested], progress)
    removals: list[tuple[Mask, tuple[int, int]]] = []
    while len(removals) < draws:
        removals += _inflated(topology, mask, rng)
    null = _changes(setup, topology, removals, progress)
    p = np.array([permutation_p(float(each), null, alternative="greater") for each in change])
    return Minimality(tuple(tested), change, holm(p), null, len(tested) == len(places))


def _inflated(topology: Topology, mask: Mask, rng: np.random.Generator) -> list[tuple[Mask, tuple[int, int]]]:
    """The circuit with a random path added, and each of the path's new edges."""
    for _ in range(1000):
        new = [place for place in random_path(topology, rng) if not mask[place]]
        if new:
            inflated = mask.copy()
            for place in new:
                inflated[place] = True
            return [(inflated, place) for place in new]
    raise NotTestable("Every path of the network is in the circuit, so there is no random edge to compare with.")


def _changes(
    setup: Setup, topology: Topology, removals: Sequence[tuple[Mask, tuple[int, int]]], progress: Progress | None
) -> Float[np.ndarray, " removal"]:
    """Mean over pairs of the absolute change when an edge leaves a circuit, in units of the gap."""
    keeps: list[Tensor] = []
    place_of: dict[bytes, int] = {}
    wanted: list[tuple[int, int]] = []  # where the circuit with and the one without the edge are
    for mask, place in removals:
        base = mask.tobytes()
        if base not in place_of:
            place_of[base] = len(keeps)
            keeps.append(topology.tensor(mask))
        without = mask.copy()
        without[place] = False
        wanted.append((place_of[base], len(keeps)))
        keeps.append(topology.tensor(without))
    values = setup.values(keeps, progress)
    apart = [float((values[one] - values[other]).abs().mean()) for one, other in wanted]
    return np.array(apart) / abs(setup.gap)


# -- completeness --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Completeness:
    """``worst`` of |F(C without K) - F(N without K)| over ``subsets`` random halves K of the circuit and all of it, in
    units of the gap; ``rest`` is f of the network without the circuit.
    """

    worst: float
    subsets: int
    rest: float


def completeness(
    setup: Setup, topology: Topology, mask: Mask, *, subsets: int = 8, seed: int = 0
) -> tuple[Completeness, Float[np.ndarray, " pair"]]:
    """Completeness, and the metric of every pair without the circuit."""
    rng = np.random.default_rng(seed)
    halves = [mask] + [mask & (rng.random(mask.shape) < 0.5) for _ in range(subsets)]
    keeps = [topology.tensor(whole & ~half) for half in halves for whole in (mask, topology.possible)]
    values = setup.values(keeps)
    f = setup.faithfulness(values)
    found = Completeness(completeness_of(f[0::2], f[1::2]), subsets, float(f[1]))
    return found, values[1].double().numpy()
