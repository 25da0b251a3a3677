"""What a discovery method says: one score for every edge, and by which number edges are taken into a circuit.

    strength   the mean over pairs of the absolute change: edges that matter on some prompt, in either direction
    absolute   the absolute mean change, as published: what an edge does with one sign on one prompt and with the other
               on the next cancels
    signed     edges that help first (best for CPR)

An edge serves every position, so what it does depends on the prompt; where answers stand at varying places (induction)
cancelling hides most of a circuit, hence strength is the default. Published tables mix the other two up; all are kept.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor

from cutaway.circuits.discovery.setup import Setup
from cutaway.circuits.edges.attribution import Cost
from cutaway.circuits.edges.graph import EdgeGraph
from cutaway.errors import UnknownName

ORDERS = ("strength", "absolute", "signed")
CHANGE = "change of the metric"


@dataclass(frozen=True, eq=False)
class Ranking:
    """Every edge scored by one method.

    ``scores`` [source target]: the change of the metric when the edge is corrupted, unless ``unit`` says otherwise.
    ``importance`` [source target], at least 0: how much depends on the edge; edges are taken in this order. ``exact``:
    which scores were measured by patching. ``chosen``: the method's own circuit, where it names one. ``per_pair``
    [pair source target] where the method scores pairs.
    """

    graph: EdgeGraph
    method: str
    scores: Float[Tensor, "source target"]
    importance: Float[Tensor, "source target"]
    exact: Bool[Tensor, "source target"]
    cost: Cost
    per_pair: Float[Tensor, "pair source target"] | None = None
    chosen: Bool[Tensor, "source target"] | None = None
    unit: str = CHANGE
    notes: tuple[str, ...] = field(default=())

    def order(self, by: str = "strength", *, helpful: float | int = 1) -> Int[np.ndarray, " edge"]:
        """Flat indices of all edges, the first to be taken first.

        ``strength`` sorts by importance, ``absolute`` by the absolute score, ``signed`` by how much the edge helps:
        ``helpful`` is the sign of the network's gap (its metric minus that with every edge cut). Scores that are no
        changes of the metric have one order only. Raises ``UnknownName`` for another order.
        """
        if by not in ORDERS:
            raise UnknownName("order", by, ORDERS)
        if by == "strength" or self.unit != CHANGE:
            return ordered(self.importance, self.graph)
        return ordered(self.scores.abs() if by == "absolute" else -helpful * self.scores, self.graph)

    def intervals(
        self, entities: Sequence[Hashable] = ()
    ) -> tuple[Float[Tensor, "source target"], Float[Tensor, "source target"]]:
        """Ends of the 95 % interval of every edge's mean score, entities as clusters (linearised error, Student's t).

        NaN where pairs have no scores of their own.
        """
        if self.per_pair is None or len(self.per_pair) < 2:
            nothing = torch.full_like(self.scores, torch.nan)
            return nothing, nothing
        names = list(entities) or list(range(len(self.per_pair)))
        known = {name: code for code, name in enumerate(dict.fromkeys(names))}
        sums = torch.zeros(len(known), *self.scores.shape)
        sums.index_add_(0, torch.tensor([known[name] for name in names]), self.per_pair - self.scores)
        count = len(known)
        if count < 2:
            nothing = torch.full_like(self.scores, torch.nan)
            return nothing, nothing
        error = (sums.square().sum(0) * count / (count - 1)).sqrt() / len(self.per_pair)
        reach = float(stats.t.ppf(0.975, count - 1)) * error
        return self.scores - reach, self.scores + reach


def ordered(key: Float[Tensor, "source target"], graph: EdgeGraph) -> Int[np.ndarray, " edge"]:
    """Flat indices of the graph's edges by falling key; equal keys in the order of the graph."""
    flat = key.double().cpu().numpy().ravel()
    places = np.flatnonzero(graph.possible.numpy().ravel())
    return places[np.argsort(-flat[places], kind="stable")]


def importance_of(
    setup: Setup, per_pair: Float[Tensor, "pair source target"], moved: Float[Tensor, "source target"] | None = None
) -> Float[Tensor, "source target"]:
    """How much depends on each edge, as a share of what all edges together do: mean |change of the metric| / |gap|.

    Where no answer is named and the whole output counts, the share of the outputs' movement (``moved``) instead, if it
    was measured and is larger: it sees changes that leave the metric alone.
    """
    strength = per_pair.abs().mean(0) / abs(setup.gap)
    if not setup.whole_output or moved is None or not bool(moved.isfinite().any()):
        return strength
    return torch.maximum(strength, torch.nan_to_num(moved) / _full_movement(setup))


def _full_movement(setup: Setup) -> float:
    """Mean absolute change of the read outputs when every edge is cut."""
    everything = setup.wired.graph.possible
    outputs = [setup.outputs(keep[None])[0] for keep in (everything, torch.zeros_like(everything))]
    mask = setup.pairs.clean.mask
    apart = (outputs[0] - outputs[1]).abs().mean(2)
    if mask is None or apart.shape[1] != mask.shape[1]:
        return max(float(apart.mean()), 1e-12)
    real = mask.to(apart)
    return max(float(((apart * real).sum(1) / real.sum(1)).mean()), 1e-12)
