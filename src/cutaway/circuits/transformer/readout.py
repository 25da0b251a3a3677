"""QK and OV circuits read out in tokens: which tokens each singular direction looks for, at, and writes.

A direction's reading is its product with every token's embedding as the layer's norm would show it (no earlier layer
has added anything: a reading for later layers is about the token alone); its writing is its effect on the logits, the
final norm folded in. Singular vectors have a common sign that means nothing, so both ends are shown (Millidge and
Black 2022, "The Singular Value Decompositions of Transformer Weight Matrices are Highly Interpretable").
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.quadratic import Quadratic, Spectrum
from cutaway.circuits.transformer.forms import maps_of, ov_form, qk_form
from cutaway.errors import NotTestable
from cutaway.features.examples import token_text
from cutaway.networks.anatomy import anatomy
from cutaway.networks.folded import inverse_scale, token_embeddings, unembedding
from cutaway.networks.network import Network


@dataclass(frozen=True)
class Direction:
    """One singular direction in tokens. ``share`` is its part of |M|^2.

    QK: ``left`` are query tokens, ``right`` key tokens; those at the same end raise the score together. OV: ``right``
    are source tokens, ``left`` the output tokens that these promote (same end) or suppress (other end).
    """

    value: float
    share: float
    left_high: tuple[str, ...]
    left_low: tuple[str, ...]
    right_high: tuple[str, ...]
    right_low: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def qk_directions(
    network: Network, layer: int, head: int, *, offset: int = 0, count: int = 3, tokens: int = 6
) -> list[Direction]:
    """The strongest directions of a head's score, in query and key tokens ``offset`` positions apart."""
    seen = seen_tokens(network, layer)
    return _read(network, qk_form(network, layer, head, offset=offset), seen, seen, count, tokens)


def ov_directions(network: Network, layer: int, head: int, *, count: int = 3, tokens: int = 6) -> list[Direction]:
    """The strongest directions of what a head writes, in output tokens (left) and source tokens (right)."""
    return _read(
        network, ov_form(network, layer, head), unembedding(network)[0], seen_tokens(network, layer), count, tokens
    )


def seen_tokens(network: Network, layer: int) -> Float[Tensor, "vocab d_model"]:
    """Every token's embedding, scaled as the layer's norm would scale it. ``NotTestable`` for post-norm networks."""
    if not anatomy(network).pre_norm:
        raise NotTestable(f"Readings in tokens were asked for; {network.name} norms its embeddings in other ways.")
    table = token_embeddings(network)
    return table * inverse_scale(maps_of(network, layer, 0).norm, table)[:, None]


@torch.no_grad()
def _read(network: Network, form: Quadratic, left: Tensor, right: Tensor, count: int, tokens: int) -> list[Direction]:
    spectrum: Spectrum = form.spectrum(count)
    energy = form.norm() ** 2
    sides = [
        _ends(network, side @ vectors.T, tokens) for side, vectors in ((left, spectrum.left), (right, spectrum.right))
    ]
    return [
        Direction(float(value), float(value) ** 2 / energy if energy > 0 else 0.0, *sides[0][index], *sides[1][index])
        for index, value in enumerate(spectrum.values)
    ]


def _ends(
    network: Network, effects: Float[Tensor, "token k"], tokens: int
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """For each column the tokens with the highest and the lowest values."""
    effects = effects - effects.mean(0)
    count = min(tokens, len(effects))

    def named(columns: Tensor) -> list[tuple[str, ...]]:
        return [tuple(token_text(network, int(token)) for token in column) for column in columns.T]

    return list(zip(named(effects.topk(count, 0).indices), named((-effects).topk(count, 0).indices)))
