"""When a unit counts as a detector of something: thresholds that were written down before anything was counted.

``docs/decisions/0007-curve-criterion.md`` has the reasons and the date.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cutaway.features.tuning.circular import tiling_gap
from cutaway.features.tuning.summaries import UnitTuning


@dataclass(frozen=True)
class CurveCriterion:
    """A curve detector: excited beyond natural levels, by curves more than by lines, in one direction and not in the
    opposite one, and in the same direction whatever the polarity, the line width, the fill and the nearby radius.
    """

    peak_sigma: float = 2.0
    fwhm_deg: float = 90.0
    echo: float = 0.35
    line_ratio: float = 0.9
    steady: float = 1.0

    def passes(self, unit: UnitTuning) -> bool:
        """True if every threshold holds; a NaN never holds."""
        return (
            unit.peak_sigma > self.peak_sigma
            and unit.fwhm_deg <= self.fwhm_deg
            and unit.echo <= self.echo
            and unit.line_ratio < self.line_ratio
            and unit.steady >= self.steady
        )


@dataclass(frozen=True)
class FamilyTiling:
    """The units that pass, and the widest gap that their preferred angles leave."""

    units: tuple[int, ...]
    gap_deg: float


def tiling(rows: Iterable[UnitTuning], period: float = 360.0) -> FamilyTiling:
    """The family of all units that passed."""
    kept = [row for row in rows if row.passes]
    return FamilyTiling(tuple(row.unit for row in kept), tiling_gap([row.orientation_deg for row in kept], period))
