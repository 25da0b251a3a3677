"""Tokenizers of a few lines, for tests: ids are given in order of first appearance."""

import re


class Pattern:
    """The matches of a regular expression are the tokens."""

    def __init__(self, pattern: str) -> None:
        self.pattern = re.compile(pattern)
        self.known: dict[str, int] = {}

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        start = [0] if add_special_tokens else []
        return start + [self.known.setdefault(piece, len(self.known) + 1) for piece in self.pattern.findall(text)]


def whitespace() -> Pattern:
    """Whatever stands between white space is one token."""
    return Pattern(r"\S+")


def words_and_digits() -> Pattern:
    """Words with the space before them; each digit, sign and other white space by itself."""
    return Pattern(r" ?[^\W\d_]+|\d|_|\s|[^\w\s]")


def words_and_pairs_of_digits() -> Pattern:
    return Pattern(r" ?[^\W\d_]+|\d\d|\d|_|\s|[^\w\s]")


def syllables() -> Pattern:
    """Words in pieces of at most four letters: many answers take several tokens."""
    return Pattern(r" ?[^\W\d_]{1,4}|\d|_|\s|[^\w\s]")
