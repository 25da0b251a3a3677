"""The only currency for claims: a number with its interval, its null distribution, its sample size and its
seed.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """A measured number and what is needed to believe it.

    ``low`` and ``high`` bound a 95 % interval unless the measuring function says otherwise; ``null_mean`` and
    ``null_std`` describe the same statistic under the null that the measuring function names; ``p`` is a
    permutation p-value in (0, 1]; ``n`` counts independent entities, not rows. A field that was not measured
    is NaN, never 0.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    null_mean: float = math.nan
    null_std: float = math.nan
    p: float = math.nan
    n: int = 0
    seed: int = 0

    @property
    def z(self) -> float:
        """Distance from the null's mean in its standard deviations; NaN without a null, +-inf for a constant
        one.
        """
        if math.isnan(self.null_std):
            return math.nan
        distance = self.value - self.null_mean
        if self.null_std == 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / self.null_std

    def to_json(self) -> dict[str, float | int | None]:
        """The eight fields as JSON values; what was not measured (NaN) becomes null."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, fields: dict[str, float | int | None]) -> "Measurement":
        """The inverse of :meth:`to_json`."""
        counts: dict[str, Any] = {key: int(fields[key] or 0) for key in ("n", "seed") if key in fields}
        numbers = {
            key: math.nan if value is None else float(value) for key, value in fields.items() if key not in counts
        }
        return cls(**numbers, **counts)

    def __str__(self) -> str:
        interval = "" if math.isnan(self.low) else f" [{self.low:.3g}, {self.high:.3g}]"
        null = "" if math.isnan(self.null_mean) else f", null {self.null_mean:.3g} +- {self.null_std:.2g}"
        p = "" if math.isnan(self.p) else f", p = {self.p:.2g}"
        return f"{self.value:.3g}{interval}{null}{p} (n = {self.n})"
