"""Two workloads, timed alternately in one process: their ratio with an interval, free of slow drifts."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """``ratio`` = median over rounds of time(new) / time(base); low, high its 95 % bootstrap interval."""

    ratio: float
    low: float
    high: float
    base_seconds: float
    new_seconds: float
    rounds: int


def paired(base: Callable[[], object], new: Callable[[], object], *, rounds: int, warm_up: int = 1) -> Ratio:
    """Times both workloads ``rounds`` times, in alternating order, after ``warm_up`` rounds that do not count."""
    for _ in range(warm_up):
        base(), new()
    times = np.array([_round(base, new, swapped=bool(index % 2)) for index in range(rounds)])
    ratios = times[:, 1] / times[:, 0]
    rows = np.random.default_rng(0).integers(0, rounds, (2000, rounds))
    low, high = np.percentile(np.median(ratios[rows], axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high), *map(float, np.median(times, axis=0)), rounds)


def _round(base: Callable[[], object], new: Callable[[], object], *, swapped: bool) -> tuple[float, float]:
    if swapped:
        second = _timed(new)
        return _timed(base), second
    return _timed(base), _timed(new)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_megabytes() -> float:
    """The largest resident size of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
