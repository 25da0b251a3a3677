"""From a prompt and two words to what is traced: tokens, two outputs and a position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.errors import BadInput, NotTestable
from cutaway.features.examples import token_text
from cutaway.networks.folded import unembedding
from cutaway.networks.network import Batch, Network
from cutaway.stimuli.tasks import continuation


@dataclass(frozen=True, eq=False)
class Question:
    """Why output ``target`` and not ``against`` at one position of one prompt.

    Without ``against`` the mean of all outputs stands in its place; a network with a single output (a number) is asked
    why that number.
    """

    batch: Batch
    tokens: tuple[str, ...]
    target: int
    against: int | None
    names: tuple[str, str]
    position: int

    @property
    def last(self) -> bool:
        """True where the output is read at the last token."""
        return self.position == len(self.tokens) - 1

    def read(self, logits: Float[Tensor, "row out"]) -> Float[Tensor, " row"]:
        """The metric: the difference of the two outputs."""
        target = logits[:, self.target]
        if logits.shape[1] == 1:
            return target
        return target - (logits.mean(1) if self.against is None else logits[:, self.against])


def ask(
    network: Network,
    prompt: str | Int[Tensor, "1 pos"],
    target: str | int | None = None,
    against: str | int | None = None,
    *,
    position: int = -1,
) -> Question:
    """The question, checked: words must be one token each as they continue the prompt.

    A word is taken with a space in front where the prompt leaves one out, or else as it is written; ``<17>`` (or an
    integer) is an output by number. ``position`` counts from the end if negative. Raises ``BadInput`` with a sentence.
    """
    ids = encoded(network, prompt)
    length = ids.shape[1]
    place = position + length if position < 0 else position
    if not 0 <= place < length:
        raise BadInput(f"Position {position} was asked for; the prompt has {length} tokens.")
    width = _outputs(network)
    if target is None and width != 1:
        raise BadInput("No target was named; say which answer is to be explained, for example --target Paris.")
    text = prompt if isinstance(prompt, str) else ""
    chosen = 0 if target is None else _output(network, text, target, width)
    other = None if against is None else _output(network, text, against, width)
    if chosen == other:
        raise BadInput(f"Target and alternative are the same output ({target!r}); name two different ones.")
    names = _name(network, chosen), "the mean" if other is None else _name(network, other)
    batch = network.prepare({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ("prompt",))
    return Question(batch, tuple(token_text(network, int(each)) for each in ids[0]), chosen, other, names, place)


def encoded(network: Network, prompt: str | Int[Tensor, "1 pos"]) -> Int[Tensor, "1 pos"]:
    """Token ids with the tokenizer's special tokens in front and none behind (an end mark would be the last token)."""
    if isinstance(prompt, Tensor):
        if prompt.ndim != 2 or len(prompt) != 1 or not prompt.shape[1]:
            raise BadInput(f"Tokens of shape {tuple(prompt.shape)} were given; one prompt is [1 pos].")
        return prompt
    if network.tokenizer is None:
        raise BadInput(f"{network.name} has no tokenizer; give token ids [1 pos] in Python.")
    plain = list(network.tokenizer.encode(prompt, add_special_tokens=False))
    if not plain:
        raise BadInput("The prompt holds no token; give at least one word.")
    full = list(network.tokenizer.encode(prompt))
    starts = (start for start in range(len(full) - len(plain) + 1) if full[start : start + len(plain)] == plain)
    start = next(starts, None)
    return torch.tensor([full if start is None else full[: start + len(plain)]])


def _outputs(network: Network) -> int:
    """How many outputs there are."""
    return int(unembedding(network)[0].shape[0])


def _output(network: Network, prompt: str, word: str | int, width: int) -> int:
    number = _number(word)
    if number is not None and not (isinstance(word, str) and word in _answers(network)):
        if not 0 <= number < width:
            raise BadInput(f"Output {number} was asked for; {network.name} has outputs 0 to {width - 1}.")
        return number
    assert isinstance(word, str)
    if _answers(network):
        return _answer(network, word)
    if network.tokenizer is None:
        raise BadInput(f"{network.name} has no tokenizer; give outputs as numbers, for example <17>.")
    return _token(network, prompt, word)


def _number(word: str | int) -> int | None:
    if isinstance(word, int):
        return word
    inside = word[1:-1] if word.startswith("<") and word.endswith(">") else ""
    return int(inside) if inside.isdigit() else None


def _answers(network: Network) -> tuple[str, ...]:
    """The named answers of a compiled network; empty for a language model, whose answers are tokens."""
    output: Any = getattr(getattr(network.module, "spec", None), "output", None)
    return () if network.task == "causal-lm" or output is None else tuple(str(value) for value in output.values)


def _answer(network: Network, word: str) -> int:
    answers = _answers(network)
    if word not in answers:
        raise BadInput(f"The answer {word!r} was named; {network.name} answers with one of {', '.join(answers)}.")
    return answers.index(word)


def _token(network: Network, prompt: str, word: str) -> int:
    spaced = f" {word}" if word[:1].strip() and prompt[-1:].strip() else word
    for written in dict.fromkeys((spaced, word)):
        token = continuation(network.tokenizer, prompt, written)
        if token is not None:
            return token
    pieces = [token_text(network, int(each)) for each in network.tokenizer.encode(spaced, add_special_tokens=False)]
    if not pieces:
        raise BadInput("An empty word was named as an answer; name one token.")
    if len(pieces) == 1:
        raise BadInput(
            f"The answer {word!r} does not continue this prompt as a token of its own (it merges with its end); "
            "end the prompt at a word, or name a token by its number, for example <17>."
        )
    raise BadInput(
        f"The answer {word!r} is {len(pieces)} tokens after this prompt ({' + '.join(map(repr, pieces))}); name a word "
        "of one token, or a token by its number, for example <17>."
    )


def _name(network: Network, output: int) -> str:
    answers = _answers(network)
    if answers:
        return answers[output]
    return token_text(network, output) if network.task == "causal-lm" else f"<{output}>"


def check_causal_lm(network: Network) -> None:
    """Raises ``NotTestable`` for a network whose outputs are no logits of next tokens or answers."""
    if network.task not in ("causal-lm", "compiled"):
        raise NotTestable(
            f"Why one answer and not another was asked of {network.name}; it predicts no next token (its task is "
            f"{network.task})."
        )
