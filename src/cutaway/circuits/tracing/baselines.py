"""What a source is held against, and says when it is cut: its mean over text, its value on another prompt, or nothing.

Edges carry what a source writes beyond its baseline: what every prompt has in common explains no difference between two
answers, however large it is. Means are taken position by position, over prompts of the same length: the first token is
often attended to by everything and looks like no other, so a mean over positions would put something there that never
occurs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.circuits.edges.wiring import mlp_stream_site
from cutaway.circuits.tracing.frozen import Body, Pass, Written, wide, written, written_sites
from cutaway.circuits.tracing.question import Question, encoded
from cutaway.errors import BadInput
from cutaway.networks.network import Batch

TEXTS, TOGETHER = 32, 8


@dataclass(frozen=True, eq=False)
class Baseline:
    """What every source writes instead, the stream that MLPs would then read, and in words where that comes from.

    ``zero``: everything writes nothing; edges are then whole contributions, as in published attribution graphs.
    ``coded``: for each prompt that the baseline is a mean of, what lay at the sites that bases read and write.
    """

    written: Written
    mids: tuple[Tensor | None, ...]
    words: str
    zero: bool = False
    coded: tuple[dict[str, Tensor], ...] = ()


def of_prompt(body: Body, question: Question, corrupt: str | Tensor) -> Baseline:
    """The values on another prompt, which must have as many tokens."""
    ids = encoded(body.network, corrupt)
    if ids.shape[1] != len(question.tokens):
        raise BadInput(
            f"The prompt has {len(question.tokens)} tokens and the corrupted one {ids.shape[1]}; values can only be "
            "exchanged position by position, so give one of equal length."
        )
    batch = body.network.prepare({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ("corrupt",))
    words = repr(corrupt) if isinstance(corrupt, str) else "another prompt"
    (kept,) = _recorded(body, batch)
    return Baseline(kept[0], kept[1], f"its value on {words}", coded=(kept[2],))


def of_nothing(seen: Pass) -> Baseline:
    """Zero for every source."""
    own = seen.written
    zeros = Written(
        tuple(torch.zeros_like(each) for each in own.embeds),
        tuple(torch.zeros_like(each) for each in own.heads),
        tuple(None if each is None else torch.zeros_like(each) for each in own.hidden),
    )
    return Baseline(zeros, tuple(None for _ in own.hidden), "zero", zero=True)


def of_text(body: Body, question: Question, *, count: int = TEXTS, seed: int = 0) -> Baseline:
    """The mean over the beginnings of ``count`` built-in texts of the same length.

    Where the built-in text cannot be tokenized (compiled programs, networks without a tokenizer): over random tokens.
    """
    ids, words = _texts(body, question, count, seed)
    kept: list[_Kept] = []
    for rows in ids.split(TOGETHER):
        names = tuple(f"text{row}" for row in range(len(rows)))
        batch = body.network.prepare({"input_ids": rows, "attention_mask": torch.ones_like(rows)}, names)
        kept += _recorded(body, batch)
    sources, mids = _mean(kept)
    coded = tuple(each[2] for each in kept)
    return Baseline(sources, mids, f"its mean at the same position over {words}", coded=coded)


_Kept = tuple[Written, tuple[Tensor | None, ...], dict[str, Tensor]]


def _recorded(body: Body, batch: Batch) -> list[_Kept]:
    sites = {layer.index: mlp_stream_site(layer.index) for layer in body.wired.parts.layers if layer.down is not None}
    with torch.no_grad():
        asked = [*written_sites(body), *sites.values(), *body.coded_sites]
        found = body.wired.network.run(batch, capture=asked, stop_at=True).captured
    return [
        (
            written(body, found, row),
            tuple(wide(found[sites[layer]][row]) if layer in sites else None for layer in range(body.depth)),
            {site: wide(found[site][row]) for site in body.coded_sites},
        )
        for row in range(len(batch))
    ]


def _mean(kept: list[_Kept]) -> tuple[Written, tuple[Tensor | None, ...]]:
    def over(lists: Iterable[Sequence[Tensor | None]]) -> tuple[Tensor | None, ...]:
        # One list for each prompt, one entry for each layer; all prompts have a token at every position.
        return tuple(None if layer[0] is None else torch.stack(list(layer)).mean(0) for layer in zip(*lists))

    sources = [each[0] for each in kept]
    embeds, heads = over([each.embeds for each in sources]), over([each.heads for each in sources])
    means = Written(embeds, heads, over([each.hidden for each in sources]))  # type: ignore[arg-type]
    return means, over([each[1] for each in kept])


def _texts(body: Body, question: Question, count: int, seed: int) -> tuple[Tensor, str]:
    network, length = body.network, len(question.tokens)
    plain = getattr(network.tokenizer, "plain", None)
    if network.tokenizer is None or plain:
        return _random(body, question, count, seed), f"{count} prompts of random tokens"
    from cutaway.stimuli import builtin_text

    rows = []
    found = builtin_text()
    for number in torch.randperm(len(found), generator=torch.Generator().manual_seed(seed)).tolist():
        ids = encoded(network, str(found[number].load()))[:, :length]
        rows += [ids] if ids.shape[1] == length else []
        if len(rows) == count:
            break
    if len(rows) < 2:
        raise BadInput(
            f"The built-in texts are shorter than this prompt of {length} tokens; give a corrupted prompt (--corrupt) "
            "of the same length."
        )
    return torch.cat(rows), f"{len(rows)} built-in texts"


def _random(body: Body, question: Question, count: int, seed: int) -> Tensor:
    """Random tokens; special ones of the prompt stay where they are."""
    tokenizer = body.network.tokenizer
    own = question.batch.inputs["input_ids"].cpu()
    size = int(getattr(getattr(body.network.module, "config", None), "vocab_size", int(own.max()) + 1))
    special = set() if tokenizer is None else set(tokenizer.all_special_ids)
    known = torch.tensor([token for token in range(size) if token not in special])
    drawn = known[torch.randint(len(known), (count, own.shape[1]), generator=torch.Generator().manual_seed(seed))]
    kept = torch.tensor([[int(token) in special for token in own[0]]])
    return torch.where(kept, own, drawn)
