"""Attribution graphs of networks of feature maps: which channels or features, where, made this output what it is.

What enters: a network with feature maps, a picture, a target (a logit, a pixel of an output map, a unit or feature at
a pixel), sites to open. What leaves: a :class:`MapTrace`: parts at places, signed edges in the target's unit, every
kept edge cut to see. What is promised: gates stay as they were on this picture (rectifiers, switches of max-pooling,
batch norms in evaluation), so that edges into every node, with constants, sum to its value, whatever the architecture:
edges are gradients between sites that are cut apart, not formulas of layers.

    target    what is explained
    opened    one pass cut apart at sites
    codes     a site as channels, or as features of a basis
    nodes     who is in the graph
    links     every edge, one backward pass for each target
    causal    cutting edges, setting parts to zero
    result    what a graph says
    make      all of it in order
"""

from cutaway.circuits.maps.make import trace_maps
from cutaway.circuits.maps.nodes import MapNode
from cutaway.circuits.maps.result import MapTrace
from cutaway.circuits.maps.target import MapTarget, map_target

__all__ = ["MapNode", "MapTarget", "MapTrace", "map_target", "trace_maps"]
