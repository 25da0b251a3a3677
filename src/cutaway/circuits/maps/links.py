"""Every edge of the graph, signed and in the target's unit: one backward pass between cut sites for each target.

    edge(u -> v) = what u writes . (d value_v / d what lies at u's site, past no other site), times d target / d value_v

With gates held this is how much of v's value comes from u; constants (biases of maps, a basis's own constant, what
tangents of smooth nonlinearities leave out) are one node. Edges into a node sum to its value, so do those out of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.maps.codes import Coded, Opening, coded
from cutaway.circuits.maps.nodes import BIAS, PARTS, Pool, pooled
from cutaway.circuits.maps.opened import Opened
from cutaway.circuits.tracing.causal import Progress


@dataclass(frozen=True, eq=False)
class Links:
    """``values`` [target source] of all edges, ``shares`` of the nodes; ``gap`` is the largest amount by which what
    flows out of a node misses its value.
    """

    pool: Pool
    sites: dict[str, Coded]
    values: Float[np.ndarray, "node node"]
    shares: Float[np.ndarray, " node"]
    gap: float


def sweep(opened: Opened, openings: dict[str, Opening]) -> dict[str, Coded]:
    """Every site with the gradient of the target at it, walked back from the target, each stretch once."""
    total = opened.gradients(opened.target, None)
    found: dict[str, Coded] = {}
    for name in reversed(opened.sites):
        found[name] = coded(openings[name], opened.leaves[name].detach(), total[name])
        reading = found[name].reading(slice(None))
        back = opened.gradients((reading.to(opened.raw[name]) * opened.raw[name]).sum(), name)
        for site, gradient in back.items():
            total[site] = total[site] + gradient
    return {name: found[name] for name in opened.sites}


def link(
    opened: Opened, sites: dict[str, Coded], *, cell: int, pool: int, progress: Progress | None = None
) -> Links:  # fmt: skip
    """All edges between the graph's nodes."""
    shown = (int(opened.shown.shape[2]), int(opened.shown.shape[3]))
    nodes = pooled(list(sites.values()), shown, cell=cell, pool=pool, target=opened.question.name)
    values = np.zeros((len(nodes.nodes), len(nodes.nodes)))
    shares = np.array([node.value for node in nodes.nodes])
    shares[-1] = opened.metric
    values[-1] = _row(opened, sites, nodes, opened.target, None)
    targets = [number for number, node in enumerate(nodes.nodes) if node.kind in PARTS]
    for done, number in enumerate(targets):
        values[number] = _into(opened, sites, nodes, number)
        if progress is not None:
            progress(done + 1, len(targets))
    values[np.arange(len(values)), nodes.index[BIAS]] = _constants(values, shares, nodes)
    inner = [number for number in targets if shares[number]]
    gap = float(np.abs(values[:, inner].sum(0) - shares[inner]).max()) if inner else 0.0
    return Links(nodes, sites, values, shares, gap)


def _constants(values: np.ndarray, shares: np.ndarray, pool: Pool) -> np.ndarray:
    reads = np.array([node.kind in PARTS for node in pool.nodes])
    reads[-1] = True
    return np.where(reads, shares - values.sum(1), 0.0)


def _into(opened: Opened, sites: dict[str, Coded], pool: Pool, number: int) -> np.ndarray:
    name = pool.nodes[number].site.split("@")[0]
    members = (pool.entries[name] == number).nonzero()[:, 0]
    if len(members) == 0:
        return np.zeros(len(pool.nodes))
    reading = sites[name].reading(members).to(opened.raw[name])
    return _row(opened, sites, pool, (reading * opened.raw[name]).sum(), name)


def _row(opened: Opened, sites: dict[str, Coded], pool: Pool, value: Tensor, site: str | None) -> np.ndarray:
    """What every source adds to a value that is computed at a site."""
    row = torch.zeros(len(pool.nodes), dtype=torch.float64)
    gradients = opened.gradients(value, site)
    shown = (gradients.pop("") * opened.shown).detach()[0].sum(0).flatten().double().cpu()
    row.index_add_(0, pool.patches, shown)
    for name, gradient in gradients.items():
        row.index_add_(0, pool.entries[name], sites[name].products(gradient))
        if sites[name].error is not None:
            row.index_add_(0, pool.errors[name], sites[name].error_products(gradient))
    return row.numpy()
