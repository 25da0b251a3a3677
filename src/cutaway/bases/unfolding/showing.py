"""Stimuli in batches of bounded memory, with the entity that each belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cutaway.bases.activations.passes import as_stimuli
from cutaway.errors import BadInput
from cutaway.networks.network import Batch, Network
from cutaway.stimuli import Stimulus, StimulusSet

MAX_TOKENS = 128
"""Longer texts are cut to their first tokens."""
FEW_FILES = 8


@dataclass(frozen=True, eq=False)
class Shown:
    """A batch, its stimuli, and how many of all have been shown with it."""

    batch: Batch
    stimuli: tuple[Stimulus, ...]
    entities: tuple[str, ...]
    done: int
    total: int


def entities_of(stimuli: StimulusSet) -> dict[str, str]:
    """The independent entity behind each stimulus id: its origin (a photograph's crops are one), else itself.

    Passages of fewer than :data:`FEW_FILES` text files count as entities by themselves: a corpus in one file holds
    many documents, and one entity bounds nothing.
    """
    groups = {stimulus.group for stimulus in stimuli}
    alone = len(groups) < FEW_FILES and all(stimulus.kind == "text" for stimulus in stimuli)
    return {each.id: each.id if alone or not each.group else each.group for each in stimuli}


def most_tokens(network: Network, wanted: int = MAX_TOKENS) -> int:
    """``wanted``, or what the network takes at most, where its configuration says so."""
    longest = getattr(getattr(network.module, "config", None), "max_position_embeddings", None)
    return min(wanted, int(longest)) if longest else wanted


def as_set(stimuli: Any) -> StimulusSet:
    """A stimulus set, or a list of texts, pictures or tensors as one; ``BadInput`` if there is nothing in it."""
    given = as_stimuli(stimuli)
    if len(given) == 0:
        raise BadInput(f"The stimulus set {given.name} is empty; give at least one text, picture or tensor.")
    return given


def batches(network: Network, stimuli: Any, *, batch_size: int = 8, max_tokens: int = MAX_TOKENS) -> Iterator[Shown]:
    """The stimuli as batches; those that do not go together (pictures of two sizes) are shown one by one.

    Raises ``BadInput`` if none can be used.
    """
    given, done = as_set(stimuli), 0
    entities, most = entities_of(given), most_tokens(network, max_tokens)
    for group in given.batches(batch_size):
        for part, batch in _prepared(network, group):
            done += len(part)
            names = tuple(entities[each.id] for each in part)
            yield Shown(_cut(network, batch, most), tuple(part), names, done, len(given))
    if not done:
        reason = f"; the first: {given.skipped[0].reason}" if given.skipped else ""
        raise BadInput(f"None of the {len(given)} stimuli of {given.name} can be used{reason}")


def _prepared(network: Network, group: Sequence[Stimulus]) -> list[tuple[Sequence[Stimulus], Batch]]:
    if len(group) > 1:
        try:
            return [(group, network.prepare(list(group)))]
        except BadInput:
            pass  # each by itself, below
    return [([each], network.prepare([each])) for each in group]


def _cut(network: Network, batch: Batch, most: int) -> Batch:
    """Only the first ``most`` tokens of each text."""
    if batch.mask is None or batch.mask.shape[1] <= most:
        return batch
    if not bool(batch.mask[:, 0].all()):  # padded on the left: what is cut there would be padding of short texts
        return _from_first(network, batch, most)
    inputs = {key: value[:, :most] if value.ndim == 2 else value for key, value in batch.inputs.items()}
    return dataclasses.replace(batch, inputs=inputs, mask=batch.mask[:, :most])


def _from_first(network: Network, batch: Batch, most: int) -> Batch:
    assert batch.mask is not None
    texts: list[Tensor] = [row[real][:most] for row, real in zip(batch.inputs["input_ids"], batch.mask)]
    lengths = torch.tensor([len(text) for text in texts])
    tokens = pad_sequence(texts, batch_first=True)
    mask = torch.arange(tokens.shape[1])[None] < lengths[:, None]
    return network.prepare({"input_ids": tokens, "attention_mask": mask.long()}, batch.ids)
