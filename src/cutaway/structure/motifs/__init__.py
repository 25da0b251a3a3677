"""Recurring circuit shapes: union over cases, NOT-OR, excite/inhibit pairs, pure-then-applied, superposition.

What enters: a kernel between two sites [target source y x] (``circuits.weights.kernel``), activations of both at the
same positions of the same stimuli, labels where a motif needs them. What leaves: a :class:`Search` of frozen findings,
each with a test on the weights and a confirmation on measured activations, both against a null. What is promised: p is
corrected over everything that was tried; random kernels give about none; "nothing found" says how much was tried.
"""

from cutaway.structure.motifs.common import Search
from cutaway.structure.motifs.labelled import (
    LabelledLayers,
    PureThenApplied,
    Superposition,
    pure_then_applied,
    superpositions,
)
from cutaway.structure.motifs.signs import ExciteInhibit, NotOr, excite_inhibit_pairs, not_ors
from cutaway.structure.motifs.union import UnionOverCases, unions_over_cases

__all__ = [
    "ExciteInhibit",
    "LabelledLayers",
    "NotOr",
    "PureThenApplied",
    "Search",
    "Superposition",
    "UnionOverCases",
    "excite_inhibit_pairs",
    "not_ors",
    "pure_then_applied",
    "superpositions",
    "unions_over_cases",
]
