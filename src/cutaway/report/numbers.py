"""Numbers as a reader sees them: three significant digits, a true minus sign, intervals and nulls always in the
same words.
"""

import math

from cutaway.evidence.measurement import Measurement

UNMEASURED = "–"
_PLAIN_FROM, _PLAIN_TO = 1e-3, 1e6  # outside of these a number is written with an exponent


def number(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits: ``0.500``, ``12.3``, ``−1,230``, ``1.20e−5``; NaN is a dash."""
    if math.isnan(value):
        return UNMEASURED
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{digits - 1}e}"
    mantissa, exponent = text.split("e")
    if value == 0:
        return "0"
    rounded = float(text)  # 999.7 rounds to 1,000: the place of the first digit is read after rounding
    if not _PLAIN_FROM <= abs(rounded) < _PLAIN_TO:
        return _minus(f"{mantissa}e{int(exponent)}")
    return _fixed(rounded, _decimals(rounded, digits))


def count(value: int) -> str:
    """A whole number in full, with separated thousands: ``134,515,008``."""
    return _minus(f"{value:,}")


def share(value: float) -> str:
    """A share in [0, 1] as a percentage with three significant digits: ``12.3 %``."""
    return UNMEASURED if math.isnan(value) else f"{number(100 * value)} %"


def probability(value: float) -> str:
    """A p-value with two significant digits: ``0.0025``."""
    return number(value, 2) if math.isnan(value) or value >= 1e-3 else _minus(f"{value:.1e}".replace("e-0", "e-"))


def estimate(measurement: Measurement) -> str:
    """The value and its interval: ``0.412 [0.385, 0.441]``; the value alone where no interval was measured.

    All three have the decimals that give the largest of them three significant digits, since a value is known no
    finer than its interval.
    """
    parts = (measurement.value, measurement.low, measurement.high)
    if math.isnan(measurement.low) and math.isnan(measurement.high):
        return number(measurement.value)
    largest = max((abs(part) for part in parts if math.isfinite(part)), default=0.0)
    if _PLAIN_FROM <= largest < _PLAIN_TO:
        value, low, high = (_fixed(part, _decimals(largest, 3)) for part in parts)
    else:
        value, low, high = (number(part) for part in parts)
    return f"{value} [{low}, {high}]"


def context(measurement: Measurement) -> str:
    """What the value is held against: ``null 0.003 ± 0.021, p = 0.0025, n = 60``; empty if nothing was measured."""
    parts = []
    if not math.isnan(measurement.null_mean):
        parts.append(f"null {_null(measurement.null_mean, measurement.null_std)}")
    if not math.isnan(measurement.p):
        parts.append(f"p = {probability(measurement.p)}")
    if measurement.n:
        parts.append(f"n = {count(measurement.n)}")
    return ", ".join(parts)


def measured(measurement: Measurement) -> str:
    """A whole measurement on one line: ``0.412 [0.385, 0.441]; null 0.003 ± 0.021, p = 0.0025, n = 60``."""
    return "; ".join(part for part in (estimate(measurement), context(measurement)) if part)


def duration(seconds: float) -> str:
    """A time span in the units of a person: ``4.2 s``, ``13 min 32 s``, ``2 h 05 min``."""
    if seconds < 0.1:
        return "< 0.1 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def _null(mean: float, std: float) -> str:
    """The mean with the decimals of its spread, which has two significant digits."""
    if not _PLAIN_FROM <= std < _PLAIN_TO:  # no spread, none that was measured, or one that needs an exponent
        return number(mean) + ("" if math.isnan(std) else f" ± {number(std, 2)}")
    return f"{_fixed(mean, _decimals(std, 2))} ± {_fixed(std, _decimals(std, 2))}"


def _decimals(value: float, digits: int) -> int:
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


def _fixed(value: float, decimals: int) -> str:
    if not math.isfinite(value):
        return number(value)
    return _minus(f"{round(value, decimals) + 0.0:,.{decimals}f}")  # + 0.0 turns -0.0 into 0.0


def _minus(text: str) -> str:
    return text.replace("-", "−")
