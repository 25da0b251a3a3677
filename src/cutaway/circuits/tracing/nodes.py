"""Who is in the graph: tokens, the strongest heads and neurons, what is left of each layer, errors, biases, output.

A node is a part at one position. Heads and neurons with the largest shares are nodes of their own (the pool); the
others of a layer at a position are one node together, so that nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from cutaway.circuits.tracing.features.places import ATTN_OUT, MLP_OUT, RESID
from cutaway.circuits.tracing.flow import Flow, Through
from cutaway.circuits.tracing.frozen import Body, Pass
from cutaway.errors import NotTestable

EMBED, HEAD, NEURON, HEADS, NEURONS = "embed", "head", "neuron", "other heads", "other neurons"
FEATURE, FEATURES, SKIP = "feature", "other features", "by-pass"
ERROR, ATTENTION, BIAS, OUTPUT = "error", "attention", "bias", "output"
RESIDUE, ABSENT, GATE = "reconstruction error", "absent features", "threshold"
LEAVES = (EMBED, ERROR, ATTENTION, BIAS, RESIDUE, ABSENT, GATE)  # nothing flows into these
UNEXPLAINED = (ERROR, ATTENTION, RESIDUE, ABSENT, GATE)
CODED = (FEATURE, FEATURES, SKIP, RESIDUE, ABSENT)  # what a basis writes
PARTS = (HEAD, NEURON, HEADS, NEURONS, FEATURE, FEATURES, SKIP)
_STAGES = {HEAD: 0, HEADS: 0, ATTENTION: 0, ATTN_OUT: 1, NEURON: 2, NEURONS: 2, ERROR: 2, MLP_OUT: 3, RESID: 4}
STAGES = 5  # of a layer
MOST_NODES = 9000  # a dense matrix of them has to fit


@dataclass(frozen=True)
class Node:
    """A part at a position; ``value`` is its share of the metric (logits), what flows through it in total.

    Kinds: ``embed`` (a token), ``head``, ``neuron``, ``other heads`` and ``other neurons`` (of a layer, together),
    ``error`` (what slopes of a layer's neurons leave out), ``attention`` (what heads of a layer write beyond their
    baseline because they look elsewhere than on the baseline's prompts, with the same values), ``bias`` (all constants:
    parameters, and the baseline itself), ``output`` (the metric). Of a basis, whose ``site`` is then
    ``layers.N.PART@NAME``: ``feature``, ``other features`` (all that are active at this position, together),
    ``by-pass`` (of a transcoder), ``reconstruction error``, ``absent features`` (active in the baseline and not here),
    ``threshold`` (what slopes of its features leave out). ``index`` is the head, neuron or latent, for ``embed`` the
    table.
    """

    name: str
    kind: str
    layer: int | None = None
    index: int | None = None
    position: int | None = None
    value: float = 0.0
    site: str = ""

    @property
    def stage(self) -> int:
        """Order in the forward pass: embeddings 0; of layer l from 1 + 5 l: heads, bases behind them, neurons, bases
        behind these (or in their place), bases of the stream; the output last.
        """
        if self.kind == OUTPUT:
            return 1 << 30
        if self.layer is None:
            return 0
        part = self.site.split("@")[0].rsplit(".", 1)[-1] if self.site else self.kind
        return 1 + STAGES * self.layer + _STAGES[part]


@dataclass(frozen=True, eq=False)
class Pool:
    """All nodes in the order of the forward pass, and which heads [head pos], neurons [pos n] and, by place, active
    latents are nodes alone.
    """

    nodes: tuple[Node, ...]
    heads: tuple[Bool[Tensor, "head pos"], ...]
    neurons: tuple[Bool[Tensor, "pos n"] | None, ...]
    index: dict[str, int] = field(default_factory=dict)
    through: dict[str, Through] = field(default_factory=dict)
    features: dict[str, Bool[Tensor, " active"]] = field(default_factory=dict)

    def of(self, layer: int, kind: str) -> list[int]:
        """The nodes of a kind in a layer."""
        return [number for number, node in enumerate(self.nodes) if node.layer == layer and node.kind == kind]

    def at(self, site: str, *kinds: str) -> list[int]:
        """The nodes of some kinds of a basis."""
        return [number for number, node in enumerate(self.nodes) if node.site == site and node.kind in kinds]

    def entries(self, node: Node) -> Tensor:
        """Which of its place's active latents a node of features stands for."""
        coded, alone = self.through[node.site].coded, self.features[node.site]
        here = coded.position == node.position
        chosen = here & ~alone if node.index is None else here & (coded.latent == node.index)
        return chosen.nonzero()[:, 0]


