"""Families of units that are one unit up to a transformation, found without being told, and what they save.

In: a network, a feature map, a group of picture transformations. Out: :class:`Families` (who belongs together, how each
member is turned, which units are invariant), from answers alone; then, from the weights, whether those respect the
poses, and how few parameters the block needs. Promised: the level from which two units count as alike is set by null
networks and by mismatched stimuli, never by hand; a random network has no family.

    transforms   the groups: rotations, scales, hues
    orbits       answers to natural crops under all transformations; similarity of units up to one
    find         clusters, poses by synchronisation, the cocycle check
    symmetrize   weights tied by families, and the permutation test of the poses
    discover     the workflow over a network, its twins, and its behaviour with tied weights
"""

from cutaway.structure.families.discover import Compression, behaviour_loss, compression, families
from cutaway.structure.families.find import (
    Families,
    Family,
    circular_correlation,
    cocycle,
    find_families,
    null_level,
    pair_level,
    synchronised,
)
from cutaway.structure.families.orbits import Orbits, crops, observe_orbits, orbit_side, similarity, window_of
from cutaway.structure.families.symmetrize import Poses, Symmetrised, confirm, symmetrised
from cutaway.structure.families.transforms import Group, group, hues, mirrored, rotated, rotations, scales

__all__ = [
    "Compression",
    "Families",
    "Family",
    "Group",
    "Orbits",
    "Poses",
    "Symmetrised",
    "behaviour_loss",
    "circular_correlation",
    "cocycle",
    "compression",
    "confirm",
    "crops",
    "families",
    "find_families",
    "group",
    "hues",
    "mirrored",
    "null_level",
    "observe_orbits",
    "orbit_side",
    "pair_level",
    "rotated",
    "rotations",
    "scales",
    "similarity",
    "symmetrised",
    "synchronised",
    "window_of",
]
