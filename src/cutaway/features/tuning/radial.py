"""Fine tuning of chosen units: a curve in steps of a degree, at the radius, width and polarity that a unit prefers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from cutaway.features.tuning import circular
from cutaway.features.tuning.responses import natural_scale, respond, view_of
from cutaway.features.tuning.summaries import UnitTuning
from cutaway.networks.network import Network
from cutaway.stimuli import StimulusSet
from cutaway.stimuli.drawings import Canvas, curves

SHIFT = 1 / 8  # of the receptive field: how far a drawing is moved to see whether its place matters


@dataclass(frozen=True, eq=False)
class RadialTuning:
    """A unit's answers (natural sigma) to its preferred curve in every direction, and to the best one out of place.

    ``position`` is the smallest answer to the preferred curve, moved by an eighth of the receptive field to each of
    four sides, over the answer to it in place: 1 where place does not matter.
    """

    unit: int
    degrees: Float[np.ndarray, " angle"]
    sigma: Float[np.ndarray, " angle"]
    preferred_deg: float
    fwhm_deg: float
    echo: float
    position: float

    def to_json(self) -> dict[str, Any]:
        """JSON values; NaN becomes None."""
        numbers = {name: getattr(self, name) for name in ("preferred_deg", "fwhm_deg", "echo", "position")}
        plain = {name: None if np.isnan(value) else value for name, value in numbers.items()}
        return {"unit": self.unit, "degrees": self.degrees.tolist(), "sigma": self.sigma.tolist(), **plain}


def radial_tuning(
    network: Network,
    site: str,
    rows: Sequence[UnitTuning],
    *,
    step_deg: float | int = 1,
    stimuli: StimulusSet | None = None,
    seed: int = 0,
) -> tuple[RadialTuning, ...]:
    """The tuning of these units (rows of a curve :class:`Tuning`) over directions ``step_deg`` apart."""
    view = view_of(network, site)
    scale = natural_scale(network, site, stimuli, seed=seed)
    found = []
    for row in rows:
        best = row.best
        drawn = curves(
            view.canvas.size, orientations=round(360 / step_deg), radii_px=(best["radius_px"],),
            widths_px=(max(best["width_px"], 1.5),), polarities=(best["polarity"],), filled=best["fill"] > 0,
        )  # fmt: skip
        drawn = drawn.where(drawn.columns["fill"] == best["fill"])
        sigma = scale.sigma(respond(network, site, drawn, view))[[row.unit]]
        curve = np.maximum(sigma, 0)
        one = drawn.where(np.arange(len(drawn)) == int(curve[0].argmax()))
        here, *moved = (
            float(respond(network, site, one, replace(view, canvas=canvas, window=0))[row.unit, 0])
            for canvas in _places(view.canvas, view.field_px * SHIFT)
        )
        found.append(
            RadialTuning(
                row.unit, drawn.columns["orientation_deg"], sigma[0], float(circular.preferred(curve)[0]),
                float(circular.fwhm(curve)[0]), float(circular.echo(curve)[0]),
                max(min(moved), 0.0) / here if here > 0 else float("nan"),
            )
        )  # fmt: skip
    return tuple(found)


def _places(canvas: Canvas, shift: float) -> list[Canvas]:
    """The canvas with its origin in place, then moved up, down, left and right."""
    row, column = canvas.centre or ((canvas.size - 1) / 2, (canvas.size - 1) / 2)
    steps = [(0.0, 0.0), (-shift, 0.0), (shift, 0.0), (0.0, -shift), (0.0, shift)]
    return [Canvas(canvas.size, (row + down, column + right)) for down, right in steps]
