"""What a compiled transformer is told about itself: sizes, vocabulary, and how to read its output."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cutaway.errors import BadInput, UnknownName

CATEGORICAL, NUMERICAL = "categorical", "numerical"
TASKS = ("compiled", "causal-lm")

#: What a program answers at one position: a token, a truth value or a number; None where it leaves it open.
Value = str | bool | int | float | None

#: An input: a text with spaces between its tokens, or the tokens (numbers count as their digits).
Words = str | Sequence[str | int | float]


@dataclass(frozen=True)
class Output:
    """How logits become answers.

    ``categorical``: the largest logit names its place in ``values``. ``numerical``: the only logit is the number
    itself, meant to within ``tolerance``.
    """

    kind: str
    values: tuple[Value, ...] = ()
    tolerance: float = 0.005

    def decode(self, logits: Tensor) -> list[Value]:
        """One answer for each row of ``logits`` [pos out]."""
        if self.kind == NUMERICAL:
            return [float(number) for number in logits[:, 0]]
        return [self.values[place] for place in logits.argmax(-1).tolist()]

    def agrees(self, found: Value, expected: Value) -> bool:
        """True if an answer is the expected one (numbers to within ``tolerance``) or none is specified."""
        if expected is None:
            return True
        if self.kind == NUMERICAL:
            return found is not None and abs(float(found) - float(expected)) <= self.tolerance
        return found == expected


@dataclass(frozen=True)
class Vocabulary:
    """Words as token ids, with BOS in front: what a tokenizer is to a language model.

    A text is its tokens with spaces between them. It is called like a transformers tokenizer. Shorter texts are
    padded on the right and masked out of the attention. An unknown word or a text that is too long raises.
    """

    words: tuple[str, ...]
    bos_token_id: int
    max_len: int  # words in a text, BOS not counted
    pad_id: int | None = None
    padding_side = "right"
    eos_token_id = None

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each word, special ones included."""
        return {word: place for place, word in enumerate(self.words)}

    @property
    def pad_token_id(self) -> int:
        """What fills the end of shorter texts; it is masked out."""
        return self.bos_token_id if self.pad_id is None else self.pad_id

    @property
    def all_special_ids(self) -> list[int]:
        """BOS and padding."""
        return sorted({self.bos_token_id, self.pad_token_id})

    @cached_property
    def plain(self) -> tuple[str, ...]:
        """The words that a text may hold: all but the special ones."""
        return tuple(word for place, word in enumerate(self.words) if place not in self.all_special_ids)

    def __len__(self) -> int:
        return len(self.words)

    def get_vocab(self) -> dict[str, int]:
        """Word to id."""
        return dict(self.ids)

    def encode(self, text: Words, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text, or of a sequence of words, with BOS in front."""
        words = text.split() if isinstance(text, str) else [str(word) for word in text]
        unknown = next((word for word in words if word not in self.plain), None)
        if unknown is not None:
            raise UnknownName("token", unknown, self.plain, f"The vocabulary: {' '.join(self.plain)}")
        if len(words) > self.max_len:
            raise BadInput(f"A text of {len(words)} tokens was given; this network takes at most {self.max_len}.")
        return [*([self.bos_token_id] if add_special_tokens else []), *(self.ids[word] for word in words)]

    def decode(self, ids: int | Sequence[int] | Tensor, skip_special_tokens: bool = False) -> str:
        """The text of token ids."""
        return " ".join(self.convert_ids_to_tokens(ids, skip_special_tokens))

    def convert_ids_to_tokens(self, ids: int | Sequence[int] | Tensor, skip_special_tokens: bool = False) -> list[str]:
        """The words of token ids."""
        listed = [ids] if isinstance(ids, int) else torch.as_tensor(ids).reshape(-1).tolist()
        return [self.words[each] for each in listed if not (skip_special_tokens and each in self.all_special_ids)]

    def __call__(
        self,
        texts: str | Sequence[str],
        return_tensors: str | None = None,
        padding: bool = True,
        truncation: bool = False,
        add_special_tokens: bool = True,
    ) -> dict[str, Any]:
        """``input_ids`` and ``attention_mask`` of texts, as lists or (``return_tensors="pt"``) [batch pos].

        A text without a word raises; a text that is too long is refused, not cut.
        """
        rows = [self.encode(text, add_special_tokens) for text in ([texts] if isinstance(texts, str) else texts)]
        if any(len(row) <= int(add_special_tokens) for row in rows):
            raise BadInput("A text without a single token was given; give at least one word.")
        length = max((len(row) for row in rows), default=0)
        masks = [[1] * len(row) for row in rows]
        if padding:
            rows, masks = (
                [_filled(row, length, self.pad_token_id) for row in rows],
                [_filled(m, length, 0) for m in masks],
            )
        if return_tensors is None:
            one = isinstance(texts, str)
            return {"input_ids": rows[0] if one else rows, "attention_mask": masks[0] if one else masks}
        return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(masks)}


def _filled(row: list[int], length: int, filler: int) -> list[int]:
    return [*row, *[filler] * (length - len(row))]


@dataclass(frozen=True)
class Spec:
    """Sizes and meaning of a :class:`~cutaway.networks.compiled.module.CompiledTransformer`.

    ``mlp_hidden`` 0 means attention only. ``labels`` name the residual dimensions (``tokens:a``, ``one``, ...) where
    they mean something. ``task`` is ``compiled`` (an answer at every position) or ``causal-lm`` (the outputs are the
    vocabulary and the last position answers).
    """

    name: str
    vocab: tuple[str, ...]
    bos_id: int
    max_len: int
    d_model: int
    num_layers: int
    num_heads: int
    key_size: int
    mlp_hidden: int
    causal: bool
    output: Output
    layer_norm: bool = False
    pad_id: int | None = None
    labels: tuple[str, ...] = ()
    computes: str = ""
    task: str = "compiled"

    @property
    def vocab_size(self) -> int:
        """Number of token ids, special ones included."""
        return len(self.vocab)

    @property
    def num_outputs(self) -> int:
        """Number of logits at each position."""
        return 1 if self.output.kind == NUMERICAL else len(self.output.values)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer."""
        return Vocabulary(self.vocab, self.bos_id, self.max_len, self.pad_id)
