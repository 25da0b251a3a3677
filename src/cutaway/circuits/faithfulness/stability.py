"""Would other pairs, or other words for the same, have given the same circuit? Jaccard overlap of edges.

Resampling needs no new pass where the method scores pairs one by one: the scores of drawn pairs are averaged anew. The
null are random connected circuits of the same size. Circuits of EAP-IG are known to shift (arXiv 2606.16920), so a
circuit without this number is half a result.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from cutaway.circuits.discovery.ranking import Ranking, importance_of, ordered
from cutaway.circuits.discovery.selection import Mask, Topology
from cutaway.circuits.discovery.setup import Setup
from cutaway.circuits.faithfulness.null import random_circuit
from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import Measurement, measure_against_null
from cutaway.evidence.metrics import jaccard

DRAWS = 20
NULLS = 19


def resampling_stability(
    setup: Setup, topology: Topology, ranking: Ranking, size: int, *, draws: int = DRAWS, seed: int = 0
) -> Measurement:
    """Mean Jaccard between circuits of ``size`` edges from bootstrap samples of the pairs' entities.

    ``low`` and ``high`` are the 2.5 and 97.5 percentiles of single comparisons. Raises ``NotTestable`` for methods that
    do not score pairs one by one.
    """
    if ranking.per_pair is None:
        raise NotTestable(f"The method {ranking.method!r} gives no scores for single pairs, so they cannot be redrawn.")
    if draws < 2:
        raise BadInput(f"{draws} draws were asked for; agreement needs at least 2.")
    rng = np.random.default_rng(seed)
    chosen = [_redrawn(setup, topology, ranking, size, rng) for _ in range(draws)]
    between = [value for i, a in enumerate(chosen) for b in chosen[:i] if np.isfinite(value := jaccard(a, b))]
    if not between:
        raise NotTestable(f"Circuits of {size} edges from redrawn pairs reach no embedding, so none can be compared.")
    null = _random_overlap(topology, size, rng)
    return measure_against_null(
        float(np.mean(between)), null, bootstrap=between, n=len(set(setup.entities)) or len(setup.pairs),
        alternative="greater", seed=seed,
    )  # fmt: skip


def overlap(topology: Topology, first: Mask, second: Mask, *, n: int, seed: int = 0) -> Measurement:
    """Jaccard of two circuits against that of random connected circuits of the first one's size."""
    rng = np.random.default_rng(seed)
    null = _random_overlap(topology, max(1, int(first.sum())), rng)
    return measure_against_null(jaccard(members(first), members(second)), null, n=n, alternative="greater", seed=seed)


def members(mask: Mask) -> set[int]:
    """A circuit as a set of flat indices."""
    return {int(place) for place in np.flatnonzero(mask.ravel())}


def _redrawn(setup: Setup, topology: Topology, ranking: Ranking, size: int, rng: np.random.Generator) -> set[int]:
    assert ranking.per_pair is not None
    names = list(dict.fromkeys(setup.entities or range(len(setup.pairs))))
    of = setup.entities or tuple(range(len(setup.pairs)))
    drawn = rng.integers(len(names), size=len(names))
    rows = [row for index in drawn for row, name in enumerate(of) if name == names[int(index)]]
    importance = importance_of(setup, ranking.per_pair[torch.tensor(rows)])
    return members(topology.top(ordered(importance, ranking.graph), size))


def _random_overlap(topology: Topology, size: int, rng: np.random.Generator) -> list[float]:
    drawn = [members(random_circuit(topology, size, rng)) for _ in range(NULLS + 1)]
    return [value for one, other in pairwise(drawn) if np.isfinite(value := jaccard(one, other))]
