"""Contrast pairs: two texts that differ in one marked stretch, and which of their tokens correspond."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cutaway.errors import BadInput


class Span(NamedTuple):
    """A stretch of characters, ``start`` included, ``end`` excluded."""

    start: int
    end: int


@dataclass(frozen=True)
class ContrastPair:
    """Two texts that are equal outside one span each.

    ``label`` says what the pair varies ("religion/mosque", for example). Construction checks that the texts
    before the spans agree and the texts after them agree; otherwise an observed difference would have two
    causes.
    """

    base: str
    counterfactual: str
    base_span: Span
    counterfactual_span: Span
    label: str = ""

    def __post_init__(self) -> None:
        other_prefix = self.counterfactual[: self.counterfactual_span.start]
        other_suffix = self.counterfactual[self.counterfactual_span.end :]
        if (self.prefix, self.suffix) != (other_prefix, other_suffix):
            raise BadInput(
                f"{self.base!r} and {self.counterfactual!r} differ outside their marked spans; "
                "mark the whole difference."
            )

    @property
    def prefix(self) -> str:
        """The common text before the difference."""
        return self.base[: self.base_span.start]

    @property
    def suffix(self) -> str:
        """The common text after the difference."""
        return self.base[self.base_span.end :]

    def reversed(self) -> "ContrastPair":
        """The same pair with base and counterfactual exchanged."""
        return ContrastPair(self.counterfactual, self.base, self.counterfactual_span, self.base_span, label=self.label)


def aligned_positions(
    pair: ContrastPair,
    base_offsets: Sequence[tuple[int, int]],
    counterfactual_offsets: Sequence[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Token positions of base and counterfactual that stand for the same text outside the marked span.

    The offsets are those of a fast tokenizer: (start, end) characters of each token, (0, 0) for special
    tokens, which are left out. A token that reaches into the span has no partner. The last pair is the final
    token of both texts, also where the spans have different numbers of tokens.
    """
    shift = len(pair.counterfactual) - len(pair.base)
    partners = {offset: i for i, offset in enumerate(counterfactual_offsets) if offset != (0, 0)}
    aligned = []
    for i, (start, end) in enumerate(base_offsets):
        if start == end:
            continue
        after = start >= pair.base_span.end
        partner = partners.get((start + shift, end + shift) if after else (start, end))
        if (after or end <= pair.base_span.start) and partner is not None:
            aligned.append((i, partner))
    return aligned


def token_span(span: Span, offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """First and last token position (both included) that overlap a span of characters."""
    inside = [i for i, (start, end) in enumerate(offsets) if start < span.end and end > span.start]
    if not inside:
        raise BadInput(f"No token overlaps the characters {span.start} to {span.end}; pass this text's own offsets.")
    return inside[0], inside[-1]
