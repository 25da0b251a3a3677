"""Why an encoder finds two sentences alike: the cosine of their embeddings, pair by pair of tokens and of parts.

An embedding is the mean over positions of the last hidden states, made length 1; with every norm frozen as it was in
the pass, a last hidden state is the sum of what each head, each MLP and the embedding wrote. The dot product of two
sums is the sum over pairs: which token of one sentence, by which part, meets which token of the other, by which part.
Negative entries are what makes the sentences unlike. With ``centre`` the mean over other sentences is taken off first,
entry by entry (a direction that all embeddings share says nothing about this pair).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.quadratic import Quadratic
from cutaway.circuits.transformer.stream import stream_parts
from cutaway.errors import BadInput, NotTestable
from cutaway.features.examples import token_text
from cutaway.networks.anatomy import anatomy
from cutaway.networks.network import Network

_POOLING_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Similarity:
    """A cosine, taken apart: ``values[first token, first part, second token, second part]``.

    ``cosine`` is the dot product of the network's own two embeddings; ``gap`` what the entries miss of it. With a
    centre the entries add up to ``centred`` instead: the dot product after the mean embedding was taken off both.
    """

    first_tokens: tuple[str, ...]
    second_tokens: tuple[str, ...]
    parts: tuple[str, ...]
    values: Float[Tensor, "first_token first_part second_token second_part"]
    cosine: float
    centred: float | None = None

    @property
    def gap(self) -> float:
        """What the entries do not add up to."""
        return (self.cosine if self.centred is None else self.centred) - float(self.values.double().sum())

    def by_tokens(self) -> Float[Tensor, "first_token second_token"]:
        """Entries summed over parts."""
        return self.values.sum((1, 3))

    def by_parts(self) -> Float[Tensor, "first_part second_part"]:
        """Entries summed over tokens."""
        return self.values.sum((0, 2))

    def top(self, count: int = 10) -> list[tuple[str, str, float]]:
        """Token pairs that make the sentences alike (positive) or unlike (negative), the largest in size first."""
        table = self.by_tokens()
        width = table.shape[1]
        best = table.flatten().abs().argsort(descending=True, stable=True)[:count].tolist()
        return [(self.first_tokens[k // width], self.second_tokens[k % width], float(table.flatten()[k])) for k in best]


def similarity(network: Network, first: str, second: str, *, centre: Sequence[str] = ()) -> Similarity:
    """Takes the cosine of two sentences apart; see :class:`Similarity`.

    ``centre`` are other sentences whose mean embedding is taken off, spread evenly over a sentence's positions. Raises
    ``NotTestable`` for networks whose sentence embedding is not the mean of their last hidden states.
    """
    if network.task != "encoder" or network.tokenizer is None:
        raise NotTestable(f"Two sentences' likeness was asked about; {network.name} is not an encoder of sentences.")
    if not first.strip() or not second.strip():
        raise BadInput("An empty sentence was given; give two with at least one word each.")
    tokens_a, parts_a, whole_a, names = embedding_parts(network, first)
    tokens_b, parts_b, whole_b, _ = embedding_parts(network, second)
    cosine, centred = float(whole_a @ whole_b), None
    if centre:
        mean, length = _mean_parts(network, centre)
        parts_a, parts_b = parts_a - mean / len(parts_a), parts_b - mean / len(parts_b)
        centred = float((whole_a - length) @ (whole_b - length))
    ledger = _dot(whole_a).ledger(parts_a.flatten(0, 1), parts_b.flatten(0, 1))
    values = ledger.cross.reshape(*parts_a.shape[:2], *parts_b.shape[:2])
    return Similarity(tokens_a, tokens_b, names, values, cosine, centred)


@torch.no_grad()
def embedding_parts(
    network: Network, sentence: str
) -> tuple[tuple[str, ...], Float[Tensor, "token part d"], Float[Tensor, " d"], tuple[str, ...]]:
    """A sentence's tokens, what each part adds to its embedding at each token, the embedding, the parts' names."""
    stream = stream_parts(network, [sentence])
    embedding = network.run(stream.batch).logits[0].double()
    shares = (stream.parts[:, 0] / stream.parts.shape[2]).double()
    summed = shares.sum((0, 1))
    length = float(embedding.norm() / summed.norm())  # 1 / |mean| where the network norms its embeddings, else 1
    if float((summed * length - embedding).abs().max()) > _POOLING_TOLERANCE * float(embedding.abs().max()):
        raise NotTestable(
            f"The sentence embedding of {network.name} is not the mean of its {len(anatomy(network).layers)} blocks' "
            "last states, so it cannot be taken apart here."
        )
    ids = stream.batch.inputs["input_ids"][0].tolist()
    return tuple(token_text(network, token) for token in ids), shares.transpose(0, 1) * length, embedding, stream.names


def _mean_parts(network: Network, sentences: Sequence[str]) -> tuple[Float[Tensor, "part d"], Float[Tensor, " d"]]:
    found = [embedding_parts(network, sentence) for sentence in sentences]
    return torch.stack([each[1].sum(0) for each in found]).mean(0), torch.stack([each[2] for each in found]).mean(0)


def _dot(like: Tensor) -> Quadratic:
    eye = torch.eye(len(like)).to(like)
    return Quadratic.of_readings(eye, eye)
