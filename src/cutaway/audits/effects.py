"""How much an edit changes what a network says: one number per stimulus, in the unit that fits the task.

causal-lm, classifier   KL divergence of the edited from the original prediction, nats, mean over real positions
edges                   the same for one Bernoulli per pixel, nats, mean over pixels
anything else           squared change of the output over its squared deviation from the batch mean
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cutaway.audits.rules import Profile
from cutaway.networks.network import Batch, Network

CATEGORICAL = ("causal-lm", "classifier")
QUICK_SIDE = 160  # pixels: half the cost of 224, and edges are local


def economical(network: Network, profile: Profile) -> Network:
    """The network as a quick audit shows it pictures: smaller ones where any size will do (an edge map has the size
    of its picture; a classifier was trained at one size and keeps it).
    """
    with_size = getattr(network.preprocess, "with_size", None)
    if profile.name != "quick" or network.task != "edges" or with_size is None:
        return network
    return replace(network, preprocess=with_size(QUICK_SIDE))


@dataclass(frozen=True)
class Change:
    """What an edit did to each stimulus: ``amount`` (see the table above) and ``flipped``, the share of decisions
    (next token, class, edge pixel) that came out differently; NaN where the output decides nothing.
    """

    amount: Float[Tensor, " batch"]
    flipped: Float[Tensor, " batch"]


def unit_of_change(network: Network) -> str:
    """What :attr:`Change.amount` is measured in."""
    if network.task in CATEGORICAL:
        return "KL divergence, nats"
    return "KL divergence per pixel, nats" if network.task == "edges" else "relative squared change of the output"


def change(network: Network, before: Tensor, after: Tensor, batch: Batch) -> Change:
    """How far ``after`` is from ``before``, stimulus by stimulus."""
    if network.task in CATEGORICAL:
        return _categorical(before, after, batch)
    if network.task == "edges":
        return _bernoulli(before, after)
    flat_before, flat_after = before.flatten(1).float(), after.flatten(1).float()
    scale = (flat_before - flat_before.mean(0)).square().sum(1).mean().clamp_min(1e-12)
    amount = (flat_after - flat_before).square().sum(1) / scale
    return Change(amount, torch.full_like(amount, torch.nan))


def _categorical(before: Tensor, after: Tensor, batch: Batch) -> Change:
    log_p, log_q = (functional.log_softmax(logits.float(), -1) for logits in (before, after))
    divergence = (log_p.exp() * (log_p - log_q)).sum(-1)
    flips = (log_p.argmax(-1) != log_q.argmax(-1)).float()
    if divergence.ndim == 1:
        return Change(divergence, flips)
    weight = torch.ones_like(divergence) if batch.mask is None else batch.mask[:, -divergence.shape[1] :].float()
    count = weight.sum(1).clamp_min(1)
    return Change((divergence * weight).sum(1) / count, (flips * weight).sum(1) / count)


def _bernoulli(before: Tensor, after: Tensor) -> Change:
    before, after = before.float(), after.float()
    p = torch.sigmoid(before)
    divergence = p * (functional.logsigmoid(before) - functional.logsigmoid(after)) + (1 - p) * (
        functional.logsigmoid(-before) - functional.logsigmoid(-after)
    )
    return Change(divergence.flatten(1).mean(1), ((before > 0) != (after > 0)).float().flatten(1).mean(1))


def sampled_log_likelihood(network: Network, output: Tensor, batch: Batch, generator: torch.Generator) -> Tensor:
    """log p(y) [batch] for y drawn from the network's own prediction (a Gaussian of unit variance for others).

    Its gradient g with respect to an activation is a draw whose outer product is the Fisher information: for a
    small change d of the activation, the expected divergence is E[(g . d)^2] / 2.
    """
    if network.task in CATEGORICAL:
        log_p = functional.log_softmax(output.float(), -1)
        drawn = torch.multinomial(log_p.detach().exp().flatten(0, -2).cpu(), 1, generator=generator)
        chosen = log_p.flatten(0, -2).gather(1, drawn.to(log_p.device)).reshape(output.shape[:-1])
        if chosen.ndim == 1:
            return chosen
        return (chosen if batch.mask is None else chosen * batch.mask[:, -chosen.shape[1] :]).sum(1)
    if network.task == "edges":
        uniform = torch.rand(output.shape, generator=generator).to(output.device)
        drawn = (uniform < torch.sigmoid(output.detach().float())).float()
        return -functional.binary_cross_entropy_with_logits(output.float(), drawn, reduction="none").flatten(1).sum(1)
    noise = torch.randn(output.shape, generator=generator).to(output.device)
    return (output.float() * noise).flatten(1).sum(1)
