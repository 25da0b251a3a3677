"""What a unit is tuned to: synthetic drawings in, preferences with their nulls out.

In: a network, a feature map, a kind of drawing. Out: :class:`Tuning`, one :class:`UnitTuning` for each unit, with the
same numbers from untrained twins and shuffled weights. Promised: one pass over the drawings serves all units of the
site; responses are in natural standard deviations; a threshold that decides was fixed before units were counted.
"""

from cutaway.features.tuning.circular import (
    circular_variance,
    distance,
    echo,
    fwhm,
    harmonic,
    preferred,
    tiling_gap,
)
from cutaway.features.tuning.criteria import CurveCriterion, FamilyTiling, tiling
from cutaway.features.tuning.radial import RadialTuning, radial_tuning
from cutaway.features.tuning.responses import NaturalScale, View, natural_scale, respond, view_of, without_window
from cutaway.features.tuning.summaries import Grid, UnitTuning, invariance, summarise
from cutaway.features.tuning.tune import NullTuning, Tuning, tune

__all__ = [
    "CurveCriterion",
    "FamilyTiling",
    "Grid",
    "NaturalScale",
    "NullTuning",
    "RadialTuning",
    "Tuning",
    "UnitTuning",
    "View",
    "circular_variance",
    "distance",
    "echo",
    "fwhm",
    "harmonic",
    "invariance",
    "natural_scale",
    "preferred",
    "radial_tuning",
    "respond",
    "summarise",
    "tiling",
    "tiling_gap",
    "tune",
    "view_of",
    "without_window",
]
