"""What simplifies many circuits at once: recurring motifs, families of units under a symmetry.

What enters: kernels between sites, activations of both at the same positions, labels of units. What leaves: frozen
findings, each with a measurement against a null; from a network and a site, :class:`Families`. What is promised: p is
corrected over everything that was tried, random weights give about no findings, and a search that finds nothing says
how much was tried.
"""

from cutaway.structure.families import Compression, Families, Family, compression, find_families
from cutaway.structure.motifs import (
    ExciteInhibit,
    LabelledLayers,
    NotOr,
    PureThenApplied,
    Search,
    Superposition,
    UnionOverCases,
    excite_inhibit_pairs,
    not_ors,
    pure_then_applied,
    superpositions,
    unions_over_cases,
)

__all__ = [
    "Compression",
    "ExciteInhibit",
    "Families",
    "Family",
    "LabelledLayers",
    "NotOr",
    "PureThenApplied",
    "Search",
    "Superposition",
    "UnionOverCases",
    "compression",
    "excite_inhibit_pairs",
    "find_families",
    "not_ors",
    "pure_then_applied",
    "superpositions",
    "unions_over_cases",
]
