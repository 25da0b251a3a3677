"""Faithfulness: is this circuit what the network does, how small can it be, and what would any circuit do?

What enters: a :class:`~cutaway.circuits.discovery.Setup` and a circuit or ranking from
:mod:`cutaway.circuits.discovery`. What leaves: measurements, each with its interval and, where it is a claim, its null
of random circuits; curves over size; tests. What is promised: a circuit is held against pairs that it was not found on
where there are such; equivalence is the claim and not the null; p-values have the +1; the same seed gives the same
numbers.

    curve        f over size, CPR, CMD, k90; the smallest circuit that reaches 0.9
    shares       a circuit as a share of edges, parameters and compute
    null         random connected circuits
    hypothesis   equivalence, independence, minimality, completeness
    stability    redrawn pairs, other wordings
    multiverse   metric x ablation x wording x size
    study        all of it for one circuit
    picture      the curve with its band, and the circuit
"""

from cutaway.circuits.faithfulness.curve import (
    Curve,
    Smallest,
    curve,
    edge_count,
    faithfulness_of,
    resampled,
    smallest,
    without_idle,
)
from cutaway.circuits.faithfulness.hypothesis import (
    Completeness,
    Equivalence,
    Minimality,
    completeness,
    equivalence,
    independence,
    minimality,
)
from cutaway.circuits.faithfulness.multiverse import faithfulness_multiverse
from cutaway.circuits.faithfulness.null import random_circuit, random_curves, random_faithfulness
from cutaway.circuits.faithfulness.picture import study_picture
from cutaway.circuits.faithfulness.shares import Shares, shares
from cutaway.circuits.faithfulness.stability import members, overlap, resampling_stability
from cutaway.circuits.faithfulness.study import Plan, Study, study

__all__ = [
    "Completeness",
    "Curve",
    "Equivalence",
    "Minimality",
    "Plan",
    "Shares",
    "Smallest",
    "Study",
    "completeness",
    "curve",
    "edge_count",
    "equivalence",
    "faithfulness_multiverse",
    "faithfulness_of",
    "independence",
    "members",
    "minimality",
    "overlap",
    "random_circuit",
    "random_curves",
    "random_faithfulness",
    "resampled",
    "resampling_stability",
    "shares",
    "smallest",
    "study",
    "study_picture",
    "without_idle",
]
