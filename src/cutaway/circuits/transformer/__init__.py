"""Circuits of a transformer from its weights: QK and OV forms, composition, attention scores and likenesses taken
apart.

What enters: a network whose family describes its anatomy. What leaves: factored forms (:class:`Quadratic`), tables of
pairs of parts (:class:`ScoreTable`, :class:`Similarity`), compositions with their nulls, directions read out in tokens.
What is promised: norms, grouped queries, biases and rotary positions are in the forms exactly, and what a table adds
up to is compared with the network's own number; no matrix of the stream's width squared is made for a pair of heads.
"""

from cutaway.circuits.transformer.composition import Composition, composition_score, compositions, haar_null
from cutaway.circuits.transformer.forms import head_names, ov_form, parse_head, qk_form
from cutaway.circuits.transformer.readout import Direction, ov_directions, qk_directions
from cutaway.circuits.transformer.rotation import rotations
from cutaway.circuits.transformer.scores import ScoreTable, frozen_form, parts_that_carry, score_table
from cutaway.circuits.transformer.similarity import Similarity, embedding_parts, similarity
from cutaway.circuits.transformer.stream import Stream, stream_parts

__all__ = [
    "Composition",
    "Direction",
    "ScoreTable",
    "Similarity",
    "Stream",
    "composition_score",
    "compositions",
    "embedding_parts",
    "frozen_form",
    "haar_null",
    "head_names",
    "ov_directions",
    "ov_form",
    "parse_head",
    "parts_that_carry",
    "qk_directions",
    "qk_form",
    "rotations",
    "score_table",
    "similarity",
    "stream_parts",
]
