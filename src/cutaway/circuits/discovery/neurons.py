"""The baseline that circuits of edges have to beat: keep the best single neurons and heads, cut all others.

Nodes are scored by attribution along the inputs' path (difference times gradient, both at the node's output) and taken
by the magnitude of the mean. A circuit keeps its nodes' own values and gives all other neurons and heads the
reference's. Embeddings stay: so the empty circuit here is not the one of edges, and what it does is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from cutaway.circuits.discovery.setup import Setup
from cutaway.circuits.edges.attribution import Cost
from cutaway.circuits.edges.nodes import Keep, Nodes, attribute_nodes, node_reference, nodes_of, opened, run_nodes
from cutaway.circuits.edges.wiring import Wired
from cutaway.evidence.metrics import SIZES, cmd, cpr, k90
from cutaway.networks.network import Batch, Network

GRAINS = ("heads", "neurons")


@dataclass(frozen=True, eq=False)
class NeuronCircuits:
    """Faithfulness of circuits of the first ``count`` nodes, for every share in ``sizes``; ``empty`` with no node."""

    nodes: Nodes
    scores: Float[np.ndarray, " node"]
    order: tuple[int, ...]
    sizes: tuple[float, ...]
    counts: tuple[int, ...]
    faithfulness: tuple[float, ...]
    empty: float
    cost: Cost

    @property
    def cpr(self) -> float:
        """Area under the curve."""
        return cpr(self.sizes, self.faithfulness)

    @property
    def cmd(self) -> float:
        """Area between the curve and 1."""
        return cmd(self.sizes, self.faithfulness)

    @property
    def k90(self) -> float:
        """The smallest measured share of nodes at which faithfulness is 0.9; NaN if none."""
        return k90(self.sizes, self.faithfulness, interpolate=False)

    def strongest(self, count: int = 10) -> list[tuple[str, float]]:
        """The first nodes with their scores."""
        return [(self.nodes.names[node], float(self.scores[node])) for node in self.order[:count]]


def neuron_circuits(
    network: Network,
    setup: Setup,
    *,
    sizes: tuple[float, ...] = SIZES,
    steps: int = 5,
    over: Batch | None = None,
    seed: int = 0,
) -> NeuronCircuits:
    """Scores every neuron and head, and measures circuits of the best ones against the setup's network and empty."""
    wired = opened(network)
    grains = [grain for grain in GRAINS if grain == "heads" or any(layer.down for layer in wired.parts.layers)]
    nodes = nodes_of(wired, grains)
    known = node_reference(wired, setup.pairs, nodes, setup.ablation, over=over, seed=seed)
    scored = attribute_nodes(network, setup.pairs, setup.metric, nodes, steps=steps, reference=known)
    per_pair = scored.per_pair
    importance = per_pair.abs().mean(0) if setup.whole_output else per_pair.mean(0).abs()
    order = torch.argsort(-importance, stable=True)
    counts = [max(1, round(size * len(nodes))) for size in sizes]
    values = [_value(wired, setup, nodes, known, order[:count]) for count in [0, *counts]]
    faithful = setup.faithfulness(torch.stack(values))
    return NeuronCircuits(
        nodes, per_pair.mean(0).double().numpy(), tuple(order.tolist()), tuple(sizes), tuple(counts),
        tuple(float(each) for each in faithful[1:]), float(faithful[0]), scored.cost + Cost(len(values)),
    )  # fmt: skip


def _value(
    wired: Wired, setup: Setup, nodes: Nodes, known: dict[str, torch.Tensor], chosen: torch.Tensor
) -> torch.Tensor:
    kept = torch.zeros(len(nodes), dtype=torch.bool)
    kept[chosen] = True
    return run_nodes(wired, setup.pairs, setup.metric, [Keep(nodes, kept)], known)[0].cpu()
