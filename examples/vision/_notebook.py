"""What every notebook of this folder shares: profile, network, figures, circular statistics, the table of claims.

``CUTAWAY_EXAMPLES=small`` makes every notebook small (a test runs them so); ``CUTAWAY_NETWORK`` names another network.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image, display
from matplotlib.figure import Figure

import cutaway
from cutaway.circuits.drawing import to_bytes
from cutaway.evidence import Measurement, measure_against_null
from cutaway.structure.families import circular_correlation

SMALL = os.environ.get("CUTAWAY_EXAMPLES", "full") == "small"
SIGNED = "PuOr_r"  # purple negative, orange positive: readable with any common colour-vision deficiency
T = TypeVar("T")


def sized(small: T, full: T) -> T:
    """The value for the chosen profile."""
    return small if SMALL else full


def start(network: str = "vgg16-hed") -> Any:
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


def angles_agree(first: Sequence[float], second: Sequence[float], *, period: float = 360, seed: int = 0) -> Measurement:
    """Circular correlation with a bootstrap interval over units; null: one set of angles permuted over units."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    rng = np.random.default_rng(seed)
    draws = [circular_correlation(a, rng.permutation(b), period) for _ in range(499)]
    rows = [rng.integers(0, len(a), len(a)) for _ in range(499)]
    again = np.array([circular_correlation(a[row], b[row], period) for row in rows])
    return measure_against_null(
        circular_correlation(a, b, period), draws, bootstrap=again[np.isfinite(again)], n=len(a),
        alternative="greater", seed=seed,
    )  # fmt: skip


def population_angle(responses: np.ndarray, angles: Sequence[float]) -> np.ndarray:
    """The angle that units with these preferred angles vote for, weighted by their responses [picture unit]."""
    vote = np.maximum(responses, 0) @ np.exp(1j * np.deg2rad(np.asarray(angles)))
    return np.rad2deg(np.angle(vote)) % 360


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


def angle_ticks(axis: Any, angles: Sequence[float], every: int = 1) -> None:
    """Labels in degrees at the places of sorted units or drawings."""
    places = range(0, len(angles), every)
    axis.set_ticks(list(places), [f"{angles[place]:.0f}°" for place in places], fontsize=7)
