"""From a task's texts to pairs of token ids, and whether the network can do the task at all.

:func:`prepared` tokenizes; :func:`task_accuracy` says how often the right answer beats the wrong one, and
:func:`check_able` refuses a network for which that is near chance: a circuit of what a network cannot do is noise.
:func:`random_pairs` are pairs of random words for networks that answer at every position (compiled programs).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.edges.pairs import Metric, Pairs
from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import Measurement, measure_proportion
from cutaway.networks.network import Batch, Network
from cutaway.stimuli.tasks import TaskSet, continuation, unfit

LEAST_PAIRS, LEAST_ACCURACY = 4, 0.6


def prepared(network: Network, tasks: TaskSet) -> Pairs:
    """The task's pairs as token ids, padded on the right and masked, in order.

    Raises ``NotTestable`` for a network that predicts no next token, ``BadInput`` for fewer than 4 pairs or for a pair
    whose prompts differ in length or whose answers are not one token each.
    """
    if network.task != "causal-lm" or network.tokenizer is None:
        raise NotTestable(
            f"The task {tasks.name!r} asks for a next token; {network.name} is no language model with a tokenizer "
            f"(its task is {network.task})."
        )
    if len(tasks) < LEAST_PAIRS:
        raise BadInput(f"The task {tasks.name!r} has {len(tasks)} pairs that can be used; give at least {LEAST_PAIRS}.")
    for number, pair in enumerate(tasks.pairs):
        reason = unfit(pair, network.tokenizer)
        if reason:
            raise BadInput(
                f"Pair {number} of {tasks.name!r} ({pair.clean[:60]!r}) cannot be used: {reason}; change it."
            )
    target, against = (
        [continuation(network.tokenizer, pair.clean, getattr(pair, name)) for pair in tasks.pairs]
        for name in ("target", "against")
    )
    ids = unique_ids(tasks.ids)
    clean = _batch(network, [pair.clean for pair in tasks.pairs], ids)
    corrupt = _batch(network, [pair.corrupt for pair in tasks.pairs], ids)
    return Pairs(clean, corrupt, _column(target, network), _column(against, network))


def _column(ids: Sequence[int | None], network: Network) -> Tensor:
    return torch.tensor([int(each or 0) for each in ids], device=network.device)


def unique_ids(ids: Sequence[str]) -> tuple[str, ...]:
    """The ids with a number behind those that repeat."""
    seen: dict[str, int] = {}
    made = []
    for name in ids:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(made)


def _batch(network: Network, texts: Sequence[str], ids: tuple[str, ...]) -> Batch:
    """Token ids with the tokenizer's special tokens in front, none behind (an end mark would be the last token)."""
    rows = [_encoded(network.tokenizer, text) for text in texts]
    length = max(map(len, rows))
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return network.prepare({"input_ids": tokens, "attention_mask": mask}, ids)


def _encoded(tokenizer: Any, text: str) -> list[int]:
    encode = tokenizer.encode
    plain, full = list(encode(text, add_special_tokens=False)), list(encode(text))
    for extra in range(len(full) - len(plain) + 1):
        if full[extra : extra + len(plain)] == plain:
            return full[: extra + len(plain)]
    return full


def random_pairs(network: Network, count: int, *, length: int | None = None, seed: int = 0) -> Pairs:
    """``count`` random inputs of a compiled network with the BOS token in front; the corrupted one is another such.

    Every position answers. ``length`` counts words (the greatest by default).
    """
    words = getattr(network.tokenizer, "plain", None)
    if not words:
        raise NotTestable(
            f"Random words were asked for; {network.name} has no closed vocabulary of words, so name a task or a file."
        )
    vocabulary = network.tokenizer
    size = int(vocabulary.max_len) if length is None else length
    if not 1 <= size <= int(vocabulary.max_len) or count < 1:
        raise BadInput(
            f"{count} inputs of {size} words were asked for; {network.name} takes 1 to {vocabulary.max_len}."
        )
    generator = torch.Generator().manual_seed(seed)
    known = torch.tensor([vocabulary.ids[word] for word in words])
    ids = tuple(f"random{seed}-{row}" for row in range(count))

    def batch() -> Batch:
        body = known[torch.randint(len(known), (count, size), generator=generator)]
        front = torch.full((count, 1), int(vocabulary.bos_token_id))
        return network.prepare({"input_ids": torch.cat([front, body], 1)}, ids)

    return Pairs(batch(), batch())


def task_accuracy(network: Network, pairs: Pairs) -> Measurement:
    """The share of clean prompts after which the target's logit exceeds the alternative's; chance is one half."""
    if pairs.target is None or pairs.against is None:
        raise BadInput("Accuracy needs a target and an alternative for every pair.")
    logits = network.run(pairs.clean, logits="last").logits.float()[:, -1]
    rows = torch.arange(len(pairs), device=logits.device)
    right = logits[rows, pairs.target] > logits[rows, pairs.against]
    return measure_proportion(int(right.sum()), len(pairs), alternative="greater")


def check_able(network: Network, pairs: Pairs, *, least: float | int = LEAST_ACCURACY) -> Measurement:
    """The accuracy; raises ``NotTestable``, naming it, where it is below ``least``."""
    accuracy = task_accuracy(network, pairs)
    if accuracy.value < least:
        raise NotTestable(
            f"{network.name} cannot do this task: the right answer beats the wrong one on {accuracy.value:.0%} of "
            f"{len(pairs)} pairs (95 % interval {accuracy.low:.0%} to {accuracy.high:.0%}); {least:.0%} is needed. "
            "Choose another task or network."
        )
    return accuracy


def check_finite(network: Network, pairs: Pairs, metric: Metric) -> None:
    """Raises ``BadInput`` for weights (the first parameter at fault is named) or outputs that are not numbers."""
    if "finite" not in network._cache:
        bad = next((name for name, p in network.module.named_parameters() if not bool(p.isfinite().all())), None)
        if bad is not None:
            raise BadInput(
                f"The parameter {bad} of {network.name} holds values that are NaN or infinite; mend the checkpoint."
            )
        network._cache["finite"] = True
    if not bool(network.run(pairs.clean, logits=metric.logits).logits.isfinite().all()):
        raise BadInput(
            f"The outputs of {network.name} are not numbers though its weights are: activations overflow; load it in "
            "float32."
        )
