"""Who is in the graph: tokens, the strongest heads and neurons, what is left of each layer, errors, biases, output.

A node is a part at one position. Heads and neurons with the largest shares are nodes of their own (the pool); the
others of a layer at a position are one node together, so that nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from cutaway.circuits.tracing.flow import Flow
from cutaway.circuits.tracing.frozen import Body, Pass
from cutaway.errors import NotTestable

EMBED, HEAD, NEURON, HEADS, NEURONS = "embed", "head", "neuron", "other heads", "other neurons"
ERROR, ATTENTION, BIAS, OUTPUT = "error", "attention", "bias", "output"
LEAVES = (EMBED, ERROR, ATTENTION, BIAS)  # nothing flows into these
UNEXPLAINED = (ERROR, ATTENTION)
PARTS = (HEAD, NEURON, HEADS, NEURONS)
MOST_NODES = 9000  # a dense matrix of them has to fit


@dataclass(frozen=True)
class Node:
    """A part at a position; ``value`` is its share of the metric (logits), what flows through it in total.

    Kinds: ``embed`` (a token), ``head``, ``neuron``, ``other heads`` and ``other neurons`` (of a layer, together),
    ``error`` (what slopes of a layer's neurons leave out), ``attention`` (what heads of a layer write beyond their
    baseline because they look elsewhere than on the baseline's prompts, with the same values), ``bias`` (all constants:
    parameters, and the baseline itself), ``output`` (the metric). ``index`` is the head or neuron, for ``embed`` the
    table.
    """

    name: str
    kind: str
    layer: int | None = None
    index: int | None = None
    position: int | None = None
    value: float = 0.0

    @property
    def stage(self) -> int:
        """Order in the forward pass: embeddings 0, heads of layer l 1 + 2l, its MLP 2 + 2l, the output last."""
        if self.kind == OUTPUT:
            return 1 << 30
        if self.layer is None:
            return 0
        return 1 + 2 * self.layer + (self.kind in (NEURON, NEURONS, ERROR))


@dataclass(frozen=True, eq=False)
class Pool:
    """All nodes in the order of the forward pass, and which heads [head pos] and neurons [pos n] are nodes alone."""

    nodes: tuple[Node, ...]
    heads: tuple[Bool[Tensor, "head pos"], ...]
    neurons: tuple[Bool[Tensor, "pos n"] | None, ...]
    index: dict[str, int] = field(default_factory=dict)

    def of(self, layer: int, kind: str) -> list[int]:
        """The nodes of a kind in a layer."""
        return [number for number, node in enumerate(self.nodes) if node.layer == layer and node.kind == kind]


def pooled(body: Body, seen: Pass, flow: Flow, *, heads: int, neurons: int) -> Pool:
    """The graph's nodes, with so many of the strongest heads and neurons (at positions) on their own.

    Raises ``NotTestable`` for a prompt that is too long for a graph.
    """
    own_heads = _strongest([share.abs() for share in flow.heads], heads)
    known = [None if share is None else share.abs() for share in flow.neurons]
    chosen = iter(_strongest([share for share in known if share is not None], neurons))
    own_neurons = tuple(None if share is None else next(chosen) for share in known)
    nodes = [*_embeds(body, seen), Node(BIAS, BIAS)]
    for layer in range(body.depth):
        nodes += _of_heads(layer, flow.heads[layer], own_heads[layer])
        nodes += _of_neurons(layer, flow.neurons[layer], own_neurons[layer])
    nodes.append(Node("output", OUTPUT))
    if len(nodes) > MOST_NODES:
        raise NotTestable(
            f"A graph of {len(nodes)} nodes would be needed for {seen.length} tokens and {body.depth} layers; at most "
            f"{MOST_NODES} fit, so give a shorter prompt or a smaller pool."
        )
    return Pool(tuple(nodes), own_heads, own_neurons, {node.name: number for number, node in enumerate(nodes)})


def _strongest(sizes: list[Tensor], count: int) -> tuple[Tensor, ...]:
    """True at the ``count`` largest of all numbers."""
    if not sizes:
        return ()
    flat = torch.cat([each.flatten() for each in sizes])
    marks = torch.zeros(len(flat), dtype=torch.bool)
    marks[flat.argsort(descending=True, stable=True)[:count]] = True
    return tuple(part.view_as(each) for part, each in zip(marks.split([each.numel() for each in sizes]), sizes))


def _embeds(body: Body, seen: Pass) -> list[Node]:
    tables = [name for name, _ in body.wired.parts.embeds]
    return [
        Node(f"{name}@{place}", EMBED, None, number, place)
        for number, name in enumerate(tables)
        for place in range(seen.length)
    ]


def _of_heads(layer: int, shares: Tensor, alone: Tensor) -> list[Node]:
    nodes = [
        Node(f"L{layer}H{head}@{place}", HEAD, layer, head, place, float(shares[head, place]))
        for head, place in alone.nonzero().tolist()
    ]
    rest = (~alone).any(0).nonzero()[:, 0].tolist()
    values = (shares * ~alone).sum(0)
    looks = [Node(f"L{layer}attention@{place}", ATTENTION, layer, None, place) for place in range(alone.shape[1])]
    others = [Node(f"L{layer}heads@{place}", HEADS, layer, None, place, float(values[place])) for place in rest]
    return [*looks, *nodes, *others]


def _of_neurons(layer: int, shares: Tensor | None, alone: Tensor | None) -> list[Node]:
    if shares is None or alone is None:
        return []
    errors = [Node(f"L{layer}error@{place}", ERROR, layer, None, place) for place in range(len(alone))]
    nodes = [
        Node(f"L{layer}N{unit}@{place}", NEURON, layer, unit, place, float(shares[place, unit]))
        for place, unit in alone.nonzero().tolist()
    ]
    rest = (~alone).any(1).nonzero()[:, 0].tolist()
    values = (shares * ~alone).sum(1)
    others = [Node(f"L{layer}MLP@{place}", NEURONS, layer, None, place, float(values[place])) for place in rest]
    return [*errors, *nodes, *others]
