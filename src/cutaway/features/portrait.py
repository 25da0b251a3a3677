"""Two parts of a card that are measured only when asked for: a picture made for the feature, and its tuning."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any

from cutaway.evidence.measurement import Measurement
from cutaway.features.tuning.summaries import UnitTuning


@dataclass(frozen=True)
class Portrait:
    """A picture made by gradient ascent so that the feature answers strongly, and how strongly it does.

    ``png`` is the picture, ``size`` its rows and columns. ``activation`` is the feature's best one on these very pixels
    and ``sigma`` the same in deviations over natural positions (NaN for a unit that never changes there). ``rank`` is
    the share of ``natural`` pictures whose best position it exceeds; null: pictures made for other units of the site,
    shown to this one. ``objective`` and ``steps`` say how it was made.
    """

    png: bytes
    size: tuple[int, int]
    activation: float
    sigma: float
    rank: Measurement
    natural: int
    objective: str
    steps: int

    @property
    def data_uri(self) -> str:
        """The picture as a ``data:`` URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()

    def to_json(self) -> dict[str, Any]:
        """Plain values; the picture as a ``data:`` URI."""
        return {
            "image": self.data_uri,
            "size": list(self.size),
            "activation": _number(self.activation),
            "sigma": _number(self.sigma),
            "rank": self.rank.to_json(),
            "natural": self.natural,
            "objective": self.objective,
            "steps": self.steps,
        }


@dataclass(frozen=True)
class Preference:
    """What the feature prefers among ``drawings`` synthetic drawings of one kind.

    ``unit`` is its row of :func:`cutaway.features.tuning.tune`, whose docstring explains the numbers. ``strength`` is
    :attr:`UnitTuning.strength` (natural sigma); null: all units of the networks in ``nulls`` (kind, seed) on the same
    drawings; n counts drawings. ``natural`` pictures set the scale.
    """

    unit: UnitTuning
    strength: Measurement
    nulls: tuple[tuple[str, int], ...]
    drawings: int
    canvas_px: int
    natural: int

    @property
    def facts(self) -> list[tuple[str, float, str]]:
        """What there is to read, in order: name, value, unit; numbers without a meaning for this kind are left out."""
        unit = self.unit
        rows = [
            ("preferred angle", unit.orientation_deg, "°"),
            ("preferred radius", unit.radius_px, " px"),
            ("width (FWHM)", unit.fwhm_deg, "°"),
            ("echo at the antipode", unit.echo, ""),
            ("lines over curves", unit.line_ratio, ""),
            ("peak", unit.peak_sigma, " σ"),
        ]
        return [row for row in rows if math.isfinite(row[1])]

    @property
    def null(self) -> str:
        """The null networks in words."""
        return " and ".join(f"{kind} (seed {seed})" for kind, seed in self.nulls)

    def to_json(self) -> dict[str, Any]:
        """The unit's row with what it was compared with."""
        return {
            **self.unit.to_json(),
            "strength": self.strength.to_json(),
            "nulls": [{"kind": kind, "seed": seed} for kind, seed in self.nulls],
            "drawings": self.drawings,
            "canvas_px": self.canvas_px,
            "natural": self.natural,
        }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
