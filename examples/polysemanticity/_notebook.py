"""What every notebook of this folder shares: a start without a network of its own, and what all folders share.

``CUTAWAY_EXAMPLES=small`` makes every notebook small (a test runs them so). Networks are trained in the notebook.
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from cutaway.circuits.drawing.style import FAINT, INK, NEGATIVE, POSITIVE
from cutaway.evidence import Measurement

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a kernel starts in the notebook's own folder
from _shared import SIGNED, SMALL, Claims, effect, null, signed, sized

SEQUENCE = ("#1b6ca8", "#b35806", "#542788", "#4d9221", "#c51b7d", "#8a8a8a")  # told apart in grey as well


def begin() -> None:
    """One thread, one look for all figures."""
    torch.set_num_threads(1)
    plt.rcParams.update({
        "figure.dpi": 90, "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "image.cmap": "viridis",
    })  # fmt: skip
    print(f"profile: {'small' if SMALL else 'full'}; networks: trained here")


def arrows(axis: Any, vectors: np.ndarray, *, title: str, reach: float = 1.35) -> None:
    """Features as arrows in the plane of two hidden units, [2 feature], numbered."""
    axis.add_patch(plt.Circle((0, 0), 1, fill=False, color=FAINT, linewidth=0.6, linestyle=":"))
    for index, (x, y) in enumerate(vectors.T):
        colour = SEQUENCE[index % len(SEQUENCE)]
        axis.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.6})
        size = max(float(np.hypot(x, y)), 1e-6)
        axis.text(x / size * (size + 0.14), y / size * (size + 0.14), str(index), color=colour, ha="center", va="center")
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="unit 0", ylabel="unit 1")
    axis.set_title(title, fontsize=9)


def interval(found: Measurement, digits: int = 2) -> str:
    """Value and interval in a table."""
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


__all__ = [
    "FAINT", "INK", "NEGATIVE", "POSITIVE", "SEQUENCE", "SIGNED", "SMALL", "Claims", "arrows", "begin", "effect", "interval",
    "null", "signed", "sized",
]  # fmt: skip
