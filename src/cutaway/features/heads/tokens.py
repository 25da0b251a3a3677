"""Token sequences on which heads show what they do: random tokens twice, random tokens once, and words in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cutaway.errors import BadInput, NotTestable
from cutaway.networks.network import Network
from cutaway.stimuli import builtin_text

TEXTS = 400  # passages from which ordinary tokens are taken
SHORTEST = 3  # tokens in a half, below which "the one after its last occurrence" means little
_ENOUGH = 8  # tokens in a half, for which a small vocabulary may be used up
_SPECIAL_TRIES = ("bos_token_id", "cls_token_id", "eos_token_id")


@dataclass(frozen=True, eq=False)
class Repeats:
    """``repeated`` is [start, r, r], ``unrelated`` [start, s, r] with the same second half behind other tokens.

    Token t of the second half stands at position ``1 + length + t``, in ``repeated`` for the second time.
    """

    repeated: Int[Tensor, "sequence pos"]
    unrelated: Int[Tensor, "sequence pos"]
    length: int
    start: int


def repeated_tokens(network: Network, *, count: int, length: int, seed: int = 0) -> Repeats:
    """Sequences of random ordinary tokens, none twice within r; s has none of r's where the vocabulary is large enough.

    ``length`` becomes shorter where the vocabulary or the network's longest input asks for it. In a small vocabulary s
    is r in another order, moved around so far that no token stands where it or the one after it stood in r. Raises
    ``NotTestable`` where not even three tokens fit.
    """
    if count < 2:
        raise BadInput(f"{count} sequences were asked for; an interval needs at least 2.")
    allowed, start = ordinary_tokens(network, needed=2 * length), start_token(network)
    length = min(length, (longest_input(network) - 1) // 2, max(len(allowed) // 2, min(len(allowed), _ENOUGH)))
    if length < SHORTEST:
        raise NotTestable(
            f"Repeated tokens were to be shown to {network.name}, which takes {longest_input(network)} positions and "
            f"{len(allowed)} ordinary tokens; at least three tokens twice are needed."
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([torch.randperm(len(allowed), generator=generator)[: 2 * length] for _ in range(count)])
    again, other = allowed[drawn[:, :length]], allowed[drawn[:, length:]]
    if other.shape[1] < length:
        other = again.roll(max(2, length // 2), 1)
    first = torch.full((count, 1), start)
    return Repeats(torch.cat([first, again, again], 1), torch.cat([first, other, again], 1), length, start)


def ordinary_tokens(network: Network, *, needed: int = 0) -> Int[Tensor, " token"]:
    """Tokens that occur in ordinary text (the package's own), special ones left out.

    Rare tokens, of which a network has hardly seen any, make heads that are sure of common ones unsure. Where text
    gives fewer than ``needed``, or there is no tokenizer, all tokens but special ones.
    """
    allowed = _not_special(network)
    if not getattr(network.tokenizer, "is_fast", False):
        return allowed
    encoded: Any = network.tokenizer([each.load() for each in builtin_text(count=TEXTS)], truncation=True)
    seen = torch.tensor(sorted({token for ids in encoded["input_ids"] for token in ids}), dtype=torch.long)
    seen = seen[torch.isin(seen, allowed)]
    return seen if len(seen) >= max(needed, 1) else allowed


def _not_special(network: Network) -> Int[Tensor, " token"]:
    special = set(getattr(network.tokenizer, "all_special_ids", None) or ())
    special |= set(getattr(network.tokenizer, "added_tokens_decoder", None) or ())
    special |= {getattr(network.tokenizer, name, None) for name in ("pad_id", "bos_token_id", "eos_token_id")}
    size = min(vocabulary_size(network), len(network.tokenizer) if hasattr(network.tokenizer, "__len__") else 1 << 30)
    return torch.tensor([token for token in range(size) if token not in special], dtype=torch.long)


def start_token(network: Network) -> int:
    """What sequences begin with: the tokenizer's or the network's start token, else token 0."""
    size, config = vocabulary_size(network), getattr(network.module, "config", None)
    for holder in (network.tokenizer, config):
        for name in _SPECIAL_TRIES:
            token = getattr(holder, name, None)
            if isinstance(token, int) and 0 <= token < size:
                return token
    return 0


def vocabulary_size(network: Network) -> int:
    """How many tokens the network knows."""
    size = getattr(getattr(network.module, "config", None), "vocab_size", None)
    if not isinstance(size, int):
        raise NotTestable(f"Tokens were to be shown to {network.name}, which does not say how many it knows.")
    return size


def longest_input(network: Network) -> int:
    """How many positions the network takes; a large number where it sets no limit."""
    config = getattr(network.module, "config", None)
    if isinstance(getattr(config, "max_len", None), int):
        return int(config.max_len) + 1  # type: ignore[union-attr]
    limit = getattr(config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) else 1 << 20


@dataclass(frozen=True, eq=False)
class Pieces:
    """Tokens of ordinary texts, and which of them go on with a word that an earlier token began."""

    ids: tuple[Int[Tensor, " pos"], ...]
    continues: tuple[Bool[Tensor, " pos"], ...]


def word_pieces(network: Network, texts: Sequence[str], *, longest: int = 64) -> Pieces | None:
    """Texts as tokens with the places where words are cut; None where the tokenizer does not tell places.

    A token goes on with a word if it begins with a letter or digit right behind another one.
    """
    if not getattr(network.tokenizer, "is_fast", False):
        return None
    ids, continues = [], []
    for text in texts:
        encoded: Any = network.tokenizer(text, return_offsets_mapping=True, truncation=True, max_length=longest)
        ids.append(torch.tensor(encoded["input_ids"], dtype=torch.long))
        continues.append(torch.tensor([_goes_on(text, start, end) for start, end in encoded["offset_mapping"]]))
    return Pieces(tuple(ids), tuple(continues))


def _goes_on(text: str, start: int, end: int) -> bool:
    return end > start > 0 and text[start].isalnum() and text[start - 1].isalnum()
