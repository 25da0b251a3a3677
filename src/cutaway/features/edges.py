"""The edge decision of a holistically-nested edge detector, split exactly over the channels that are read out.

Side outputs are 1 x 1 convolutions, upsampling and fusion are linear, so with f the fusion's weights

    logit = sum_k f_k up_k(sum_c w_kc conv_kc) + (fuse bias + sum_k f_k bias_k)

and channel c of block k contributes the map f_k w_kc up_k(conv_kc). Means of these maps over a set of pixels need no
map at all: mean(up(z) over M) = <z, up^T(M / |M|)>, one transposed upsampling for each block instead of one
upsampling for each channel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import Measurement, bootstrap_interval, measure_against_null
from cutaway.features.card import Outputs
from cutaway.features.collect import prepared
from cutaway.networks.network import Network
from cutaway.stimuli import Stimulus

_CONV = re.compile(r"conv(\d)_(\d)")
RESAMPLES = 400


@dataclass(frozen=True, eq=False)
class EdgeDecision:
    """Mean contributions to the edge logit at edge pixels (logit above 0) and elsewhere, image by image.

    ``edge`` and ``elsewhere`` map each read-out site to [image, channel]; ``logit_edge`` and ``logit_elsewhere`` are
    the logits' own means, ``bias`` the constant. For every image, the sum over all channels plus the bias is the mean
    logit. ``entities`` names each image's origin; ``left_out`` counts images without both kinds of pixels.
    """

    edge: dict[str, Float[np.ndarray, "image channel"]]
    elsewhere: dict[str, Float[np.ndarray, "image channel"]]
    logit_edge: Float[np.ndarray, " image"]
    logit_elsewhere: Float[np.ndarray, " image"]
    bias: float
    entities: tuple[str, ...]
    left_out: int

    def shares(self, site: str) -> Float[np.ndarray, " channel"]:
        """Each channel's share of the mean difference in logit between edge pixels and the others.

        The shares of all channels of all sites add up to 1; negative ones work against the decision.
        """
        return (self.edge[site] - self.elsewhere[site]).sum(axis=0) / self._contrast().sum()

    def share(self, site: str, channel: int, *, seed: int = 0) -> Measurement:
        """One channel's share: bootstrap interval over images' origins, null = the site's other channels."""
        numerator = self.edge[site][:, channel] - self.elsewhere[site][:, channel]
        interval = bootstrap_interval(
            lambda top, bottom: float(top.sum() / bottom.sum()), numerator, self._contrast(),
            entities=self.entities, method="percentile", resamples=RESAMPLES, seed=seed,
        )  # fmt: skip
        shares = self.shares(site)
        others = np.delete(shares, channel)
        n = len(set(self.entities))
        if len(others) == 0:
            return Measurement(float(shares[channel]), interval.low, interval.high, n=n, seed=seed)
        against = measure_against_null(float(shares[channel]), others, n=n, seed=seed)
        return Measurement(
            against.value, interval.low, interval.high, against.null_mean, against.null_std, against.p, n, seed
        )

    def _contrast(self) -> Float[np.ndarray, " image"]:
        return self.logit_edge - self.logit_elsewhere


def readout_sites(network: Network) -> dict[str, int]:
    """The sites that a side output reads, with the number of their block: conv1_2 -> 1, ..., conv5_3 -> 5."""
    last: dict[int, tuple[int, str]] = {}
    for site in network.sites():
        match = _CONV.fullmatch(site.name)
        if match:
            block, layer = int(match[1]), int(match[2])
            last[block] = max(last.get(block, (0, "")), (layer, site.name))
    return {name: block for block, (_, name) in last.items() if hasattr(network.module, f"side{block}_up")}


def decompose_edges(
    network: Network, stimuli: Sequence[Stimulus], *, sites: Sequence[str] | None = None
) -> EdgeDecision:
    """The exact split of the edge logit on each picture; one forward pass each.

    With ``sites`` only channels of these are looked at (their shares still refer to the whole decision).
    """
    every = readout_sites(network)
    if network.task != "edges" or not every:
        raise NotTestable(f"{network.name} has no side outputs, so its output does not split over channels.")
    blocks = {name: block for name, block in every.items() if sites is None or name in sites}
    rows = [(found, s.group or s.id) for s in stimuli if (found := _one(network, blocks, s)) is not None]
    if not rows:
        raise BadInput("No picture has both edge pixels and others; show pictures with some edges in them.")
    images, entities = zip(*rows)
    edge, elsewhere = ({name: np.stack([image[side][name] for image in images]) for name in blocks} for side in (0, 1))
    logits = np.array([image[2] for image in images])
    return EdgeDecision(
        edge, elsewhere, logits[:, 0], logits[:, 1], _bias(network, every), tuple(entities), len(stimuli) - len(rows)
    )


