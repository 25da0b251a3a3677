"""Reading a language model: log-probabilities of words after prompts, and activations at two tokens of each.

Every forward pass of this rule goes through :func:`read`, which sorts prompts by length, so that little is spent
on padding, and runs each batch only as far as it must.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.networks.edits import Edit, Replace
from cutaway.networks.network import Batch, Network

BATCH_TOKENS = 2048
Progress = Callable[[int], None]  # told the number of prompts of each batch that is done


@dataclass(frozen=True, eq=False)
class Prompts:
    """Tokenized prompts; ``marker`` is the position of the last token of each prompt's marked phrase."""

    batch: Batch
    lengths: Int[np.ndarray, " prompt"]
    marker: Int[np.ndarray, " prompt"]

    def __len__(self) -> int:
        return len(self.lengths)

    def chunks(self, tokens: int = BATCH_TOKENS) -> Iterator[tuple[Int[np.ndarray, " row"], Batch]]:
        """Rows and batches, the longest prompts first, each of at most about ``tokens`` tokens."""
        order = np.argsort(-self.lengths, kind="stable")
        start = 0
        while start < len(order):
            longest = int(self.lengths[order[start]])
            rows = order[start : start + max(1, tokens // longest)]
            yield rows, self.take(rows)
            start += len(rows)

    def select(self, rows: Sequence[int]) -> "Prompts":
        """These prompts, in this order."""
        index = np.asarray(rows)
        return Prompts(self.take(index), self.lengths[index], self.marker[index])

    def take(self, rows: Int[np.ndarray, " row"]) -> Batch:
        """These prompts as a batch without needless padding."""
        index, longest = torch.from_numpy(rows), int(self.lengths[rows].max())
        device = next(iter(self.batch.inputs.values())).device
        inputs = {key: value[index.to(device), :longest] for key, value in self.batch.inputs.items()}
        mask = None if self.batch.mask is None else self.batch.mask[index.to(device), :longest]
        return Batch(inputs, tuple(self.batch.ids[row] for row in rows), mask)


def tokenized(network: Network, texts: Sequence[str]) -> Prompts:
    """Prompts without marked phrases: ``marker`` is the last token."""
    batch = network.prepare(list(texts))
    assert batch.mask is not None
    lengths = batch.mask.sum(1).cpu().numpy().astype(int)
    return Prompts(batch, lengths, lengths - 1)


def tokenized_pairs(network: Network, texts: Sequence[str]) -> Prompts:
    """Prompts in which rows 0 and 1, 2 and 3, ... are minimal pairs that end in the same text.

    The marked phrase ends where the common ending begins; that needs no offsets from the tokenizer. A pair that
    has no common ending (another tokenization up to the last token) is marked at its last token.
    """
    prompts = tokenized(network, texts)
    tokens = prompts.batch.inputs["input_ids"].cpu().numpy()
    rows = [tokens[row, :length] for row, length in enumerate(prompts.lengths)]
    common = np.repeat([_common_ending(a, b) for a, b in zip(rows[::2], rows[1::2], strict=True)], 2)
    marker = np.minimum(np.maximum(prompts.lengths - common - 1, 0), prompts.lengths - 1)
    return Prompts(prompts.batch, prompts.lengths, marker)


def _common_ending(a: Int[np.ndarray, " pos_a"], b: Int[np.ndarray, " pos_b"]) -> int:
    shorter = min(len(a), len(b))
    differs = np.flatnonzero(a[len(a) - shorter :] != b[len(b) - shorter :])
    return shorter if len(differs) == 0 else shorter - 1 - int(differs[-1])


@dataclass(frozen=True, eq=False)
class Reading:
    """What :func:`read` saw: rows are prompts in their given order."""

    log_probs: Float[np.ndarray, "prompt word"] | None
    last: dict[str, Float[Tensor, "prompt unit"]] = field(default_factory=dict)  # by site, at the last token
    marker: dict[str, Float[Tensor, "prompt unit"]] = field(default_factory=dict)  # at the marker's last token


def read(
    network: Network,
    prompts: Prompts,
    *,
    words: Sequence[int] = (),
    sites: Sequence[str] = (),
    edit: Callable[[Int[np.ndarray, " row"]], Sequence[Edit]] | None = None,
    progress: Progress | None = None,
) -> Reading:
    """Log-probabilities (nats) of ``words`` as next tokens, and activations of ``sites``, for every prompt.

    ``edit`` gives the edits for a batch from the rows that are in it. Without ``words`` each pass stops at the last
    site.
    """
    log_probs = np.zeros((len(prompts), len(words)))
    seen: dict[str, dict[str, list[Tensor]]] = {"last": {s: [] for s in sites}, "marker": {s: [] for s in sites}}
    order: list[np.ndarray] = []
    for rows, batch in prompts.chunks():
        edits = edit(rows) if edit is not None else ()
        run = network.run(batch, capture=sites, edits=edits, stop_at=not words, logits="last" if words else "all")
        if words:
            logits = run.logits[:, -1].float()
            log_probs[rows] = logits.log_softmax(-1)[:, list(words)].cpu().numpy()
        for site in sites:
            for kind, position in (("last", prompts.lengths - 1), ("marker", prompts.marker)):
                seen[kind][site].append(_at(run[site], position[rows]))
        order.append(rows)
        if progress is not None:
            progress(len(rows))
    back = torch.from_numpy(np.argsort(np.concatenate(order)))
    restored = {kind: {s: torch.cat(parts)[back] for s, parts in by.items()} for kind, by in seen.items()}
    return Reading(log_probs if words else None, restored["last"], restored["marker"])


def _at(value: Float[Tensor, "batch pos unit"], position: Int[np.ndarray, " batch"]) -> Float[Tensor, "batch unit"]:
    index = torch.from_numpy(position).to(value.device)
    return value[torch.arange(len(value), device=value.device), index].float().cpu()


def added(
    site: str,
    prompts: Prompts,
    rows: Int[np.ndarray, " row"],
    at_marker: Float[Tensor, "row unit"],
    after: Float[Tensor, "row unit"],
) -> Replace:
    """An edit that adds a vector at the marker's last token and another at every token after it, by row."""
    longest = int(prompts.lengths[rows].max())
    position = np.arange(longest)[None]
    marker = prompts.marker[rows][:, None]
    here, later = torch.from_numpy(position == marker), torch.from_numpy(position > marker)
    shift = here[..., None] * at_marker[:, None] + later[..., None] * after[:, None]
    return Replace(site, lambda value: value + shift.to(value))
