"""Feature visualization: images made so that a unit of a vision network answers strongly, and checks of them.

What enters: a network that takes pictures, addresses, and what to make large (an :class:`Objective`; objectives add
and multiply). What leaves: :class:`Visualization` values with image, activation and settings, PNG files, contact
sheets, and for each image a :class:`Sanity` against natural images and other units. What is promised: the forward
pass stops at the target site and many units share one batch; an image is the same alone and in company, up to
rounding; the same seed gives the same image; the network is left as it was. Method: Olah, Mordvintsev and Schubert
2017, "Feature Visualization", Distill.

    make            addresses -> images            objectives, comparisons    what is made large
    ascent          gradient ascent                parametrize, spectrum      what is varied
    transforms      what an image must survive     redirect                   gradients for dead starts
    checks          is it what the unit looks for  result                     the value, PNG, contact sheet
"""

from cutaway.features.visualize.ascent import Effort, activations, finished, optimize
from cutaway.features.visualize.checks import Natural, Sanity, natural_activity, sanity
from cutaway.features.visualize.comparisons import (
    alignment,
    attributed,
    caricature,
    diversity,
    faceted,
    interpolation,
)
from cutaway.features.visualize.make import OBJECTIVES, best_activations, visualize
from cutaway.features.visualize.objectives import (
    Objective,
    Step,
    channel,
    direction,
    gray_distance,
    logit,
    neuron,
    paid_by_opacity,
)
from cutaway.features.visualize.parametrize import PARAMETRIZATIONS, Image, ImageSpec, fourier, phase, pixels, seeds_for
from cutaway.features.visualize.redirect import redirected
from cutaway.features.visualize.result import Visualization, contact_sheet
from cutaway.features.visualize.spectrum import Spectrum, natural_spectrum, spectrum_of
from cutaway.features.visualize.transforms import LUCID, MODERATE, NONE, STRONG, WEAK, Transforms, for_field

__all__ = [
    "LUCID",
    "MODERATE",
    "NONE",
    "OBJECTIVES",
    "PARAMETRIZATIONS",
    "STRONG",
    "WEAK",
    "Effort",
    "Image",
    "ImageSpec",
    "Natural",
    "Objective",
    "Sanity",
    "Spectrum",
    "Step",
    "Transforms",
    "Visualization",
    "activations",
    "alignment",
    "attributed",
    "best_activations",
    "caricature",
    "channel",
    "contact_sheet",
    "direction",
    "diversity",
    "faceted",
    "finished",
    "for_field",
    "fourier",
    "gray_distance",
    "interpolation",
    "logit",
    "natural_activity",
    "natural_spectrum",
    "neuron",
    "optimize",
    "paid_by_opacity",
    "phase",
    "pixels",
    "redirected",
    "sanity",
    "seeds_for",
    "spectrum_of",
    "visualize",
]
