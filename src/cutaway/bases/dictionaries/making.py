"""A fresh dictionary: random unit decoder rows, the encoder their transpose."""

from __future__ import annotations

import torch

from cutaway.bases.basis import Origin
from cutaway.bases.dictionaries.dictionary import Dictionary
from cutaway.bases.dictionaries.kind import DICTIONARIES
from cutaway.errors import BadInput

USUAL_K = 32
FIRST_THRESHOLD = 0.5


def make(
    kind: str,
    d_in: int,
    width: int,
    d_out: int | None = None,
    *,
    k: int | None = None,
    skip: bool = False,
    transcoder: bool = False,
    seed: int = 0,
    name: str = "",
    origin: Origin | None = None,
) -> Dictionary:
    """An untrained dictionary of that kind, the same for the same seed.

    ``d_out`` of another width than ``d_in``, ``skip`` or ``transcoder`` make a transcoder: biases of its own on both
    sides, and encoder directions that are drawn apart from the decoder's where the widths differ.
    Raises ``UnknownName`` for a kind that is not registered, ``BadInput`` for k larger than the width.
    """
    rule = DICTIONARIES[kind]
    if min(d_in, width, d_out or 1) < 1:
        raise BadInput(f"A dictionary from {d_in} through {width} to {d_out or d_in} was asked for; give at least 1.")
    out = d_in if d_out is None else d_out
    chance = torch.Generator().manual_seed(seed)
    decoder = _unit(torch.randn(width, out, generator=chance))
    encoder = decoder.clone() if out == d_in else _unit(torch.randn(width, d_in, generator=chance))
    extras = {part: torch.full((width,), FIRST[part] if part in rule.learned else 0.0) for part in rule.extras}
    return Dictionary(
        kind,
        encoder,
        torch.zeros(width),
        decoder,
        torch.zeros(out),
        b_in=torch.zeros(d_in) if transcoder or skip or out != d_in else None,
        skip=torch.zeros(out, d_in) if skip else None,
        k=(k or min(USUAL_K, width)) if rule.has_k else None,
        name=name,
        origin=origin,
        **extras,
    )


FIRST = {"threshold": FIRST_THRESHOLD, "gate_bias": 0.0, "gate_scale": 0.0}


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=1, keepdim=True)
