"""Where a dot, its interval and its null band stand on an axis: geometry only, the template draws it."""

import math
from dataclasses import dataclass

from cutaway.evidence.measurement import Measurement
from cutaway.report.numbers import UNMEASURED

NORMAL_95 = 1.959964  # half-width of the null band in standard deviations: the central 95 % of a normal null
LEFT, RIGHT = 72.0, 362.0  # where the axis begins and ends, in the drawing's own units
WIDTH = 380.0
_STEPS = (1.0, 2.0, 5.0, 10.0)
_INTERVALS_WANTED = 6


@dataclass(frozen=True)
class Axis:
    """A linear scale from ``low`` .. ``high`` onto LEFT .. RIGHT."""

    low: float
    high: float
    step: float

    def x(self, value: float) -> float:
        """The horizontal place of ``value``."""
        return LEFT + (value - self.low) / (self.high - self.low) * (RIGHT - LEFT)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels of the ticks, left to right."""
        number = round((self.high - self.low) / self.step)
        values = [self.low + i * self.step for i in range(number + 1)]
        return [(self.x(value), _label(value, self.step)) for value in values]


@dataclass(frozen=True)
class IntervalPlot:
    """A measurement on its axis; places are horizontal, None marks what was not measured."""

    axis: Axis
    value: float
    interval: tuple[float, float] | None
    null: float | None
    band: tuple[float, float] | None


def interval_plot(measurement: Measurement) -> IntervalPlot | None:
    """The plot of a measurement; None if its value is no finite number, or if it stands alone (no interval, no null).

    The axis spans the value, the interval and the null's central 95 % (mean ± 1.96 standard deviations), widened
    to whole ticks.
    """
    if not math.isfinite(measurement.value):
        return None
    interval = _finite_pair(measurement.low, measurement.high)
    reach = NORMAL_95 * measurement.null_std
    band = _finite_pair(measurement.null_mean - reach, measurement.null_mean + reach)
    null = measurement.null_mean if math.isfinite(measurement.null_mean) else None
    if interval is None and null is None:
        return None
    shown = [measurement.value, *(interval or ()), *(band or ()), *([] if null is None else [null])]
    axis = axis_over(min(shown), max(shown))
    return IntervalPlot(
        axis,
        axis.x(measurement.value),
        None if interval is None else (axis.x(interval[0]), axis.x(interval[1])),
        None if null is None else axis.x(null),
        None if band is None else (axis.x(band[0]), axis.x(band[1])),
    )


def axis_over(low: float, high: float) -> Axis:
    """The shortest axis of whole ticks (1, 2 or 5 times a power of ten) that spans ``low`` .. ``high``."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # one point, or a spread that floats cannot divide
        room = abs(high) / 2 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / _INTERVALS_WANTED
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in _STEPS if s * power >= rough * (1 - 1e-9))
    # A hair of tolerance, so that 0.6 / 0.2 = 2.9999999999999996 does not open another interval.
    return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step)


def _finite_pair(low: float, high: float) -> tuple[float, float] | None:
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _label(value: float, step: float) -> str:
    if math.isnan(value):
        return UNMEASURED
    if abs(value) < step / 1e6:
        return "0"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    text = f"{value:,.{decimals}f}" if decimals <= 5 and abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("-", "−")
