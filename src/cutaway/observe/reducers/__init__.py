"""Mergeable summaries of activations. Importing this package enters them in ``cutaway.registry.REDUCERS``."""

from cutaway.observe.reducers.base import Example, Reducer, State
from cutaway.observe.reducers.coactivation import CoActivation, CoActivations
from cutaway.observe.reducers.firing import Firing, FiringRates
from cutaway.observe.reducers.intervals import Interval, IntervalExamples, Intervals
from cutaway.observe.reducers.moments import Moments, MomentsResult
from cutaway.observe.reducers.quantiles import Quantiles, QuantileSketch
from cutaway.observe.reducers.top import Top, TopExamples

__all__ = [
    "CoActivation",
    "CoActivations",
    "Example",
    "Firing",
    "FiringRates",
    "Interval",
    "IntervalExamples",
    "Intervals",
    "Moments",
    "MomentsResult",
    "QuantileSketch",
    "Quantiles",
    "Reducer",
    "State",
    "Top",
    "TopExamples",
]
