"""The edge logit of a holistically-nested detector, split exactly over channels.

Everything after the last ReLU of a block is linear, so the edge logit is a sum over channels:

    logit(p) = sum_k f_k up(side_k)(p) + b,    side_k = sum_c w_kc a_kc + b_k

A channel's share of the decision is its part of D = mean logit at edge pixels - mean logit elsewhere (edge: logit > 0).
Biases cancel in D, so shares add up to 1 exactly. The mean over up-sampled maps is taken with the transpose of the
up-sampling applied to the pixel mask, so that no map is ever up-sampled.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.errors import BadInput
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import Address


@dataclass(frozen=True)
class Readout:
    """One side output: the site that it reads, its weights times the fusion's, [channel]."""

    site: str
    side: str
    weights: Tensor


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


def readouts(network: Network) -> list[Readout]:
    """The side outputs with their weights on the fused logit."""
    module = network.module
    fuse = module.get_submodule("fuse")
    found = []
    for index in range(fuse.weight.shape[1]):  # type: ignore[union-attr, index]
        side = module.get_submodule(f"side{index + 1}")
        convs = [s.name for s in network.sites() if s.kind == "conv" and s.name.startswith(f"conv{index + 1}_")]
        weight = side.weight[0, :, 0, 0] * fuse.weight[0, index, 0, 0]  # type: ignore[index]
        found.append(Readout(convs[-1], f"side{index + 1}", weight.detach()))
    return found


def up_transpose(mask: Tensor, size: tuple[int, int], module: nn.Module) -> Tensor:
    """The transpose of the up-sampling from ``size`` applied to ``mask`` [mask y x]: [mask, *size]."""
    small = torch.zeros(len(mask), 1, *size, requires_grad=True)
    with torch.enable_grad():
        large = module(small, (mask.shape[-2], mask.shape[-1]))
        (gradient,) = torch.autograd.grad((large[:, 0] * mask).sum(), small)
    return gradient[:, 0]


def decision_split(network: Network, batches: list[Batch], pictures: list[str]) -> Split:
    """The split of the edge decision for every image that has both edge and other pixels."""
    parts = readouts(network)
    logits = torch.cat([network.run(batch).logits[:, 0] for batch in batches])
    edge = (logits > 0).float()
    usable = (edge.flatten(1).mean(1) > 0) & (edge.flatten(1).mean(1) < 1)
    if int(usable.sum()) < 2:
        raise BadInput("No two images show both edge and other pixels to this network; give photographs.")
    contrast = _contrast(edge[usable])
    decision = (logits[usable] * contrast).flatten(1).sum(1)
    table = _table_of_parts(network, parts, batches, usable, contrast)
    shares = table.diagonal(dim1=0, dim2=1).T
    gap = float(((shares.sum(1) - decision).abs() / decision.abs().clamp_min(1e-6)).max())
    addresses = tuple(Address(part.site, unit) for part in parts for unit in range(len(part.weights)))
    kept = tuple(name for name, use in zip(pictures, usable.tolist()) if use)
    return Split(addresses, shares.numpy(), table.numpy(), decision.numpy(), kept, gap, int((~usable).sum()))


def _contrast(edge: Tensor) -> Tensor:
    """Weights whose inner product with a map is its mean at edges minus its mean elsewhere: [image y x]."""
    on = edge / edge.flatten(1).sum(1)[:, None, None]
    off = (1 - edge) / (1 - edge).flatten(1).sum(1)[:, None, None]
    return on - off


def _table_of_parts(
    network: Network, parts: list[Readout], batches: list[Batch], usable: Tensor, contrast: Tensor
) -> Tensor:
    """Parts of the contrast for each image under each image's mask: [image mask channel]."""
    rows, start = [], 0
    masks: dict[str, Tensor] = {}
    for batch in batches:
        run = network.run(batch, capture=[part.site for part in parts], stop_at=True)
        keep = usable[start : start + len(batch)]
        start += len(batch)
        pieces = []
        for part in parts:
            acts = run[part.site][keep]
            if part.site not in masks:
                up = network.module.get_submodule(f"{part.side}_up")
                masks[part.site] = up_transpose(contrast, (acts.shape[-2], acts.shape[-1]), up).flatten(1)
            pieces.append(torch.einsum("icp,mp->imc", acts.flatten(2), masks[part.site]) * part.weights)
        rows.append(torch.cat(pieces, dim=2))
    return torch.cat(rows)