def pooled(body: Body, seen: Pass, flow: Flow, *, heads: int, neurons: int, features: int = 0) -> Pool:
    """The graph's nodes, with so many of the strongest heads, neurons and features (at positions) on their own.

    Raises ``NotTestable`` for a prompt that is too long for a graph.
    """
    own_heads = _strongest([share.abs() for share in flow.heads], heads)
    known = [None if share is None else share.abs() for share in flow.neurons]
    chosen = iter(_strongest([share for share in known if share is not None], neurons))
    own_neurons = tuple(None if share is None else next(chosen) for share in known)
    own_features = dict(zip(flow.through, _strongest([x.shares.abs() for x in flow.through.values()], features)))
    nodes = [*_embeds(body, seen), Node(BIAS, BIAS)]
    for layer in range(body.depth):
        nodes += _of_heads(layer, flow.heads[layer], own_heads[layer])
        nodes += _of_basis(flow.at(layer, ATTN_OUT), own_features)
        nodes += _of_neurons(layer, flow.neurons[layer], own_neurons[layer])
        nodes += [*_of_basis(flow.at(layer, MLP_OUT), own_features), *_of_basis(flow.at(layer, RESID), own_features)]
    nodes.append(Node("output", OUTPUT))
    if len(nodes) > MOST_NODES:
        raise NotTestable(
            f"A graph of {len(nodes)} nodes would be needed for {seen.length} tokens and {body.depth} layers; at most "
            f"{MOST_NODES} fit, so give a shorter prompt or a smaller pool."
        )
    index = {node.name: number for number, node in enumerate(nodes)}
    return Pool(tuple(nodes), own_heads, own_neurons, index, flow.through, own_features)


def _strongest(sizes: Sequence[Tensor], count: int) -> tuple[Tensor, ...]:
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


def _of_basis(through: Through | None, alone: dict[str, Tensor]) -> list[Node]:
    if through is None:
        return []
    coded, shares = through.coded, through.shares
    site, layer, own = coded.place.name, coded.place.layer, alone[coded.place.name]

    def made(kind: str, short: str, place: int, value: float = 0.0, index: int | None = None) -> Node:
        return Node(f"{site}{short}@{place}", kind, layer, index, place, value, site)

    length = len(coded.given)
    nodes = [made(RESIDUE, ".error", place) for place in range(length)]
    if coded.usual is not None:
        nodes += [made(kind, f".{kind.split()[0]}", place) for kind in (ABSENT, GATE) for place in range(length)]
    nodes += [
        made(FEATURE, f":{latent}", place, share, latent)
        for place, latent, share in zip(coded.position[own].tolist(), coded.latent[own].tolist(), shares[own].tolist())
    ]
    rest = torch.zeros(length, dtype=torch.float64).index_add_(0, coded.position[~own], shares[~own]).tolist()
    nodes += [made(FEATURES, ".rest", place, rest[place]) for place in coded.position[~own].unique().tolist()]
    if coded.skip is not None:
        beyond = coded.skip if coded.skip_base is None else coded.skip - coded.skip_base
        values = (through.gradient * beyond).sum(1).tolist()
        nodes += [made(SKIP, ".skip", place, values[place]) for place in range(length)]
    return nodes
