"""What the notebooks of all folders share: profile, network, look of figures, the table of claims.

``CUTAWAY_EXAMPLES=small`` makes every notebook small (a test runs them so); ``CUTAWAY_NETWORK`` names another network.
"""

import io
import os
import warnings
from dataclasses import dataclass, field
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image, display
from matplotlib.figure import Figure

import cutaway
from cutaway.circuits.drawing import to_bytes
from cutaway.evidence import Measurement

# Said at import by a library of progress bars, with a path of the machine; nothing here shows any.
warnings.filterwarnings("ignore", message="IProgress not found")

SMALL = os.environ.get("CUTAWAY_EXAMPLES", "full") == "small"
SIGNED = "PuOr_r"  # purple negative, orange positive: readable with any common colour-vision deficiency
T = TypeVar("T")


def sized(small: T, full: T) -> T:
    """The value for the chosen profile."""
    return small if SMALL else full


def start(network: str) -> Any:
    """One thread, one look for all figures; the network (``CUTAWAY_NETWORK`` instead, where it is set)."""
    torch.set_num_threads(1)
    plt.rcParams.update({
        "figure.dpi": 90, "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "image.cmap": "viridis",
    })  # fmt: skip
    chosen = cutaway.load(os.environ.get("CUTAWAY_NETWORK", network))
    print(f"profile: {'small' if SMALL else 'full'}; network: {chosen.name} ({chosen.fingerprint[:12]})")
    return chosen


VERDICTS = {True: "reproduced", False: "not found", None: "not testable"}


@dataclass
class Claims:
    """The table in which a notebook ends: what was claimed, what came out, what chance gives, the verdict."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, claim: str, effect: str, null: str, holds: bool | None) -> None:
        """One row; ``holds`` None where this network cannot say."""
        verdict = VERDICTS[None if holds is None else bool(holds)]
        self.rows.append((claim, effect, null, verdict))
        print(f"{claim}\n  effect  {effect}\n  null    {null}\n  verdict {verdict}")

    def _lines(self) -> list[str]:
        header = ("claim", "effect", "null", "verdict")
        rows = [[cell.replace("|", "\\|") for cell in row] for row in self.rows]
        return ["| " + " | ".join(row) + " |" for row in (header, ("---",) * 4, *rows)]

    def _repr_markdown_(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        return "\n".join(self._lines())


def effect(found: Measurement) -> str:
    """Value, interval where one was measured, and n."""
    interval = "" if np.isnan(found.low) else f" [{found.low:.2g}, {found.high:.2g}]"
    return f"{found.value:.3g}{interval} (n = {found.n})"


def null(found: Measurement, name: str) -> str:
    """Mean and spread of the null, and p."""
    return f"{name}: {found.null_mean:.2g} ± {found.null_std:.2g}, p = {found.p:.2g}"


def show(picture: Any) -> None:
    """A Pillow picture, or a figure of ``cutaway.circuits.drawing``, as PNG."""
    if isinstance(picture, Figure):
        data = to_bytes(picture, "png")
    else:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        data = buffer.getvalue()
    display(Image(data))


def signed(axes: Any, values: np.ndarray, *, end: float | None = None, label: str = "weight", **options: Any) -> Any:
    """A heat map whose white is zero, with its scale."""
    end = float(np.nanmax(np.abs(values))) if end is None else end
    shown = axes.imshow(values, cmap=SIGNED, vmin=-end, vmax=end, **{"aspect": "auto", **options})
    axes.figure.colorbar(shown, ax=axes, label=label, shrink=0.8)
    return shown
