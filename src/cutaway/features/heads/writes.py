"""What heads do to tokens by their weights alone: copying them, or writing what comes next in an order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cutaway.errors import NotTestable
from cutaway.networks.anatomy import anatomy
from cutaway.networks.edits import Ablate
from cutaway.networks.folded import HeadMaps, head_maps, inverse_scale, token_embeddings, unembedding
from cutaway.networks.network import Network

#: Orders that English speakers know by heart.
ORDERS: tuple[tuple[str, ...], ...] = (
    ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
     "December"),
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    tuple("123456789"),
    tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
)  # fmt: skip
_SHORTEST_ORDER = 4


@torch.no_grad()
def token_product(network: Network) -> Float[Tensor, "d_model d_model"]:
    """sum over tokens t of e_t u_t': embeddings at RMS 1 against unembeddings centred over the vocabulary."""
    table = token_embeddings(network)
    table = table * inverse_scale(head_maps(network, 0).norm, table)[:, None]
    weight = unembedding(network)[0]
    if len(weight) != len(table):
        raise NotTestable(
            f"{network.name} reads {len(table)} tokens and answers with {len(weight)} others: no copying."
        )
    return table.T @ (weight - weight.mean(0))


def copying_score(
    value: Float[Tensor, "d_head d_model"], out: Float[Tensor, "d_model d_head"], product: Float[Tensor, "d d"]
) -> float:
    """sum(lambda) / sum |lambda| over the eigenvalues of W_E OV W_U, tokens to tokens: 1 copies, -1 suppresses.

    They are those of the d_head x d_head matrix W_V (W_E W_U) W_O (Elhage et al. 2021).
    """
    eigenvalues = torch.linalg.eigvals((value @ product @ out).double())
    size = float(eigenvalues.abs().sum())
    return float(eigenvalues.real.sum()) / size if size > 0 else 0.0


def copying(
    network: Network, *, draws: int = 199, seed: int = 0
) -> tuple[Float[np.ndarray, " head"], Float[np.ndarray, " draw"]]:
    """The copying score of every head, and of value maps joined with another head's output map (the null).

    The null has all the structure that embeddings and maps have by themselves, and only the match is missing.
    """
    product = token_product(network)
    maps = [head_maps(network, layer.index) for layer in anatomy(network).layers]
    places = [(each, head) for each in maps for head in range(each.heads)]
    scores = [copying_score(each.value[head], each.out[head], product) for each, head in places]
    rng = np.random.default_rng(seed)
    null = []
    while len(null) < draws and len(places) > 1:
        (a, i), (b, j) = (places[k] for k in rng.choice(len(places), 2, replace=False))
        null.append(copying_score(a.value[i], b.out[j], product))
    return np.array(scores), np.array(null)


@dataclass(frozen=True, eq=False)
class Ordinals:
    """Tokens of known orders: ``ids``, which order each belongs to, and (t, t + 1) pairs as indices into ``ids``."""

    ids: Int[Tensor, " token"]
    order: Int[Tensor, " token"]
    pairs: Int[Tensor, "pair 2"]


def ordinals(network: Network, orders: Sequence[Sequence[str]] = ORDERS) -> Ordinals | None:
    """The orders as far as their words are single tokens (with a space in front, or else without); None if too few.

    Only tokenizers that spell any word are asked (``is_fast``); a compiled network's knows its own words alone.
    """
    if not getattr(network.tokenizer, "is_fast", False):
        return None
    ids: list[int] = []
    order: list[int] = []
    pairs: list[tuple[int, int]] = []
    for number, words in enumerate(orders):
        tokens = max(
            (_single(network, prefix, words) for prefix in (" ", "")), key=lambda found: sum(t >= 0 for t in found)
        )
        if sum(token >= 0 for token in tokens) < _SHORTEST_ORDER:
            continue
        places = {k: len(ids) + at for at, k in enumerate(k for k, token in enumerate(tokens) if token >= 0)}
        ids += [token for token in tokens if token >= 0]
        order += [number] * len(places)
        pairs += [(places[k], places[k + 1]) for k in places if k + 1 in places]
    if not pairs:
        return None
    return Ordinals(torch.tensor(ids), torch.tensor(order), torch.tensor(pairs))


@torch.no_grad()
def ordinal_effects(network: Network, words: Ordinals) -> Float[Tensor, "head token written"]:
    """W_U OV x of each ordinal token on each: x is the token's stream behind the first MLP, attention there silenced.

    (Gould et al. 2023, "Successor Heads"; the first MLP tells tokens of one order apart.) Heads of the first layer read
    the embedding itself.
    """
    weight = unembedding(network)[0][words.ids]
    sites = {0: "layers.0.resid"}
    silenced = [Ablate("layers.0.attn.heads", to="zero")]
    tokens = words.ids[:, None]
    later = network.run(tokens, capture=sites.values(), edits=silenced, stop_at=True)[sites[0]][:, 0]
    table = token_embeddings(network)[words.ids]
    found = []
    for layer in anatomy(network).layers:
        maps = head_maps(network, layer.index)
        found.append(_written(maps, table if layer.index == 0 else later) @ weight.T)
    return torch.cat(found)


def successor(
    network: Network, words: Ordinals, *, draws: int = 199, seed: int = 0
) -> tuple[Float[np.ndarray, " head"], Float[np.ndarray, "draw head"]]:
    """The share of ordinal tokens whose successor is what a head writes most of all tokens of that order.

    Null: the same with each order shuffled, one shuffle for all heads.
    """
    effects = ordinal_effects(network, words)
    same = words.order[:, None] == words.order
    best = effects.masked_fill(~same, -torch.inf).argmax(-1)
    rng = np.random.default_rng(seed)
    null = np.stack([_hits(best, _shuffled(words, rng)) for _ in range(draws)])
    return _hits(best, words.pairs), null


def _hits(best: Int[Tensor, "head token"], pairs: Int[Tensor, "pair 2"]) -> Float[np.ndarray, " head"]:
    hit: Bool[Tensor, "head pair"] = best[:, pairs[:, 0]] == pairs[:, 1]
    return hit.double().mean(-1).cpu().numpy()


def _shuffled(words: Ordinals, rng: np.random.Generator) -> Int[Tensor, "pair 2"]:
    """The pairs that a random order of each class would have."""
    moved = torch.arange(len(words.ids))
    for number in words.order.unique():
        members = (words.order == number).nonzero()[:, 0]
        moved[members] = members[torch.from_numpy(rng.permutation(len(members)))]
    return moved[words.pairs]


def _written(maps: HeadMaps, stream: Float[Tensor, "token d"]) -> Float[Tensor, "head token d"]:
    seen = stream * inverse_scale(maps.norm, stream)[:, None]
    return torch.einsum("hdr,hrs,ts->htd", maps.out, maps.value, seen)


def _single(network: Network, prefix: str, words: Sequence[str]) -> list[int]:
    """Each word's token where it is one, else -1."""
    encoded = [network.tokenizer(prefix + word, add_special_tokens=False)["input_ids"] for word in words]
    return [ids[0] if len(ids) == 1 else -1 for ids in encoded]