Means = tuple[dict[str, np.ndarray], dict[str, np.ndarray], tuple[float, float]]


def _one(network: Network, blocks: dict[str, int], stimulus: Stimulus) -> Means | None:
    with torch.no_grad():
        run = network.run(prepared(network, [stimulus]), capture=list(blocks))
    logit = run.logits[0, 0]
    edge = logit > 0
    if not bool(edge.any()) or bool(edge.all()):
        return None
    at_edge, elsewhere = (
        {name: contribution_means(network, block, run[name][0], pixels) for name, block in blocks.items()}
        for pixels in (edge, ~edge)
    )
    return at_edge, elsewhere, (float(logit[edge].double().mean()), float(logit[~edge].double().mean()))


def contribution_means(
    network: Network, block: int, acts: Float[Tensor, "channel y x"], pixels: Bool[Tensor, "rows columns"]
) -> Float[np.ndarray, " channel"]:
    """Mean of each channel's contribution to the edge logit over the given ``pixels``."""
    weights = (pixels.to(acts.dtype) / pixels.sum())[None]
    transposed = up_transpose(network, block, weights, (acts.shape[-2], acts.shape[-1]))
    return (readout_weights(network, block) * (acts.double() * transposed.double()).sum((1, 2))).cpu().numpy()


def readout_weights(network: Network, block: int) -> Float[Tensor, " channel"]:
    """The weight of each read-out channel of a block on the fused edge logit: side weight times fusion weight."""
    side, fuse, _ = _readout(network, block)
    return side.weight[0, :, 0, 0].detach().double() * float(fuse.weight[0, block - 1, 0, 0].detach())


def up_transpose(
    network: Network, block: int, weights: Float[Tensor, "mask rows columns"], size: tuple[int, int]
) -> Float[Tensor, "mask y x"]:
    """The transpose of a block's up-sampling: <up(z), weights> = <z, up_transpose(weights)> for z of ``size``."""
    up = _readout(network, block)[2]
    small = torch.zeros(len(weights), 1, *size, dtype=weights.dtype, device=weights.device, requires_grad=True)
    with torch.enable_grad():
        large = up(small, (weights.shape[-2], weights.shape[-1]))
        (gradient,) = torch.autograd.grad((large[:, 0] * weights).sum(), small)
    return gradient[:, 0]


def _readout(network: Network, block: int) -> tuple[Any, Any, Any]:
    module = network.module
    return module.get_submodule(f"side{block}"), module.get_submodule("fuse"), module.get_submodule(f"side{block}_up")


def _bias(network: Network, blocks: dict[str, int]) -> float:
    total = 0.0
    for block in blocks.values():
        side, fuse, _ = _readout(network, block)
        total += float(fuse.weight[0, block - 1, 0, 0].detach() * side.bias[0].detach())
    fuse_bias: Any = network.module.get_submodule("fuse").bias
    return total + float(fuse_bias[0].detach())


def edge_share(decision: EdgeDecision, site: str, channel: int, *, seed: int = 0) -> Outputs:
    """What one read-out channel contributes to the edge decision."""
    share = decision.share(site, channel, seed=seed)
    at_edge = _mean(decision.edge[site][:, channel], decision, seed)
    elsewhere = _mean(decision.elsewhere[site][:, channel], decision, seed)
    rank = 1 + int((np.abs(decision.shares(site)) > abs(share.value)).sum())
    direction = "towards" if share.value > 0 else "against"
    return Outputs(
        "exact",
        f"Read out directly, it carries {100 * share.value:.2g} % of the edge decision ({direction} edges): "
        f"rank {rank} of the {decision.edge[site].shape[1]} channels of {site}.",
        "edge logit",
        measures=(
            ("share of the logit difference between edge pixels and others", share),
            ("mean contribution at edge pixels, logit", at_edge),
            ("mean contribution elsewhere, logit", elsewhere),
        ),
        null="the site's other channels; shares of all channels of all sites add up to 100 %",
    )


def _mean(values: Float[np.ndarray, " image"], decision: EdgeDecision, seed: int) -> Measurement:
    from cutaway.evidence import mean_interval

    interval = mean_interval(values, decision.entities, seed=seed)
    return Measurement(float(values.mean()), interval.low, interval.high, n=len(set(decision.entities)), seed=seed)
