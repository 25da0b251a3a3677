"""Circuit discovery: which edges of a transformer matter for a behaviour, and the circuits that follow.

What enters: a :class:`Setup` (an opened network, pairs of prompts, a metric, an ablation), the name of a method. What
leaves: a :class:`Ranking`, one score for every edge (measured or estimated, it says which), and masks of edges cut
from it. What is promised: the same seed gives the same numbers; costs are counted in passes; no edge of a circuit
hangs loose; other people's methods enter through the same door (:data:`METHODS`).

    setup       the question: metric with every edge kept and with every edge cut
    methods     exact, verified (the default), eap, eap-ig        acdc, masks   two that look at edges together
    ranking     scores and the order in which edges are taken
    selection   top, greedy, connected
    neurons     the baseline that circuits of edges have to beat: single neurons and heads
    metrics     probability, log probability, divergence
"""

from cutaway.circuits.discovery.acdc import acdc
from cutaway.circuits.discovery.masks import mask
from cutaway.circuits.discovery.methods import DEFAULT, METHODS, Method, Options, rank
from cutaway.circuits.discovery.metrics import METRICS, divergence, log_probability, metric_named, probability
from cutaway.circuits.discovery.neurons import NeuronCircuits, neuron_circuits
from cutaway.circuits.discovery.ranking import ORDERS, Ranking, importance_of
from cutaway.circuits.discovery.selection import Topology
from cutaway.circuits.discovery.setup import Setup, setup

__all__ = [
    "DEFAULT",
    "METHODS",
    "METRICS",
    "ORDERS",
    "Method",
    "NeuronCircuits",
    "Options",
    "Ranking",
    "Setup",
    "Topology",
    "acdc",
    "divergence",
    "importance_of",
    "log_probability",
    "mask",
    "metric_named",
    "neuron_circuits",
    "probability",
    "rank",
    "setup",
]
