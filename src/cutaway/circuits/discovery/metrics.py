"""More things that a circuit can be held against, beside the logit difference and the projection."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.edges.pairs import Metric, Pairs, logit_difference, positions
from cutaway.errors import BadInput, UnknownName

METRICS = ("logit difference", "probability", "log probability")


def probability() -> Metric:
    """The probability of the target at the last token, 0 to 1."""
    return Metric("probability", lambda logits, pairs: _log_probability(logits, pairs).exp())


def log_probability() -> Metric:
    """The log probability of the target at the last token, in nats, at most 0."""
    return Metric("log probability", _log_probability)


def metric_named(name: str) -> Metric:
    """A metric of named answers; raises ``UnknownName``."""
    known = {"logit difference": logit_difference, "probability": probability, "log probability": log_probability}
    if name not in known:
        raise UnknownName("metric", name, known, f"There are {', '.join(known)}.")
    return known[name]()


def _log_probability(logits: Tensor, pairs: Pairs) -> Tensor:
    if pairs.target is None:
        raise BadInput("The probability of an answer needs a target for every pair.")
    rows = torch.arange(len(logits), device=logits.device)
    return logits[:, -1].log_softmax(-1)[rows, pairs.target]


def divergence(
    outputs: Float[Tensor, "circuit pair pos out"], clean: Float[Tensor, "pair pos out"], pairs: Pairs
) -> Float[Tensor, " circuit"]:
    """KL(clean || circuit) in nats, mean over read positions and pairs: 0 for the network itself."""
    whole, other = clean.log_softmax(-1), outputs.log_softmax(-1)
    apart = (whole.exp() * (whole - other)).sum(-1)
    read = positions(pairs.clean, clean)
    return (apart * read).sum((1, 2)) / read.sum()
