"""What plain attribution gets wrong about nodes, mended: AtP* (Kramár et al. 2024).

1. Queries and keys. Through a saturated softmax the gradient is nothing, though another query would move all of the
   attention. So the softmax is computed anew with the exchanged query or key, and the *pattern's* change meets the
   gradient at the pattern: (A(n') - A) . dL/dA.
2. Cancellation. A node's direct and indirect effects may cancel to first order. GradDrop takes the mean of |score| over
   gradients in which one layer at a time passes nothing back: 1/(L - 1) sum over l of |score without layer l|.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.edges.attribution import Cost
from cutaway.circuits.edges.nodes import Nodes, NodeScores, gradients, node_values, opened, summed
from cutaway.circuits.edges.pairs import Metric, Pairs
from cutaway.circuits.edges.wiring import Wired, heads_site, mlp_out_site
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.edits import Edit, Replace
from cutaway.networks.network import Batch, Network

CLOSE = 1e-3  # between the pattern as seen and as computed here


def attribute_queries_and_keys(
    network: Network, pairs: Pairs, metric: Metric, *, positions: bool = False
) -> dict[str, Float[Tensor, "pair ..."]]:
    """The estimate of every query and key node with the softmax computed anew, by name.

    With ``positions``, a query node is exchanged at one position and a key node likewise. One backward pass for all.
    Raises ``NotTestable`` where attention is more than a softmax of scaled, masked products.
    """
    wired = opened(network)
    layers = range(len(wired.parts.layers))
    sites = [f"layers.{layer}.attn.{part}" for layer in layers for part in ("q", "k", "pattern")]
    clean = wired.network.run(pairs.clean, capture=sites).captured
    other = wired.network.run(pairs.corrupt, capture=[site for site in sites if not site.endswith("pattern")]).captured
    slopes = gradients(wired, pairs, metric, [site for site in sites if site.endswith("pattern")])
    found: dict[str, Tensor] = {}
    for layer in layers:
        found |= _layer(wired, pairs.clean, layer, (clean, other, slopes), positions)
    return found


def _layer(wired: Wired, batch: Batch, layer: int, seen: tuple[dict, dict, dict], positions: bool) -> dict[str, Tensor]:
    clean, other, slopes = seen
    place = f"layers.{layer}.attn"
    q, k, pattern = (clean[f"{place}.{part}"].double() for part in ("q", "k", "pattern"))
    q_new, k_new = (other[f"{place}.{part}"].double() for part in ("q", "k"))
    slope = slopes[f"{place}.pattern"].double()
    group = q.shape[1] // k.shape[1]
    k, k_new = (each.repeat_interleave(group, 1) for each in (k, k_new))
    scale = _scale(wired, layer, q.shape[-1])
    hidden = _hidden(wired, batch, pattern)

    def scores(queries: Tensor, keys: Tensor) -> Tensor:
        return (queries @ keys.transpose(-1, -2) * scale).masked_fill(hidden, -torch.inf)

    before = scores(q, k)
    _check(before.softmax(-1), pattern, batch, layer)
    moved = torch.nan_to_num(scores(q_new, k).softmax(-1)) - pattern
    by_query = (moved * slope).sum(-1)  # [pair head query]
    by_key = _key_effects(before, scores(q, k_new), pattern, slope, together=not positions)
    if not positions:
        by_query = by_query.sum(-1)
    by_key = by_key.unflatten(1, (-1, group)).sum(2)
    names = wired.graph.targets
    columns = (wired.graph.layer_targets(layer, ("q",)), wired.graph.layer_targets(layer, ("k",)))
    return {
        names[column].name: values[:, head].float()
        for values, own in zip((by_query, by_key), columns)
        for head, column in enumerate(own)
    }


def _key_effects(before: Tensor, after: Tensor, pattern: Tensor, slope: Tensor, *, together: bool) -> Tensor:
    """(A' - A) . dL/dA with all keys exchanged [pair head], or one key at a time [pair head key].

    One key: with r = 1 - A_ij + B, B = A_ij exp(s'_ij - s_ij), the row becomes A / r and its entry j becomes B / r.
    """
    if together:
        return ((torch.nan_to_num(after.softmax(-1)) - pattern) * slope).sum((-1, -2))
    total = before.logsumexp(-1, keepdim=True)
    # B / r and 1 / r from logarithms: B alone may be larger than any number.
    log_b = torch.nan_to_num(after - total, neginf=-1e9)
    rest = torch.log((1 - pattern).clamp(min=1e-300))
    log_r = torch.logaddexp(rest, log_b)
    shrunk, entry = (-log_r).exp(), (log_b - log_r).exp()
    own = pattern * slope
    moved = (shrunk - 1) * (own.sum(-1, keepdim=True) - own) + (entry - pattern) * slope
    return torch.where(pattern.isfinite() & before.isfinite(), moved, torch.zeros_like(moved)).sum(-2)


def _scale(wired: Wired, layer: int, d_head: int) -> float:
    given = getattr(wired.module(wired.parts.layers[layer].attention), "scaling", None)
    return float(given) if isinstance(given, float) else d_head**-0.5


def _hidden(wired: Wired, batch: Batch, pattern: Tensor) -> Tensor:
    """True where a query may not look."""
    length = pattern.shape[-1]
    hidden = torch.zeros(len(batch), 1, length, length, dtype=torch.bool, device=pattern.device)
    if wired.parts.causal:
        hidden |= torch.ones(length, length, dtype=torch.bool, device=pattern.device).triu(1)
    if batch.mask is not None:
        hidden |= ~batch.mask[:, None, None, :length]
    return hidden


def _check(made: Tensor, seen: Tensor, batch: Batch, layer: int) -> None:
    apart = (torch.nan_to_num(made) - seen).abs()
    if batch.mask is not None:
        apart = apart * batch.mask[:, None, : seen.shape[-1], None]
    if float(apart.max()) > CLOSE:
        raise NotTestable(
            f"The attention of layer {layer} is not the softmax of its scaled and masked products (they differ by "
            f"{float(apart.max()):.2g}), so exchanged queries cannot be followed; use exact patching."
        )


# -- GradDrop ------------------------------------------------------------------------------------------------------


def drop_gradients(
    network: Network, pairs: Pairs, metric: Metric, nodes: Nodes, *, reference: dict[str, Tensor] | None = None
) -> NodeScores:
    """GradDrop scores, at least 0: the mean over dropped layers of |score|; one backward pass for each layer."""
    wired = opened(network)
    count = len(wired.parts.layers)
    if count < 2:
        raise BadInput(f"{network.name} has {count} layer; dropping one leaves nothing, so use plain attribution.")
    clean = node_values(wired, pairs.clean, nodes)
    known = node_values(wired, pairs.corrupt, nodes) if reference is None else reference
    total = torch.zeros(len(pairs), len(nodes))
    for dropped in range(count):
        sites = [site for site in nodes.sites if _site_layer(site) != dropped]
        if not sites:
            continue
        slopes = gradients(wired, pairs, metric, sites, _stopped(wired, dropped))
        products = {site: (known[site] - clean[site]) * slopes[site] for site in sites}
        total += summed(nodes, products, positions=False).abs()
    return NodeScores(nodes, total / (count - 1), "GradDrop", Cost(2 + count, count))


def _site_layer(site: str) -> int:
    return int(site.split(".")[1])


def _stopped(wired: Wired, layer: int) -> Sequence[Edit]:
    """Edits that change no value and let no gradient back through what a layer adds to the stream."""
    part = wired.parts.layers[layer]
    edits: list[Edit] = [Replace(heads_site(layer), torch.detach)]
    if part.mlp is not None and part.mlp_added is not None:
        edits.append(Replace(mlp_out_site(layer), torch.detach))
    return edits
