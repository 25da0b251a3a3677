"""Dictionaries: sparse autoencoders and transcoders of every kind, behind one class.

What enters: tensors (loaded or trained ones), or a kind and widths (:func:`make`). What leaves: a :class:`Dictionary`,
a basis with sparse codes. What is promised: kinds differ only by their entry in :data:`DICTIONARIES`, and a
stranger's kind enters by the same door (entry-point group ``cutaway.dictionaries``).
"""

from cutaway.bases.dictionaries import kinds as _kinds  # registers the built-in kinds
from cutaway.bases.dictionaries.dictionary import Dictionary
from cutaway.bases.dictionaries.kind import DICTIONARIES, Kind, Pass
from cutaway.bases.dictionaries.making import make
from cutaway.bases.dictionaries.recipe import Recipe

__all__ = ["DICTIONARIES", "Dictionary", "Kind", "Pass", "Recipe", "make"]

del _kinds
