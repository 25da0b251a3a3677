"""Circuits: the weights between features, what runs along them, and which of them make a behaviour.

What enters: a network and the names of two sites, or of a site and units of a later one; or a transformer and pairs of
prompts. What leaves: frozen values (:class:`Kernel`, :class:`Factors`, :class:`Circuit`, edge scores, studies) and
plain tensors. What is promised: no module is changed and no hook stays behind; a kernel has been compared with the
Jacobian of the path it stands for; an edge score says whether it was measured or estimated; nothing assumes a family.

Feature maps:

    weights        one kernel between two sites: direct, depthwise, virtual, effective
    expanded       kernels across several layers: average, smoothed, best case
    contributions  the strongest inputs and outputs of a unit, orders, sorted matrices
    factors        one-sided factorization: channels that are read alike
    edits          kernels changed, predicted and measured
    graph          circuits grown backwards from a unit
    drawing/       small multiples, matrices, circuit diagrams
    paths/         how it is done: calls between two maps, their composition, gates, bounds

Transformers:

    transformer/   query-key and output-value forms, composition, scores taken apart
    quadratic      one kernel for every bilinear form
    lens           logit lens and direct attribution
    edges/         cut any set of edges; score all of them
    discovery/     circuits from scores, removal, learned masks
    faithfulness/  curves, random circuits, tests of a circuit
    tracing/       why A, not B: an attribution graph of one prompt
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
from cutaway.circuits.graph import Circuit, Edge, Node, grow
from cutaway.circuits.paths.gates import GateRate, gate_rates
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
