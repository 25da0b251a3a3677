"""Nodes: heads, their queries, keys and values, MLPs, single neurons; patched exactly or estimated.

    effect    what the metric does when one node carries its corrupted value and everything after it is computed anew
    estimate  (z' - z) . dL/dz at the node's output, summed over positions (attribution patching, Nanda 2023), with the
              gradient averaged along the path of the inputs (Hanna et al. 2024) if ``steps`` > 1

The difference and the gradient are always those of the same place: a published tool multiplies differences of an MLP's
output with gradients at its input. :mod:`.atp` mends what estimates get wrong about queries, keys and cancellation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.circuits.edges.attribution import Cost
from cutaway.circuits.edges.pairs import Metric, Pairs
from cutaway.circuits.edges.references import check_ablation, fitted, permuted, position_means, shuffled_positions
from cutaway.circuits.edges.runtime import record
from cutaway.circuits.edges.wiring import (
    Wired,
    embed_site,
    frozen,
    heads_site,
    mlp_out_site,
    projected_site,
    projections,
    wire,
)
from cutaway.errors import BadInput, UnknownName
from cutaway.networks.anatomy import weight_in_out
from cutaway.networks.edits import Edit, Patch, Replace
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import POSITIONS, Site

GRAINS = ("heads", "mlps", "queries", "keys", "values", "neurons")
TOKENS = 2048  # of a pass with copies


@dataclass(frozen=True, eq=False)
class Nodes:
    """Places to patch: node n is the features that carry its number in ``owner`` [width] of its site (-1: no node)."""

    names: tuple[str, ...]
    owner: dict[str, Int[Tensor, " width"]]
    layer: tuple[int, ...]  # of each node

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sites(self) -> tuple[str, ...]:
        """Where they lie."""
        return tuple(self.owner)


@dataclass(frozen=True, eq=False)
class NodeScores:
    """The measured or estimated change of the metric for each pair and node, by position where asked for."""

    nodes: Nodes
    per_pair: Float[Tensor, "pair node ..."]
    method: str
    cost: Cost

    @property
    def mean(self) -> Float[Tensor, "node ..."]:
        """The mean over pairs."""
        return self.per_pair.mean(0)


def neuron_site(layer: int) -> str:
    """The MLP's hidden units, as its last map reads them."""
    return f"edges.{layer}.neurons"


def opened(network: Network) -> Wired:
    """The network with the places of edges and, beside them, its own sites and its neurons."""
    if "wired nodes" not in network._cache:
        wired = wire(network)
        neurons = [
            Site(neuron_site(layer.index), "edges", POSITIONS, layer.down, "input")
            for layer in wired.parts.layers
            if layer.down is not None
        ]
        sites = (*network.site_list, *wired.network.site_list, *neurons)
        network._cache["wired nodes"] = dataclasses.replace(
            wired, network=dataclasses.replace(wired.network, site_list=sites, _cache={})
        )
    return network._cache["wired nodes"]


def nodes_of(wired: Wired, grains: Sequence[str], *, widths: dict[str, int] | None = None) -> Nodes:
    """All nodes of the given grains, layer by layer; raises ``UnknownName`` for a grain that does not exist."""
    unknown = next((grain for grain in grains if grain not in GRAINS), None)
    if unknown is not None or not grains:
        raise UnknownName("grain of nodes", str(unknown), GRAINS, f"There are {', '.join(GRAINS)}.")
    names: list[str] = []
    owner: dict[str, Tensor] = {}
    layers: list[int] = []
    for part in wired.parts.layers:
        for site, width, named in _layer_nodes(wired, part.index, grains):
            marks = owner.setdefault(site, torch.full((width,), -1))
            for name, columns in named:
                marks[columns] = len(names)
                names.append(name)
                layers.append(part.index)
    return Nodes(tuple(names), owner, tuple(layers))


