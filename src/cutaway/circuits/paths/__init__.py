"""How one feature map is computed from another: the calls between them, and what their weights multiply to.

In: a network and two sites. Out: the path as a small program that can be run again (:mod:`.trace`), its linear part as
one kernel (:mod:`.composition`), how often its gates are open (:mod:`.gates`), the extremes over gates
(:mod:`.bounds`). Promised: a path is checked against the network before anything is read off it. What most callers want
is :mod:`cutaway.circuits.weights` and :mod:`cutaway.circuits.expanded`.

    operations  what torch's functions do to a map: nonlinear, pooling, linear
    probing     inputs that make a path visible
    pictures    natural inputs for gates and gradients
"""

from cutaway.circuits.paths.composition import LinearMap
from cutaway.circuits.paths.gates import GateRate
from cutaway.circuits.paths.trace import Path, trace

__all__ = ["GateRate", "LinearMap", "Path", "trace"]
