"""The superposition lab: toy networks of known features, trained many at once, and how they share their units.

What enters: :class:`Settings` (activities, importances, hidden units) or :class:`Recipe` (how to train). What leaves:
weights of all settings and seeds with their loss (:class:`Toys`), the share of a dimension that each feature has
(:func:`dimensionality`, the same number as capacity), the groups that share directions (:func:`shapes`), a phase
diagram beside its theory, and how many features the hidden units of small networks answer to, by training choice
(:class:`Course`). What is promised: the same seed gives the same weights; a training batch of many is the training of
each; features and what they share are known, so that other methods can be held against them.
"""

from cutaway.bases.toy.geometry import (
    PLATEAUS,
    Shape,
    dimensionality,
    dimensions_per_feature,
    nearest_plateau,
    plateau,
    represented,
    shapes,
)
from cutaway.bases.toy.inputs import Settings, draw, settings
from cutaway.bases.toy.phases import PHASES, Diagram, phase_diagram, phase_of, theory_border, theory_losses
from cutaway.bases.toy.training import Toys, train
from cutaway.bases.toy.units import Course, Recipe, at_loss, effective_number, live_units, train_units

__all__ = [
    "PHASES",
    "PLATEAUS",
    "Course",
    "Diagram",
    "Recipe",
    "Settings",
    "Shape",
    "Toys",
    "at_loss",
    "dimensionality",
    "dimensions_per_feature",
    "draw",
    "effective_number",
    "live_units",
    "nearest_plateau",
    "phase_diagram",
    "phase_of",
    "plateau",
    "represented",
    "settings",
    "shapes",
    "theory_border",
    "theory_losses",
    "train",
    "train_units",
]
