"""Circuits: the weights between features, what runs along them, and drawings of them.

What enters: a network and the names of two sites, or of a site and units of a later one. What leaves: frozen values
(:class:`Kernel`, :class:`Factors`, :class:`Circuit`) and plain tensors ``[target source y x]``. What is promised: no
module is changed and no hook stays behind; a kernel has been compared with the Jacobian of the path it stands for, and
says whether it is exact, what it runs through and what it leaves out; nothing assumes a network family.

    weights        one kernel between two sites: direct, depthwise, virtual, effective
    gates          how often hidden units are open, by which effective kernels can be weighed
    expanded       kernels across several layers: average, smoothed, best case
    contributions  the strongest inputs and outputs of a unit, orders, sorted matrices
    factors        one-sided factorization: channels that are read alike
    graph          circuits grown backwards from a unit
    drawing        small multiples, matrices, circuit diagrams
    trace, composition, operations, probing, bounds, pictures   how it is done
"""

from cutaway.circuits.contributions import (
    AngleProfile,
    Contribution,
    inputs_of,
    negative_share,
    outputs_of,
    principal_order,
    ranked,
    reduced,
    relative_angle_profile,
    sorted_matrix,
)
from cutaway.circuits.expanded import VERSIONS, expanded_weights, weight_bounds
from cutaway.circuits.factors import Factors, factorize
from cutaway.circuits.gates import GateRate, gate_rates
from cutaway.circuits.graph import Circuit, Edge, Node, grow
from cutaway.circuits.weights import Kernel, kernel

__all__ = [
    "VERSIONS",
    "AngleProfile",
    "Circuit",
    "Contribution",
    "Edge",
    "Factors",
    "GateRate",
    "Kernel",
    "Node",
    "expanded_weights",
    "factorize",
    "gate_rates",
    "grow",
    "inputs_of",
    "kernel",
    "negative_share",
    "outputs_of",
    "principal_order",
    "ranked",
    "reduced",
    "relative_angle_profile",
    "sorted_matrix",
    "weight_bounds",
]
