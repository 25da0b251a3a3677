"""Drawings by name, as the command line asks for them."""

from collections.abc import Callable
from typing import Any

from cutaway.errors import UnknownName
from cutaway.stimuli.drawings.colours import bw_versus_colour, colour_contrast, colours
from cutaway.stimuli.drawings.core import Drawings
from cutaway.stimuli.drawings.shapes import centre_surround, circles, corners, curves, lines
from cutaway.stimuli.drawings.waves import boundaries, frequency_pairs, gratings, textures

KINDS: dict[str, Callable[..., Drawings]] = {
    "curves": curves,
    "lines": lines,
    "corners": corners,
    "gratings": gratings,
    "frequency-pairs": frequency_pairs,
    "boundaries": boundaries,
    "circles": circles,
    "centre-surround": centre_surround,
    "colours": colours,
    "colour-contrast": colour_contrast,
    "bw-versus-colour": bw_versus_colour,
    "textures": textures,
}


def drawings(kind: str, size: int, **options: Any) -> Drawings:
    """The drawings of that kind for a square of ``size`` pixels; an unknown kind raises and suggests near ones."""
    if kind not in KINDS:
        raise UnknownName("kind of drawing", kind, KINDS)
    return KINDS[kind](size, **options)
