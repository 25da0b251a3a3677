"""What every notebook of this folder shares: circular statistics, and what all folders share (``examples/_shared.py``).

``CUTAWAY_EXAMPLES=small`` makes every notebook small (a test runs them so); ``CUTAWAY_NETWORK`` names another network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.evidence import Measurement, measure_against_null
from cutaway.structure.families import circular_correlation

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a kernel starts in the notebook's own folder
from _shared import SIGNED, SMALL, Claims, effect, null, show, signed, sized, start  # noqa: F401


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


def angle_ticks(axis: Any, angles: Sequence[float], every: int = 1) -> None:
    """Labels in degrees at the places of sorted units or drawings."""
    places = range(0, len(angles), every)
    axis.set_ticks(list(places), [f"{angles[place]:.0f}°" for place in places], fontsize=7)
