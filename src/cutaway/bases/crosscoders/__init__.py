"""One code for several networks or layers: crosscoders, and cross-layer transcoders.

What enters: rows of two or more networks (or layers) for the same stimuli, side by side. What leaves: a
:class:`Crosscoder` or :class:`CrossLayerTranscoder`, and which latents belong to one network alone
(:class:`Specificity`). What is promised: a latent is called a network's own by what the activations hold, not by its
decoder norms, with an interval; :func:`self_diff` says how many the procedure calls so where there are none.
"""

from cutaway.bases.crosscoders.coder import Coder, Crosscoder, CrossLayerTranscoder
from cutaway.bases.crosscoders.files import load_coder, save_coder
from cutaway.bases.crosscoders.norms import bin_counts, norm_bins, norm_difference, norm_differences
from cutaway.bases.crosscoders.plan import Plan
from cutaway.bases.crosscoders.scaling import Directions, ScalingSums, common_directions, own_directions, scaling_sums
from cutaway.bases.crosscoders.selfdiff import SelfDiff, SelfPair, self_diff
from cutaway.bases.crosscoders.sources import SideBySide, join
from cutaway.bases.crosscoders.specificity import Specificity, judge, latent_scaling, ratio_interval
from cutaway.bases.crosscoders.training import CoderRecipe, Progress, TrainedCoder, train_coder

__all__ = [
    "Coder",
    "CoderRecipe",
    "CrossLayerTranscoder",
    "Crosscoder",
    "Directions",
    "Plan",
    "Progress",
    "ScalingSums",
    "SelfDiff",
    "SelfPair",
    "SideBySide",
    "Specificity",
    "TrainedCoder",
    "bin_counts",
    "common_directions",
    "join",
    "judge",
    "latent_scaling",
    "load_coder",
    "norm_bins",
    "norm_difference",
    "norm_differences",
    "own_directions",
    "ratio_interval",
    "save_coder",
    "scaling_sums",
    "self_diff",
    "train_coder",
]
