"""Other coordinates than neurons: dictionaries, transcoders, crosscoders, parts and components, learned or loaded.

What enters: activations of a site as rows (:mod:`.activations`). What leaves: a :class:`Basis`: codes, directions, and
where it was learned (:class:`Origin`). What is promised: a basis says which network it belongs to and refuses another.
"""

from cutaway.bases.activations.source import Source, TensorSource
from cutaway.bases.basis import Basis, Origin, SparseCodes, check_origin
from cutaway.bases.linear import Factors, Linear, neurons, nonnegative_parts, principal_components, random_directions
from cutaway.bases.rows import from_rows, real_rows, to_rows

__all__ = [
    "Basis",
    "Factors",
    "Linear",
    "Origin",
    "Source",
    "SparseCodes",
    "TensorSource",
    "check_origin",
    "from_rows",
    "neurons",
    "nonnegative_parts",
    "principal_components",
    "random_directions",
    "real_rows",
    "to_rows",
]
