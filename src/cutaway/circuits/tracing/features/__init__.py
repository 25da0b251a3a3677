"""Features of bases as parts of an attribution graph: which latents are active where, what they read and write.

What enters: bases of a network (SAEs at ``layers.N.attn_out``, ``mlp_out`` or ``resid``, transcoders from ``mlp_in`` to
``mlp_out``) and one pass. What leaves: a :class:`Coded` for each basis: active latents at positions, their baseline,
slopes and readings, and what the basis leaves out (its error), which a graph keeps as a node of its own. What is
promised: active latents, bias, by-pass and error sum to what lies at the site; only active latents are kept, and no
matrix of more than ``codes.MOST_NUMBERS`` codes is ever made.

    places   which site a basis stands at, and refusals
    codes    encoding and its gradient, a few rows at a time
    coded    a pass in the coordinates of a basis
    groups   features and groups of them set to something else, the rest of the network really run
"""

from cutaway.circuits.tracing.features.coded import Coded, coded_places
from cutaway.circuits.tracing.features.places import Place, places_of

__all__ = ["Coded", "Place", "coded_places", "places_of"]
