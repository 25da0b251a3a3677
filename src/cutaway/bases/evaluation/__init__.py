"""Evaluation of bases: every score beside what chance, components, neurons and an untrained twin would get.

What enters: a network, a basis of one of its sites (or several seeds of one), stimuli that were not trained on; or
features made up so that the truth is known. What leaves: :class:`Evaluation`, :class:`Stability`, :class:`Recovery`,
frozen values that become JSON. What is promised: rows are seen in streams and summed in float64, the mean predictor's
explained variance is exactly 0, intervals resample documents and pictures (never tokens), the same seed gives the same
numbers.
"""

from cutaway.bases.evaluation.evaluate import TWIN, Evaluation, Scores, evaluate
from cutaway.bases.evaluation.probing import Concept, Probing, token_concepts
from cutaway.bases.evaluation.reconstruction import DENSE, Reconstruction
from cutaway.bases.evaluation.recovery import Recovered
from cutaway.bases.evaluation.stability import Stability, stability
from cutaway.bases.evaluation.synthetic import Recovery, Sampled, Truth, recovery, synthetic_features

__all__ = [
    "DENSE",
    "TWIN",
    "Concept",
    "Evaluation",
    "Probing",
    "Reconstruction",
    "Recovered",
    "Recovery",
    "Sampled",
    "Scores",
    "Stability",
    "Truth",
    "evaluate",
    "recovery",
    "stability",
    "synthetic_features",
    "token_concepts",
]
