"""How many kinds of input does a feature answer to? Measured without labels, for units and for features of any basis.

What enters: an :class:`~cutaway.features.activity.Activity` (what units of a site did on each stimulus; dictionaries
that are built into a network are sites like others; :func:`in_directions` makes one for any directions) and a
:class:`Representation` to compare examples in: the input, or another network, never the site itself.
What leaves: :class:`FeatureModes` of one feature, :class:`LayerModes` of many, :class:`PathModes` (by which upstream
units it is excited), and the feature card's smaller score. What is promised: broad is not polysemantic (a continuum is
the null of the mode count); every score has its null beside it; the same seed gives the same numbers.

    choice           examples of every level down to a quarter of the maximum
    representation   in what they are compared
    gaps             the mode count, its rule and its null
    likeness         monosemanticity
    modes, layer     all of it, for one feature and for a layer
    paths            gradient x activation from upstream: path modes, participation ratio
    score            the card's score: balanced silhouette against one Gaussian cloud
"""

from cutaway.features.polysemanticity.choice import Chosen, choose, in_directions
from cutaway.features.polysemanticity.gaps import Partition, count_modes, effective_number
from cutaway.features.polysemanticity.layer import LayerModes, compare_layers, measure_layer
from cutaway.features.polysemanticity.likeness import monosemanticity
from cutaway.features.polysemanticity.modes import FeatureModes, Mode, modes
from cutaway.features.polysemanticity.paths import (
    PathModes,
    contributions,
    measured_participation,
    participation_ratio,
    paths,
)
from cutaway.features.polysemanticity.representation import (
    Representation,
    check_independent,
    elsewhere,
    given,
    input_space,
)
from cutaway.features.polysemanticity.score import (
    balanced_silhouette,
    one_cloud_scores,
    polysemanticity,
    projected,
    separation,
)

__all__ = [
    "Chosen",
    "FeatureModes",
    "LayerModes",
    "Mode",
    "Partition",
    "PathModes",
    "Representation",
    "balanced_silhouette",
    "check_independent",
    "choose",
    "compare_layers",
    "contributions",
    "count_modes",
    "effective_number",
    "elsewhere",
    "given",
    "in_directions",
    "input_space",
    "measure_layer",
    "measured_participation",
    "modes",
    "monosemanticity",
    "one_cloud_scores",
    "participation_ratio",
    "paths",
    "polysemanticity",
    "projected",
    "separation",
]
