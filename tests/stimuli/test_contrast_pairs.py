"""Contrast pairs and the alignment of their tokens, worked out by hand."""

import pytest

from cutaway.errors import BadInput
from cutaway.stimuli import ContrastPair, Span, aligned_positions, token_span

PAIR = ContrastPair("the old man sat", "the elderly man sat", Span(4, 7), Span(4, 11), label="age")


def test_a_pair_knows_what_its_texts_share():
    assert (PAIR.prefix, PAIR.suffix) == ("the ", " man sat")
    back = PAIR.reversed()
    assert (back.base, back.counterfactual_span, back.label) == ("the elderly man sat", Span(4, 7), "age")


def test_a_second_difference_outside_the_spans_is_refused():
    with pytest.raises(BadInput, match="differ outside their marked spans"):
        ContrastPair("the old man sat", "the young man ran", Span(4, 7), Span(4, 9))


def test_tokens_outside_the_marker_are_aligned_by_their_text():
    base = [(0, 0), (0, 3), (3, 7), (7, 11), (11, 15)]  # [start] the| old| man| sat
    other = [(0, 0), (0, 3), (3, 7), (7, 11), (11, 15), (15, 19)]  # [start] the| eld|erly| man| sat
    assert aligned_positions(PAIR, base, other) == [(1, 1), (3, 4), (4, 5)]
    assert aligned_positions(PAIR.reversed(), other, base) == [(1, 1), (4, 3), (5, 4)]


def test_a_token_that_reaches_into_the_marker_has_no_partner():
    # Here one token joins the marker to the next word: only the final token corresponds.
    assert aligned_positions(PAIR, [(0, 3), (3, 11), (11, 15)], [(0, 4), (4, 15), (15, 19)]) == [(2, 2)]


def test_token_span_covers_the_marker():
    offsets = [(0, 0), (0, 3), (3, 7), (7, 11), (11, 15), (15, 19)]
    assert token_span(PAIR.counterfactual_span, offsets) == (2, 3)
    with pytest.raises(BadInput, match="No token overlaps"):
        token_span(Span(30, 34), offsets)
