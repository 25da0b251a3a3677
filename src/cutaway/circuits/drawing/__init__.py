"""Drawings of weights and circuits, as SVG with selectable text and as PNG.

What enters: kernels, sorted matrices, factors, circuits. What leaves: a Matplotlib figure that belongs to no global
state; :func:`save` writes it, :func:`to_bytes` gives it away. What is promised: one signed colour scale for every
picture (purple negative, orange positive, white zero), always with its legend; the same input gives the same bytes.
"""

from cutaway.circuits.drawing.diagram import circuit_diagram
from cutaway.circuits.drawing.matrix import angle_profile, weight_matrix
from cutaway.circuits.drawing.style import save, to_bytes
from cutaway.circuits.drawing.tiles import factor_panels, kernel_tiles

__all__ = ["angle_profile", "circuit_diagram", "factor_panels", "kernel_tiles", "save", "to_bytes", "weight_matrix"]
