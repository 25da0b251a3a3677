"""Edges of a transformer: cut any set of them, and score all of them from a few passes.

In: a network with an anatomy (:mod:`cutaway.networks.anatomy`), pairs of clean and corrupted prompts, a metric. Out:
what the metric does when an edge carries the corrupted value: measured (exact patching) or estimated (EAP, EAP-IG), and
which of the two. Promised: with every edge kept the output is bit-identical to the network's; with every edge cut it is
the corrupted one; the estimates equal the gradient of the first with respect to the mask of edges.

    graph         names: sources, targets, edges
    pairs         clean and corrupted prompts, metrics
    wiring        the places where a network is opened
    runtime       one pass under any mask of edges
    attribution   EAP and EAP-IG for all edges at once
    exact         patching, edge by edge or in groups
    verified      the default: estimates, checked where it counts
"""

from cutaway.circuits.edges.attribution import Cost, EdgeScores, attribute
from cutaway.circuits.edges.exact import Effects, cut_effects, edge_effects
from cutaway.circuits.edges.graph import Edge, EdgeGraph, Target, owners
from cutaway.circuits.edges.pairs import Metric, Pairs, logit_difference, projection
from cutaway.circuits.edges.runtime import Sources, measure, record, run_edges
from cutaway.circuits.edges.verified import Scores, verified
from cutaway.circuits.edges.wiring import Wired, wire

__all__ = [
    "Cost",
    "Edge",
    "EdgeGraph",
    "EdgeScores",
    "Effects",
    "Metric",
    "Pairs",
    "Scores",
    "Sources",
    "Target",
    "Wired",
    "attribute",
    "cut_effects",
    "edge_effects",
    "logit_difference",
    "measure",
    "owners",
    "projection",
    "record",
    "run_edges",
    "verified",
    "wire",
]
