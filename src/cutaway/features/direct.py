"""What a unit of a language model writes towards the output tokens, straight through the residual stream.

A unit's write vector v (a row of the down projection, or a coordinate of the stream itself) changes the logits by
W_U N v / r, where N is the final norm's gain (and centring, for LayerNorm) and r the stream's scale at that position
(nostalgebraist 2020, "logit lens"; Elhage et al. 2021, direct paths). r is left out: effects are per unit of
activation where the final stream has root mean square 1. Logits are centred over the vocabulary, because adding one
number to all of them changes nothing. What later layers make of v is left out, too.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cutaway.errors import NotTestable, UnknownName
from cutaway.evidence import measure_against_null, random_directions
from cutaway.features.card import Effect, Outputs
from cutaway.features.examples import token_text
from cutaway.networks.network import Network
from cutaway.networks.sites import Site

STREAM = ("resid", "resid_mid", "embed", "attn_out", "mlp_out")
SHOWN = 10
DIRECTIONS = 99


def direct_effect(network: Network, site: Site, unit: int, *, seed: int = 0) -> Outputs:
    """Tokens that the unit promotes and suppresses directly, and whether these stand out.

    The measure is the excess kurtosis of its effects over the vocabulary: 0 for effects on all tokens alike, large
    where a few tokens stand out. Null: random directions with the covariance of the site's write vectors, of the
    unit's own length. :class:`NotTestable` where the site writes to no final stream that is read by an unembedding.
    """
    writes = write_vectors(network, site)
    mine = writes[unit]
    length = float(mine.norm())
    if length == 0:
        return Outputs("direct", "It writes nothing: its write vector is zero.", null="none")
    random = random_directions(writes, DIRECTIONS, norm=length, seed=seed)
    effects = token_effects(network, torch.cat([mine[None], random.to(mine)]), normed=site.name == "final")
    peaks = excess_kurtosis(effects)
    measured = measure_against_null(
        float(peaks[0]), peaks[1:].tolist(), n=effects.shape[1], alternative="greater", seed=seed
    )
    stands_out = "stand out" if measured.p <= 0.05 else "do not stand out"
    return Outputs(
        "direct",
        f"Its direct effects on the output tokens {stands_out} against random directions.",
        "logits per unit of activation (final stream at RMS 1)",
        _tokens(network, effects[0], effects[0].topk(SHOWN).indices),
        _tokens(network, effects[0], (-effects[0]).topk(SHOWN).indices),
        (("excess kurtosis of the token effects", measured),),
        f"{DIRECTIONS} random directions with the covariance of the site's write vectors, same length",
    )


def write_vectors(network: Network, site: Site) -> Float[Tensor, "unit d_model"]:
    """What one unit of activation of each unit of the site adds to the residual stream."""
    if site.kind in STREAM:
        return torch.eye(site.width or 0, device=network.device)
    if site.kind != "mlp" or site.port != "input":
        raise NotTestable(f"Units of {site.name} do not write to the residual stream one by one.")
    writer = network.module.get_submodule(site.module)
    try:
        after = network.site(site.name.removesuffix(".mlp") + ".mlp_out")
    except UnknownName as error:
        raise NotTestable(f"{network.name} names no site for what {site.name} writes.") from error
    if after.module != site.module:
        raise NotTestable(f"A norm lies between {site.name} and the residual stream, so its write is not linear.")
    return linear_weight(writer).T


def linear_weight(module: nn.Module) -> Float[Tensor, "out in"]:
    """A linear map's matrix, whichever way round it is stored (GPT-2's Conv1D stores [in, out])."""
    weight: Any = module.weight
    return (weight if isinstance(module, nn.Linear) else weight.T).detach().float()


def token_effects(
    network: Network, writes: Float[Tensor, "direction d_model"], *, normed: bool = False
) -> Float[Tensor, "direction vocab"]:
    """The logits that directions of the final stream add at RMS 1, centred over the vocabulary.

    ``normed`` directions lie behind the final norm already.
    """
    unembedding = _unembedding(network)
    if not normed:
        writes = through_norm(_final_norm(network), writes)
    effects = writes.to(unembedding) @ unembedding.T
    return effects - effects.mean(dim=1, keepdim=True)


def through_norm(norm: nn.Module, vectors: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    """The linear part of a LayerNorm or RMSNorm: centring (LayerNorm only) and gain, without the scale."""
    gain: Any = getattr(norm, "weight", None)
    kind = type(norm).__name__
    if "RMS" not in kind:
        vectors = vectors - vectors.mean(dim=-1, keepdim=True)
    if gain is None:
        return vectors
    gain = gain.detach().to(vectors)
    return vectors * (1 + gain if kind.startswith("Gemma") else gain)


def excess_kurtosis(effects: Float[Tensor, "row column"]) -> Float[Tensor, " row"]:
    """Fourth standardised moment of each row, minus 3: 0 for a Gaussian."""
    centred = effects.double() - effects.double().mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1)
    return centred.pow(4).mean(dim=1) / variance.square().clamp(min=1e-300) - 3


def _unembedding(network: Network) -> Float[Tensor, "vocab d_model"]:
    try:
        module = network.module.get_submodule(network.site("logits").module)
    except UnknownName as error:
        raise NotTestable(f"{network.name} has no unembedding, so nothing writes to output tokens.") from error
    return linear_weight(module)


def _final_norm(network: Network) -> nn.Module:
    try:
        return network.module.get_submodule(network.site("final").module)
    except UnknownName as error:
        raise NotTestable(f"{network.name} has no final norm that is known.") from error


def _tokens(network: Network, effects: Float[Tensor, " vocab"], chosen: Int[Tensor, " k"]) -> tuple[Effect, ...]:
    return tuple(Effect(token_text(network, int(token)), float(effects[token])) for token in chosen)
