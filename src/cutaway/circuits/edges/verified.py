"""The default method: EAP-IG where gradients can be trusted, exact patching where it decides or where they cannot.

Gradients fail silently: through a saturated softmax nothing comes back, so an edge into a query that moves all of the
attention scores 0 (every compiled program has such heads; trained ones have some). Passes are spent, up to a budget of
so many times the cost of EAP-IG, in this order:

1. few enough edges for the budget: every edge is patched exactly, and no score is an estimate;
2. otherwise the largest estimates are checked exactly, with half of the budget;
3. the rest goes into group tests: all edges into one target cut at once. Where the group does much more (or less) than
   its estimates add up to, it is halved and tested again, down to single edges. Targets are taken in the order of their
   estimates, heads' queries and keys and MLPs first, since it is there that gradients vanish.

What was not patched alone keeps its estimate, marked as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.circuits.edges.attribution import Cost, EdgeScores, attribute
from cutaway.circuits.edges.exact import cut_effects
from cutaway.circuits.edges.graph import EdgeGraph
from cutaway.circuits.edges.pairs import Metric, Pairs
from cutaway.circuits.edges.runtime import Sources, record
from cutaway.circuits.edges.wiring import Wired

Say = Callable[[str], None]
CLEAR = 0.02  # of the clean-corrupt gap: smaller gaps between a group and its estimates are let be


@dataclass(frozen=True, eq=False)
class Scores:
    """Edge scores of which some are measured: ``exact`` says which.

    ``per_pair`` [pair source target] is the change of the metric when the edge is corrupted, measured or estimated;
    ``moved`` [source target] the mean absolute change of the read outputs where it was measured (NaN elsewhere).
    """

    graph: EdgeGraph
    per_pair: Float[Tensor, "pair source target"]
    exact: Bool[Tensor, "source target"]
    moved: Float[Tensor, "source target"]
    estimate: EdgeScores
    cost: Cost
    notes: tuple[str, ...] = field(default=())

    @property
    def mean(self) -> Float[Tensor, "source target"]:
        """The mean change over pairs."""
        return self.per_pair.mean(0)

    @property
    def strength(self) -> Float[Tensor, "source target"]:
        """How much depends on the edge, at least 0: the mean over pairs of the absolute change of the metric."""
        return self.per_pair.abs().mean(0)


@dataclass(frozen=True)
class _Group:
    """Sources ``low`` to ``high`` into one target."""

    target: int
    low: int
    high: int


def verified(
    wired: Wired,
    pairs: Pairs,
    metric: Metric,
    *,
    steps: int = 5,
    times: float | int = 6,
    reference: Sources | None = None,
    seed: int = 0,
    say: Say = lambda _text: None,
) -> Scores:
    """Scores of all edges at no more than ``times`` the passes of EAP-IG with ``steps`` steps."""
    estimate = attribute(wired, pairs, metric, steps=steps, reference=reference)
    reference = record(wired, pairs.corrupt) if reference is None else reference
    search = _Search(wired, pairs, metric, reference, estimate)
    budget = int((times - 1) * estimate.cost.total)
    if wired.graph.count <= budget:
        say(f"{wired.graph.count} edges, each patched")
        search.singles([(s, t) for s, t in wired.graph.possible.nonzero().tolist()])
        return search.result(("every edge was patched",))
    say(f"the {budget // 2} largest of {wired.graph.count} edges, each patched")
    search.singles(search.largest(budget // 2))
    left = budget - search.spent
    say(f"groups of edges where gradients may fail, {left} passes")
    search.groups(left)
    return search.result((
        f"{int(search.exact.sum())} of {wired.graph.count} edges were patched; the others keep EAP-IG's estimate",
        f"of {search.tested} groups tested, {search.failed} did not do what their estimates add up to",
    ))  # fmt: skip


class _Search:
    """What is known so far: measured effects, group residues, passes spent."""

    def __init__(self, wired: Wired, pairs: Pairs, metric: Metric, reference: Sources, estimate: EdgeScores) -> None:
        self.wired, self.pairs, self.metric = wired, pairs, metric
        self.reference, self.estimate = reference, estimate
        self.per_pair = estimate.per_pair.clone()
        self.exact = torch.zeros_like(wired.graph.possible)
        self.moved = torch.full(wired.graph.possible.shape, torch.nan)
        self.spent = self.tested = self.failed = 0
        both = (metric.of(wired.network, batch, pairs) for batch in (pairs.clean, pairs.corrupt))
        clean, corrupt = both
        self.gap = max(float((clean - corrupt).abs().mean()), 1e-12)

    def singles(self, places: list[tuple[int, int]]) -> None:
        """Patches single edges and keeps what they did."""
        if not places:
            return
        cuts = []
        for source, target in places:
            cut = torch.zeros_like(self.exact)
            cut[source, target] = True
            cuts.append(cut)
        effects = cut_effects(self.wired, self.pairs, cuts, self.metric, reference=self.reference)
        self.spent += len(cuts)
        for (source, target), change, moved in zip(places, effects.change, effects.moved):
            self.per_pair[:, source, target] = change
            self.moved[source, target] = moved.mean()
            self.exact[source, target] = True

    def largest(self, count: int) -> list[tuple[int, int]]:
        """The edges with the largest estimates that are not measured yet."""
        score = self.estimate.per_pair.abs().mean(0)
        score = score.masked_fill(self.exact | ~self.wired.graph.possible, -1.0)
        order = score.flatten().topk(min(count, int((score >= 0).sum()))).indices
        width = self.exact.shape[1]
        return [(int(place) // width, int(place) % width) for place in order]

    def groups(self, budget: int) -> None:
        """Halves groups whose effect their parts do not explain, queries and keys first."""
        waiting = [_Group(t, 0, self.wired.graph.targets[t].upstream) for t in self._order()]
        while waiting and budget > 0:
            # Few at once, so that what fails is followed up before the next targets are begun.
            batch, waiting = waiting[: min(16, budget)], waiting[min(16, budget) :]
            budget -= len(batch)
            waiting = [*self._tested(batch), *waiting]

    def _tested(self, groups: list[_Group]) -> list[_Group]:
        cuts = []
        for group in groups:
            cut = torch.zeros_like(self.exact)
            cut[group.low : group.high, group.target] = True
            cuts.append(cut)
        effects = cut_effects(self.wired, self.pairs, cuts, self.metric, reference=self.reference)
        self.spent += len(cuts)
        self.tested += len(cuts)
        open_groups: list[_Group] = []
        for group, change, moved in zip(groups, effects.change, effects.moved):
            if group.high - group.low == 1:
                self._measured(group, change, moved)
                continue
            explained = self.per_pair[:, group.low : group.high, group.target].sum(1)
            if float((change - explained).abs().mean()) > CLEAR * self.gap:
                self.failed += 1
                middle = (group.low + group.high) // 2
                open_groups += [_Group(group.target, group.low, middle), _Group(group.target, middle, group.high)]
        return [group for group in open_groups if not self._known(group)]

    def _measured(self, group: _Group, change: Tensor, moved: Tensor) -> None:
        self.per_pair[:, group.low, group.target] = change
        self.moved[group.low, group.target] = moved.mean()
        self.exact[group.low, group.target] = True

    def _known(self, group: _Group) -> bool:
        return bool(self.exact[group.low : group.high, group.target].all())

    def _order(self) -> list[int]:
        """Targets, queries and keys first, those whose input differs most in front."""
        targets = self.wired.graph.targets
        totals = self.estimate.per_pair.abs().mean(0).sum(0)
        first = {"q": 0, "k": 0, "mlp": 1, "v": 2, "output": 2}
        return sorted(range(len(targets)), key=lambda t: (first[targets[t].port], -float(totals[t])))

    def result(self, notes: tuple[str, ...]) -> Scores:
        """Everything that was found."""
        cost = self.estimate.cost + Cost(self.spent)
        return Scores(self.wired.graph, self.per_pair, self.exact, self.moved, self.estimate, cost, notes)
