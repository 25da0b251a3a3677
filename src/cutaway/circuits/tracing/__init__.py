"""Attribution graphs: why a language model answers A and not B, from the tokens up, every edge cut to see.

What enters: a pre-norm causal language model (or a compiled program), a prompt, one or two answers. What leaves: a
:class:`Trace`: parts at positions, signed edges in logits, why heads looked where they did, and what cutting each edge
did; as JSON, DOT, SVG or HTML. What is promised: before pruning, edges into the output and biases sum to the logit
difference (``Trace.gap`` says how nearly), edges into every node to its share, tangents' errors being edges of their
own.

    question    prompt and answers -> tokens and outputs
    frozen      one pass, patterns and norms held
    flow        its gradients and everyone's share, in one sweep
    neurons     tangents of any MLP
    nodes       who is in the graph
    links       every edge
    influence   scores and pruning
    baselines   what is put in place of what is cut
    ledger      who wrote what where, and who reads it
    causal      cutting edges, one by one or together
    sets        running the kept nodes alone, and everything but them
    checks      how the graph fared, with nulls
    reasons     attention, pair by pair
    features    nodes that are features of bases
    make        all of it in order
    layout, svg, dot, page, files   pictures, pages and files
"""

from cutaway.circuits.tracing.files import check_file, save
from cutaway.circuits.tracing.graph import Check, Edge, Effect, FeaturesTested, Tested, Trace
from cutaway.circuits.tracing.influence import Scores
from cutaway.circuits.tracing.make import Budget, sign_agreement, trace
from cutaway.circuits.tracing.nodes import Node
from cutaway.circuits.tracing.reasons import Move, Pair

__all__ = [
    "Budget",
    "Check",
    "Edge",
    "Effect",
    "FeaturesTested",
    "Move",
    "Node",
    "Pair",
    "Scores",
    "Tested",
    "Trace",
    "check_file",
    "save",
    "sign_agreement",
    "trace",
]
