"""Bases in files: cutaway's own folder, and those of SAELens, dictionary_learning and sparsify.

What enters: a basis, or a folder of any of the formats. What leaves: the folder, or the basis. What is promised: a
dictionary gives the same codes after any round trip; files are data, every size in them is held against their
description before it is loaded, and one that is damaged, hostile or of another network is refused in one sentence.
"""

from cutaway.bases.formats.folders import FORMATS, Format, describe, format_of, load, save

__all__ = ["FORMATS", "Format", "describe", "format_of", "load", "save"]
