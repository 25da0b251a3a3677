"""InceptionV1, the network of the Circuits thread, with the thread's own site names.

What enters: a file of weights in one of three layouts (the original graph's tensors, a port of them to torch, the
state dict of torchvision's googlenet), or a :class:`Plan` for an untrained one. What leaves: a Network whose sites are
``conv2d0``, ``mixed3b``, ``mixed4b_3x3_bottleneck`` and so on. What is promised: weights are read as data only, and a
file that lacks, adds or misshapes a tensor is one clear sentence. No weights come with the package.
"""

from cutaway.networks.inception.architecture import (
    BRANCHES,
    GRAPH,
    MIXED,
    TORCHVISION,
    InceptionV1,
    Plan,
    ResponseNorm,
    Widths,
    branch_units,
)
from cutaway.networks.inception.weight_loaders import from_tensors, inception_v1, layout_of

__all__ = [
    "BRANCHES",
    "GRAPH",
    "MIXED",
    "TORCHVISION",
    "InceptionV1",
    "Plan",
    "ResponseNorm",
    "Widths",
    "branch_units",
    "from_tensors",
    "inception_v1",
    "layout_of",
]
