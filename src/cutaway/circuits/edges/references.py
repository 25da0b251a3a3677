"""What a cut edge carries instead: the corrupted prompt's value, a mean, zero, or its own at other positions.

resample   what the source writes on the corrupted prompt of the pair, position by position
mean       its mean over reference prompts at this position: over those that have a token there, never over
           positions or parts (a published tool divides the last token's value by the length and averages parts)
zero       nothing
permute    its own values on the clean prompt, positions shuffled within the prompt; the first stays, because many
           networks park attention there
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.circuits.edges.pairs import Pairs
from cutaway.circuits.edges.runtime import Sources, record
from cutaway.circuits.edges.wiring import Wired
from cutaway.errors import BadInput, UnknownName
from cutaway.networks.network import Batch

ABLATIONS = ("resample", "mean", "zero", "permute")


def reference(
    wired: Wired, pairs: Pairs, how: str = "resample", *, over: Batch | None = None, seed: int = 0
) -> Sources:
    """What every source is replaced by, for these pairs; ``over`` are the prompts of the mean (the corrupted ones).

    Raises ``UnknownName`` for another ablation and ``BadInput`` where the mean's prompts are too short.
    """
    check_ablation(how)
    if how == "resample":
        return record(wired, pairs.corrupt)
    if how == "mean":
        shown = pairs.corrupt if over is None else over
        means = record(wired, shown).map(lambda value: position_means(value, shown.mask))
        return means.map(lambda value: fitted(value, pairs))
    clean = record(wired, pairs.clean)
    if how == "zero":
        return clean.map(torch.zeros_like)
    order = shuffled_positions(pairs.clean, clean.heads[0].shape[1], seed)
    return clean.map(lambda value: permuted(value, order))


def check_ablation(how: str) -> None:
    """Raises ``UnknownName`` for an ablation that does not exist."""
    if how not in ABLATIONS:
        raise UnknownName("ablation", how, ABLATIONS, f"There are {', '.join(ABLATIONS)}.")


def position_means(
    value: Float[Tensor, "example pos d"], mask: Bool[Tensor, "_ _"] | None = None
) -> Float[Tensor, "pos d"]:
    """The mean at each position over the examples that have a token there; NaN where none has."""
    if mask is None:
        return value.mean(0)
    real = mask.to(value)[..., None]
    return torch.where(real > 0, value, torch.zeros_like(value)).sum(0) / real.sum(0)


def fitted(means: Float[Tensor, "pos d"], pairs: Pairs) -> Float[Tensor, "pair length d"]:
    """Position means repeated for every pair; positions that the pairs do not use are zero."""
    used = _used(pairs)
    if means.shape[0] < len(used) or bool(means[: len(used)][used.to(means.device)].isnan().any()):
        raise BadInput(
            "Means over reference prompts were asked for; at some position of the pairs no reference prompt has a "
            "token, so give reference prompts that are at least as long."
        )
    kept = torch.nan_to_num(means[: len(used)])
    return kept.expand(len(pairs), *kept.shape).contiguous()


def _used(pairs: Pairs) -> Bool[Tensor, " pos"]:
    """True at positions at which some pair has a token."""
    if pairs.clean.mask is not None:
        return pairs.clean.mask.any(0)
    shape = next(iter(pairs.clean.inputs.values())).shape
    return torch.ones(shape[1], dtype=torch.bool)


def shuffled_positions(batch: Batch, length: int, seed: int) -> Tensor:
    """For every prompt an order of its positions, [pair pos]: real ones but the first are shuffled."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.arange(length).repeat(len(batch), 1)
    for row in range(len(batch)):
        real = length if batch.mask is None else int(batch.mask[row].sum())
        order[row, 1:real] = 1 + torch.randperm(max(real - 1, 0), generator=generator)
    return order


def permuted(value: Float[Tensor, "pair pos d"], order: Tensor) -> Float[Tensor, "pair pos d"]:
    """Every prompt's positions in another order."""
    return value.gather(1, order.to(value.device)[..., None].expand_as(value))
