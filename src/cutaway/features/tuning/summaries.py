"""From responses to what a reader wants to know of each unit: what it prefers, how sharply, and how steadily."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from cutaway.features.tuning import circular
from cutaway.stimuli.drawings import Drawings

STEADY_DEG = 45.0  # preferred angles of two slices agree if they are at most so far apart (half that for period 180)
COSMETIC = ("polarity", "width_px", "fill", "chroma", "phase_deg", "cue")  # what a detector of shape may ignore
NAN = float("nan")


@dataclass(frozen=True)
class UnitTuning:
    """How one unit of a site answers to one kind of drawing.

    ``peak_sigma`` is the strongest response in natural standard deviations above the natural mean, at the drawing
    that ``best`` describes. For drawings that turn: the preferred angle and the width, echo and circular variance of
    the tuning curve over angles (mean over all other parameters but ``radius_px`` or its like, held at its best);
    ``coherence`` (natural sigma) is the amplitude of the angular harmonic of the mean over all slices, ``steady`` the
    share of parameters whose every value prefers the same angle within 45 degrees. ``line_ratio`` is the peak to
    straight lines and edges over the peak to curves. ``p`` compares ``coherence`` (``peak_sigma`` where nothing turns)
    with all units of the null networks. ``invariance`` has, for each parameter that should not matter (polarity, width,
    fill, ink), the peak at its worst value over the peak at its best one. NaN where a number has no meaning.
    """

    unit: int
    kind: str
    peak_sigma: float
    orientation_deg: float = NAN
    radius_px: float = NAN
    fwhm_deg: float = NAN
    echo: float = NAN
    circular_variance: float = NAN
    line_ratio: float = NAN
    coherence: float = NAN
    steady: float = NAN
    p: float = NAN
    passes: bool | None = None
    best: Mapping[str, float] = field(default_factory=dict)
    invariance: Mapping[str, float] = field(default_factory=dict)

    @property
    def strength(self) -> float:
        """What ``p`` compares: ``coherence``, or ``peak_sigma`` for drawings that do not turn; natural sigma."""
        return self.peak_sigma if np.isnan(self.coherence) else self.coherence

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; NaN becomes None."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["best"] = dict(self.best)
        plain["invariance"] = {name: None if np.isnan(v) else v for name, v in self.invariance.items()}
        return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in plain.items()}


def summarise(
    drawings: Drawings,
    sigma: Float[np.ndarray, "unit drawing"],
    line_sigma: Float[np.ndarray, "unit line"] | None = None,
) -> tuple[UnitTuning, ...]:
    """What each unit prefers among the drawings; ``line_sigma`` are its responses to straight lines and edges."""
    peaks, places = sigma.max(1), sigma.argmax(1)
    bests = [{name: float(column[place]) for name, column in drawings.columns.items()} for place in places]
    ratios = invariance(drawings, sigma)
    rows = [
        UnitTuning(
            unit, drawings.kind, float(peak), radius_px=best.get("radius_px", NAN), best=best,
            invariance={name: float(values[unit]) for name, values in ratios.items()},
        )
        for unit, (peak, best) in enumerate(zip(peaks, bests))
    ]  # fmt: skip
    if not drawings.angle:
        return tuple(rows)
    numbers = _turning(drawings, sigma)
    if line_sigma is not None:
        straight = np.maximum(line_sigma.max(1), 0)
        numbers["line_ratio"] = np.divide(straight, peaks, out=np.full(len(peaks), np.nan), where=peaks > 0)
    return tuple(
        UnitTuning(**{**row.__dict__, **{name: float(values[row.unit]) for name, values in numbers.items()}})
        for row in rows
    )


def invariance(drawings: Drawings, sigma: Float[np.ndarray, "unit drawing"]) -> dict[str, Float[np.ndarray, " unit"]]:
    """The peak at the worst value of each cosmetic parameter over that at its best: 1 invariant, 0 selective."""
    found = {}
    for name in COSMETIC:
        levels = np.unique(drawings.columns.get(name, ()))
        if len(levels) > 1:
            peaks = np.stack([sigma[:, drawings.columns[name] == level].max(1) for level in levels])
            low, high = np.maximum(peaks.min(0), 0), peaks.max(0)
            found[name] = np.divide(low, high, out=np.full(len(high), np.nan), where=high > 0)
    return found


def _turning(drawings: Drawings, sigma: np.ndarray) -> dict[str, np.ndarray]:
    """Angle, width, echo, circular variance, coherence, steadiness and best radius of every unit."""
    grid = Grid.of(drawings, sigma)
    period = drawings.period
    held, chosen = grid.at_best_scale()
    numbers = {
        "orientation_deg": circular.preferred(held, period),
        "fwhm_deg": circular.fwhm(held, period),
        "circular_variance": circular.circular_variance(held),
        # Angles are equally spaced over one period, so the first harmonic is once per period.
        "coherence": np.abs(circular.harmonic(grid.values.mean(1))),
        "steady": grid.steadiness(held, period),
    }
    if period == 360:
        numbers["echo"] = circular.echo(held)
    if grid.scale == "radius_px":
        numbers["radius_px"] = chosen
    return numbers


@dataclass(frozen=True, eq=False)
class Grid:
    """Responses by slice (a combination of all parameters but the angle) and angle; ``slices`` are their parameters."""

    values: Float[np.ndarray, "unit slice angle"]
    slices: Mapping[str, Float[np.ndarray, " slice"]]
    scale: str  # the parameter that is held at its best: radius, period, ratio; "" without one

    @classmethod
    def of(cls, drawings: Drawings, sigma: np.ndarray) -> "Grid":
        """The responses reordered; every slice must hold every angle once."""
        names = [name for name in drawings.columns if name != drawings.angle]
        angles = np.unique(drawings.columns[drawings.angle])
        keys = [*(drawings.columns[name] for name in reversed(names))]
        order = np.lexsort((drawings.columns[drawings.angle], *keys))
        values = sigma[:, order].reshape(len(sigma), -1, len(angles))
        firsts = order[:: len(angles)]
        slices = {name: drawings.columns[name][firsts] for name in names}
        varied = [name for name in ("radius_px", "period_px", "ratio", "turn_deg", "hue_deg") if name in slices]
        scale = next((name for name in varied if len(np.unique(slices[name])) > 1), "")
        return cls(values, slices, scale)

    def at_best_scale(self) -> tuple[Float[np.ndarray, "unit angle"], Float[np.ndarray, " unit"]]:
        """Each unit's tuning curve at the scale where its mean over the other parameters peaks, and that scale."""
        if not self.scale:
            return self.values.mean(1), np.full(len(self.values), np.nan)
        levels = np.unique(self.slices[self.scale])
        by_scale = np.stack([self.values[:, self.slices[self.scale] == level].mean(1) for level in levels], 1)
        best = by_scale.max(2).argmax(1)
        return by_scale[np.arange(len(best)), best], levels[best]

    def steadiness(self, held: Float[np.ndarray, "unit angle"], period: float) -> Float[np.ndarray, " unit"]:
        """The share of parameters (with several values) whose every value, at the unit's best scale or next to it,
        prefers an angle within 45 degrees (22.5 for period 180) of the unit's preferred one.
        """
        target = circular.preferred(held, period)
        kept = []
        for name, column in self.slices.items():
            levels = np.unique(column)
            if len(levels) < 2:
                continue
            curves = [self._near_best(name, level) for level in levels] if name != self.scale else self._neighbours()
            angles = np.stack([circular.preferred(curve, period) for curve in curves])
            gap = circular.distance(angles, target[None], period)
            kept.append((np.nan_to_num(gap, nan=period) <= STEADY_DEG * period / 360).all(0))
        return np.mean(kept, axis=0) if kept else np.full(len(held), np.nan)

    def _near_best(self, name: str, level: np.floating) -> Float[np.ndarray, "unit angle"]:
        """The tuning curve at the best scale among slices with this value of a parameter."""
        chosen = self.slices[name] == level
        if not self.scale:
            return self.values[:, chosen].mean(1)
        _, best = self.at_best_scale()
        at_scale = chosen[None] & (self.slices[self.scale][None] == best[:, None])
        weights = at_scale / np.maximum(at_scale.sum(1, keepdims=True), 1)
        return np.einsum("us,usa->ua", weights, self.values)

    def _neighbours(self) -> list[Float[np.ndarray, "unit angle"]]:
        """The tuning curves at the scales next to each unit's best one (the best itself at an end)."""
        levels = np.unique(self.slices[self.scale])
        by_scale = np.stack([self.values[:, self.slices[self.scale] == level].mean(1) for level in levels], 1)
        _, best = self.at_best_scale()
        index = np.searchsorted(levels, best)
        units = np.arange(len(index))
        return [by_scale[units, np.clip(index + step, 0, len(levels) - 1)] for step in (-1, 1)]
