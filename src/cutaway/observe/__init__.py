"""Stream stimuli through a network once, and keep what mergeable reducers make of its activations.

What enters: a network, a set of stimuli, the names of sites, an atlas. What leaves: an :class:`Observation`, whose
results (moments, quantiles, firing rates, top examples, examples of every activation level, co-activation on demand)
lie in the atlas. What is promised: memory does not grow with the number of stimuli; a process that is killed loses at
most the batch in flight, and the same call goes on from there; several processes may share the work; the same call
made again runs nothing; a damaged file is noticed, named and recomputed.
"""

from cutaway.observe.observation import Observation, observation_of, stored_observations
from cutaway.observe.positions import Positions, as_positions, decode_place
from cutaway.observe.reducers import (
    CoActivation,
    CoActivations,
    Example,
    Firing,
    FiringRates,
    Interval,
    IntervalExamples,
    Intervals,
    Moments,
    MomentsResult,
    Quantiles,
    QuantileSketch,
    Reducer,
    Top,
    TopExamples,
)
from cutaway.observe.stream import DEFAULT, observe

__all__ = [
    "DEFAULT",
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
    "Observation",
    "Positions",
    "QuantileSketch",
    "Quantiles",
    "Reducer",
    "Top",
    "TopExamples",
    "as_positions",
    "decode_place",
    "observation_of",
    "observe",
    "stored_observations",
]
