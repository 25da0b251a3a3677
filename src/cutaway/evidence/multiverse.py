"""One question, asked under every defensible specification: does the answer depend on choices nobody would
defend?

Steegen, Tuerlinckx, Gelman and Vanpaemel (2016). An axis is a choice with equally defensible values (what
ablated units are set to, which half of the templates, which metric, which seed); the specifications are all
combinations.
"""

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence.measurement import Measurement

MINIMUM = 24


@dataclass(frozen=True)
class Specification(Mapping[str, Hashable]):
    """One value for every axis; reads like a mapping: ``spec["ablation"]``."""

    choices: tuple[tuple[str, Hashable], ...]

    def __getitem__(self, axis: str) -> Hashable:
        """The value chosen on ``axis``."""
        return dict(self.choices)[axis]

    def __iter__(self) -> Iterator[str]:
        """The axes, in the order given."""
        return (axis for axis, _ in self.choices)

    def __len__(self) -> int:
        """Number of axes."""
        return len(self.choices)

    def __str__(self) -> str:
        return ", ".join(f"{axis}={value}" for axis, value in self.choices)


@dataclass(frozen=True)
class SpecResult:
    """What one specification gave: a measurement, or the reason why it could not be tested."""

    specification: Specification
    measurement: Measurement | None
    reason: str = ""

    @property
    def sign(self) -> int:
        """-1, 0 or 1; 0 also for a specification that failed or gave NaN."""
        if self.measurement is None or not self.measurement.value:
            return 0
        return 0 if math.isnan(self.measurement.value) else int(math.copysign(1, self.measurement.value))


def specifications(*, minimum: int = MINIMUM, **axes: Sequence[Hashable]) -> tuple[Specification, ...]:
    """Combinations of the axes' values; :class:`BadInput` for fewer than ``minimum`` (24 for an audit)."""
    for axis, values in axes.items():
        if len(values) == 0 or len(set(values)) != len(values):
            raise BadInput(f"Axis {axis!r} needs distinct values, found {list(values)}.")
    crossed = tuple(Specification(tuple(zip(axes, chosen))) for chosen in itertools.product(*axes.values()))
    if len(crossed) < minimum:
        raise BadInput(f"{len(crossed)} specifications, but a verdict needs {minimum}; add values or axes.")
    return crossed


@dataclass(frozen=True)
class Multiverse:
    """All answers to one question. Shares are over all specifications, so one that failed counts against the
    claim.
    """

    results: tuple[SpecResult, ...]
    alpha: float = 0.05

    @property
    def failed(self) -> tuple[SpecResult, ...]:
        """Specifications without an answer, with their reasons."""
        return tuple(result for result in self.results if result.measurement is None)

    @cached_property
    def values(self) -> tuple[float, ...]:
        """Finite values, in order of specification."""
        found = (result.measurement.value for result in self.results if result.measurement is not None)
        return tuple(value for value in found if math.isfinite(value))

    @property
    def sign(self) -> int:
        """Sign of most answers; 0 if neither leads."""
        return int(np.sign(sum(result.sign for result in self.results)))

    @property
    def sign_agreement(self) -> float:
        """Share of specifications with the majority's sign, 0 to 1."""
        signs = [result.sign for result in self.results]
        return max(signs.count(1), signs.count(-1)) / len(signs)

    @property
    def share_significant(self) -> float:
        """Share of specifications with the majority's sign and p <= alpha (p as measured, not corrected)."""
        return sum(self._significant(result) for result in self.results) / len(self.results)

    def _significant(self, result: SpecResult) -> bool:
        return result.measurement is not None and result.measurement.p <= self.alpha and result.sign == self.sign != 0

    @property
    def median(self) -> float:
        """Median value; NaN if every specification failed."""
        return float(np.median(self.values)) if self.values else math.nan

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value: a span of choices, not a confidence interval."""
        return (min(self.values), max(self.values)) if self.values else (math.nan, math.nan)

    def medians(self, axis: str) -> dict[Hashable, float]:
        """Median value for each choice on ``axis``; NaN where all failed."""
        by_choice: dict[Hashable, list[float]] = {}
        for result in self.results:
            mine = by_choice.setdefault(result.specification[axis], [])
            if result.measurement is not None and math.isfinite(result.measurement.value):
                mine.append(result.measurement.value)
        return {choice: float(np.median(found)) if found else math.nan for choice, found in by_choice.items()}

    @property
    def spread(self) -> dict[str, float]:
        """How much each axis matters: largest minus smallest median over its choices, in the value's unit."""
        medians = {axis: list(self.medians(axis).values()) for axis in self.results[0].specification}
        return {
            axis: float(np.nanmax(found) - np.nanmin(found)) if not np.isnan(found).all() else math.nan
            for axis, found in medians.items()
        }

    def __str__(self) -> str:
        low, high = self.range
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return (
            f"{len(self.results)} specifications{failed}: median {self.median:.3g} [{low:.3g}, {high:.3g}], "
            f"sign agreement {self.sign_agreement:.0%}, significant {self.share_significant:.0%}"
        )


def run_multiverse(
    question: Callable[[Specification], Measurement],
    specs: Sequence[Specification],
    *,
    alpha: float = 0.05,
    on_result: Callable[[SpecResult], None] | None = None,
) -> Multiverse:
    """Ask ``question`` under each specification; one that raises :class:`NotTestable` counts as failed.

    ``on_result`` hears each answer as it comes (for a progress bar). Any other error stops the run: it is a
    defect, not an answer.
    """
    if not specs:
        raise BadInput("No specifications to run; make them with specifications(axis=[...], ...).")
    results: list[SpecResult] = []
    for spec in specs:
        try:
            results.append(SpecResult(spec, question(spec)))
        except NotTestable as reason:
            results.append(SpecResult(spec, None, str(reason)))
        if on_result is not None:
            on_result(results[-1])
    return Multiverse(tuple(results), alpha)