def _layer_nodes(wired: Wired, index: int, grains: Sequence[str]) -> Iterable[tuple[str, int, list]]:
    layer, graph = wired.parts.layers[index], wired.graph
    width = int(layer.query.columns.numel())
    for (port, projection), grain in zip(projections(layer), ("queries", "keys", "values")):
        if grain in grains:
            columns = graph.layer_targets(index, (port,))
            total = int(weight_in_out(wired.module(projection.module)).shape[1])
            named = [(graph.targets[column].name, projection.columns[head]) for head, column in enumerate(columns)]
            yield projected_site(index, projection.module), total, named
    if "heads" in grains:
        each = torch.arange(width).unflatten(0, (layer.heads, -1))
        yield heads_site(index), width, [(f"L{index}H{head}", each[head]) for head in range(layer.heads)]
    if "neurons" in grains and layer.down is not None:
        hidden = int(weight_in_out(wired.module(layer.down)).shape[0])
        yield neuron_site(index), hidden, [(f"L{index}N{unit}", torch.tensor([unit])) for unit in range(hidden)]
    if "mlps" in grains and layer.mlp is not None and layer.mlp_added is not None:
        yield mlp_out_site(index), wired.width, [(f"L{index}MLP", torch.arange(wired.width))]


# -- values --------------------------------------------------------------------------------------------------------


def node_values(wired: Wired, batch: Batch, nodes: Nodes) -> dict[str, Tensor]:
    """What stands at the nodes' sites in one pass."""
    return wired.network.run(batch, capture=nodes.sites, stop_at=True).captured


