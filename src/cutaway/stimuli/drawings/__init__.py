"""Synthetic drawings: pictures whose every property is known, to ask a unit one question at a time.

In: a kind, a size in pixels and the values of its parameters (all have defaults that suit a receptive field of that
size). Out: :class:`Drawings`, a table of parameters that paints any of its rows as RGB in 0..1. Promised: the same
table gives the same pixels on every machine; shapes are anti-aliased by their distance to the pixel, so that a
parameter moves pixels smoothly; nothing is painted before it is asked for.

Angles are in degrees, counter-clockwise as seen, 0 to the right. An *orientation* of a line or grating is that of its
stripes and repeats after 180; a *direction* (of a curve: to where it bulges; of a boundary: to its marked side)
repeats after 360. Ideas: Hubel and Wiesel 1962; the stimuli of Cammarata et al., "Curve Detectors", Distill 2020.
"""

from cutaway.stimuli.drawings.colours import bw_versus_colour, colour_contrast, colours, hue_circle
from cutaway.stimuli.drawings.core import Canvas, Drawings
from cutaway.stimuli.drawings.kinds import KINDS, drawings
from cutaway.stimuli.drawings.shapes import centre_surround, circles, corners, curves, lines, radial_curves
from cutaway.stimuli.drawings.waves import boundaries, frequency_pairs, gratings, textures

__all__ = [
    "KINDS",
    "Canvas",
    "Drawings",
    "boundaries",
    "bw_versus_colour",
    "centre_surround",
    "circles",
    "colour_contrast",
    "colours",
    "corners",
    "curves",
    "drawings",
    "frequency_pairs",
    "gratings",
    "hue_circle",
    "lines",
    "radial_curves",
    "textures",
]
