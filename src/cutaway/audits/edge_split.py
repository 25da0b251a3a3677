"""The edge logit of a holistically-nested detector, split exactly over channels.

The logit is a sum over channels, as :mod:`cutaway.features.edges` says; here it is split once for every image's own
edges and once for every other image's, which is the null.

A channel's share of the decision is its part of D = mean logit at edge pixels - mean logit elsewhere (edge: logit > 0).
Biases cancel in D, so shares add up to 1 exactly. The mean over up-sampled maps is taken with the transpose of the
up-sampling applied to the pixel mask, so that no map is ever up-sampled.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.features.edges import readout_sites, readout_weights, up_transpose
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import Address


@dataclass(frozen=True)
class Split:
    """The decision split over channels, image by image.

    ``shares`` [image, channel] are parts of D (logits); ``null`` the same with other images' masks
    [image, mask, channel]; ``gap`` is the largest relative difference between their sum and D itself.
    """

    addresses: tuple[Address, ...]
    shares: np.ndarray
    null: np.ndarray
    decision: np.ndarray  # D, [image]
    pictures: tuple[str, ...]  # which picture each image is cut from: the independent entities
    gap: float
    skipped: int  # images without an edge, or with nothing else


def decision_split(network: Network, batches: list[Batch], pictures: list[str]) -> Split:
    """The split of the edge decision for every image that has both edge and other pixels."""
    blocks = readout_sites(network)
    logits = torch.cat([network.run(batch).logits[:, 0].float().cpu() for batch in batches])
    edge = (logits > 0).float()
    usable = (edge.flatten(1).mean(1) > 0) & (edge.flatten(1).mean(1) < 1)
    if int(usable.sum()) < 2:
        raise BadInput("No two images show both edge and other pixels to this network; give photographs.")
    contrast = _contrast(edge[usable])
    decision = (logits[usable] * contrast).flatten(1).sum(1)
    table = _table_of_parts(network, blocks, batches, usable, contrast)
    shares = table.diagonal(dim1=0, dim2=1).T
    gap = float(((shares.sum(1) - decision).abs() / decision.abs().clamp_min(1e-6)).max())
    addresses = tuple(Address(site, unit) for site in blocks for unit in range(network.site(site).width or 0))
    kept = tuple(name for name, use in zip(pictures, usable.tolist()) if use)
    return Split(addresses, shares.numpy(), table.numpy(), decision.numpy(), kept, gap, int((~usable).sum()))


def _contrast(edge: Tensor) -> Tensor:
    """Weights whose inner product with a map is its mean at edges minus its mean elsewhere: [image y x]."""
    on = edge / edge.flatten(1).sum(1)[:, None, None]
    off = (1 - edge) / (1 - edge).flatten(1).sum(1)[:, None, None]
    return on - off


def _table_of_parts(
    network: Network, blocks: dict[str, int], batches: list[Batch], usable: Tensor, contrast: Tensor
) -> Tensor:
    """Parts of the contrast for each image under each image's mask: [image mask channel]."""
    rows, start = [], 0
    masks: dict[str, Tensor] = {}
    for batch in batches:
        run = network.run(batch, capture=blocks, stop_at=True)
        keep = usable[start : start + len(batch)]
        start += len(batch)
        pieces = []
        for site, block in blocks.items():
            acts = run[site].float().cpu()[keep]
            if site not in masks:
                size = (acts.shape[-2], acts.shape[-1])
                masks[site] = up_transpose(network, block, contrast, size).flatten(1)
            weights = readout_weights(network, block).float().cpu()
            pieces.append(torch.einsum("icp,mp->imc", acts.flatten(2), masks[site]) * weights)
        rows.append(torch.cat(pieces, dim=2))
    return torch.cat(rows)