def node_reference(
    wired: Wired, pairs: Pairs, nodes: Nodes, how: str = "resample", *, over: Batch | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """What nodes are replaced by: as :func:`~cutaway.circuits.edges.references.reference`, at the nodes' sites."""
    check_ablation(how)
    if how == "resample":
        return node_values(wired, pairs.corrupt, nodes)
    if how == "mean":
        shown = pairs.corrupt if over is None else over
        found = node_values(wired, shown, nodes)
        return {site: fitted(position_means(value, shown.mask), pairs) for site, value in found.items()}
    clean = node_values(wired, pairs.clean, nodes)
    if how == "zero":
        return {site: torch.zeros_like(value) for site, value in clean.items()}
    order = shuffled_positions(pairs.clean, next(iter(clean.values())).shape[1], seed)
    return {site: permuted(value, order) for site, value in clean.items()}


# -- exact ---------------------------------------------------------------------------------------------------------


def node_effects(
    network: Network,
    pairs: Pairs,
    metric: Metric,
    nodes: Nodes,
    *,
    chosen: Sequence[int] | None = None,
    positions: bool = False,
    reference: dict[str, Tensor] | None = None,
) -> NodeScores:
    """Every node (or the ``chosen`` ones, the others zero) patched by itself; with ``positions``, at each position."""
    wired = opened(network)
    known = node_values(wired, pairs.corrupt, nodes) if reference is None else reference
    base = metric.of(wired.network, pairs.clean, pairs)
    length = next(iter(known.values())).shape[1]
    numbers = list(range(len(nodes))) if chosen is None else list(chosen)
    cuts = [(node, place) for node in numbers for place in (range(length) if positions else (None,))]
    result = torch.zeros(len(pairs), len(nodes), *((length,) if positions else ()))
    size = max(1, TOKENS // (len(pairs) * length))
    for first in range(0, len(cuts), size):
        group = cuts[first : first + size]
        values = run_nodes(wired, pairs, metric, [_Cut(nodes, node, place) for node, place in group], known)
        for (node, place), value in zip(group, values - base):
            result[(slice(None), node) if place is None else (slice(None), node, place)] = value.cpu()
    return NodeScores(nodes, result, "patching", Cost(2 + len(cuts)))


@dataclass(frozen=True, eq=False)
class _Cut:
    """One node, at one position or at all."""

    nodes: Nodes
    node: int
    place: int | None

    def at(self, site: str, length: int) -> Tensor | None:
        """True where the reference goes, [pos width]; None where the node is not at this site."""
        features = self.nodes.owner[site] == self.node
        if not bool(features.any()):
            return None
        where = torch.ones(length, dtype=torch.bool)
        if self.place is not None:
            where = torch.arange(length) == self.place
        return where[:, None] & features


@dataclass(frozen=True, eq=False)
class Keep:
    """Several nodes kept and all others cut: ``kept`` [node]."""

    nodes: Nodes
    kept: Tensor

    def at(self, site: str, length: int) -> Tensor | None:
        """True where the reference goes, [1 width]."""
        owner = self.nodes.owner[site]
        cut = (owner >= 0) & ~self.kept[owner.clamp(min=0)]
        return cut[None].expand(length, -1)


def run_nodes(
    wired: Wired, pairs: Pairs, metric: Metric, cuts: Sequence[_Cut | Keep], reference: dict[str, Tensor]
) -> Float[Tensor, "cut pair"]:
    """The metric of every pair under every cut, as copies of one pass."""
    edits: list[Edit] = []
    for site, known in reference.items():
        places = [cut.at(site, known.shape[1]) for cut in cuts]
        if all(place is None for place in places):
            continue
        nothing = torch.zeros(known.shape[1], known.shape[2], dtype=torch.bool)
        where = torch.stack([nothing if place is None else place for place in places])
        edits.append(Replace(site, _exchange(where, known)))
    repeated = pairs if len(cuts) == 1 else pairs.times(len(cuts))
    outputs = wired.network.run(repeated.clean, edits=edits, logits=metric.logits).logits.float()
    return metric.read(outputs, repeated).unflatten(0, (len(cuts), len(pairs)))


def _exchange(where: Tensor, known: Tensor) -> Callable[[Tensor], Tensor]:
    def exchange(value: Tensor) -> Tensor:
        split = value.unflatten(0, (len(where), len(known)))
        return torch.where(where.to(value.device)[:, None], known.to(value), split).flatten(0, 1)

    return exchange


# -- estimated -----------------------------------------------------------------------------------------------------


def attribute_nodes(
    network: Network,
    pairs: Pairs,
    metric: Metric,
    nodes: Nodes,
    *,
    steps: int = 1,
    positions: bool = False,
    reference: dict[str, Tensor] | None = None,
) -> NodeScores:
    """Every node's estimate from ``steps`` backward passes; with ``positions``, position by position."""
    if steps < 1:
        raise BadInput(f"{steps} steps were asked for; give at least 1.")
    wired = opened(network)
    clean = node_values(wired, pairs.clean, nodes)
    known = node_values(wired, pairs.corrupt, nodes) if reference is None else reference
    total = {site: torch.zeros_like(value) for site, value in clean.items()}
    for edits in path_edits(wired, pairs, steps):
        for site, gradient in gradients(wired, pairs, metric, nodes.sites, edits).items():
            total[site] += gradient / steps
    products = {site: (known[site] - clean[site]) * total[site] for site in nodes.sites}
    name = "AtP" if steps == 1 else f"AtP-IG ({steps} steps)"
    return NodeScores(nodes, summed(nodes, products, positions), name, Cost(2 + steps, steps))


def path_edits(wired: Wired, pairs: Pairs, steps: int) -> Iterable[list[Edit]]:
    """For each point of the path from clean to corrupted prompts, what sets the embeddings there."""
    if steps == 1:
        yield []
        return
    own, other = record(wired, pairs.clean), record(wired, pairs.corrupt)
    for step in range(steps):
        yield [
            Patch(embed_site(name), torch.lerp(one, two, step / steps))
            for (name, _), one, two in zip(wired.parts.embeds, own.embeds, other.embeds)
            if step
        ]


def gradients(
    wired: Wired, pairs: Pairs, metric: Metric, sites: Sequence[str], edits: Sequence[Edit] = ()
) -> dict[str, Tensor]:
    """dL/dz at each site, summed over pairs (which do not touch each other); zero where nothing comes back."""
    with frozen(wired.network.module):
        run = wired.network.run(pairs.clean, capture=sites, edits=edits, logits=metric.logits, grad=True)
        total = metric.read(run.logits.float(), pairs).sum()
        found = torch.autograd.grad(total, [run[site] for site in sites], allow_unused=True)
    zero = torch.zeros_like
    return {site: zero(run[site]) if each is None else each.detach() for site, each in zip(sites, found)}


def summed(nodes: Nodes, products: dict[str, Tensor], positions: bool) -> Float[Tensor, "pair node ..."]:
    """Products of differences and gradients, added up over each node's features (and positions)."""
    shape = next(iter(products.values())).shape
    result = torch.zeros(shape[0], shape[1], len(nodes))
    for site, product in products.items():
        owner = nodes.owner[site]
        mine = owner >= 0
        result.index_add_(2, owner[mine], product.float().cpu()[..., mine])
    return result.transpose(1, 2) if positions else result.sum(1)
