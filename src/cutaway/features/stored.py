"""What an atlas knows already: which stimuli are worth showing again, and exact distributions over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cutaway.features.card import Distribution
from cutaway.networks.network import Network
from cutaway.networks.sites import PATTERN, Site
from cutaway.observe import Observation, stored_observations
from cutaway.stimuli import StimulusSet

PER_INTERVAL = 2
NEEDED = {"top", "intervals", "quantiles", "moments"}


@dataclass(frozen=True)
class Choice:
    """The stimuli of one site's cards: ``shown`` ones, of which ``fair`` ids were drawn without looking."""

    shown: StimulusSet
    fair: frozenset[str]
    note: str = ""


def observed(atlas: Any, network: Network, site: Site, stimuli: StimulusSet) -> Observation | None:
    """The newest finished observation of this site of this network on these very stimuli; None without one."""
    if atlas is None or site.layout == PATTERN:  # a card reads patterns in its own way
        return None
    found = [
        each
        for each in stored_observations(atlas, site=site.name)
        if each.network_fingerprint == network.fingerprint
        and each.stimulus_set_fingerprint == stimuli.fingerprint
        and set(each.reducers) >= NEEDED
    ]
    return found[-1] if found else None


def choose(
    stimuli: StimulusSet, observation: Observation | None, site: Site, units: Sequence[int], most: int, *, seed: int
) -> Choice:
    """At most ``most`` stimuli drawn with ``seed``, and those at which an observation saw something worth showing.

    Without an observation only the drawn ones. Claims are made on the drawn ones; examples come from all.
    """
    drawn = stimuli.take(most, seed=seed)
    fair = frozenset(drawn.ids)
    if observation is None:
        note = f"{len(drawn)} of the set's {len(stimuli)} stimuli were shown, drawn with seed {seed}"
        return Choice(drawn, fair, note if len(drawn) < len(stimuli) else "")
    wanted = fair | _worth_showing(observation, site, units)
    shown = StimulusSet(stimuli.name, [stimulus for stimulus in stimuli if stimulus.id in wanted])
    note = (
        f"examples and distribution are of all {observation.seen} stimuli that the atlas observed; "
        f"firing rate and kinds are of {len(drawn)} drawn with seed {seed}"
    )
    return Choice(shown, fair, note if len(drawn) < len(stimuli) else "")


def _worth_showing(observation: Observation, site: Site, units: Sequence[int]) -> set[str]:
    top, intervals = observation.result(site.name, "top"), observation.result(site.name, "intervals")
    found: set[str] = set()
    for unit in units:
        found |= {example.stimulus for example in top.examples(unit)}
        for interval in intervals.intervals(unit):
            found |= {example.stimulus for example in interval.examples[:PER_INTERVAL]}
    return found


def stored_distribution(
    observation: Observation, site: Site, unit: int, bins: int, shares: Sequence[float]
) -> Distribution:
    """The distribution over all observed positions: moments exact, bins and quantiles within the sketch's 1.5 %."""
    moments, sketch = observation.result(site.name, "moments"), observation.result(site.name, "quantiles")
    low, high = float(moments.min[unit]), float(moments.max[unit])
    edges = np.linspace(low, high, bins + 1) if high > low else np.array([low, high])
    values = np.clip(sketch.values.double().numpy(), low, high)
    weights = sketch.counts[unit].double().numpy()
    counts = np.histogram(values, edges, weights=weights)[0] if high > low else np.array([moments.count])
    quantiles = torch.as_tensor(sketch.quantile(list(shares)))[:, unit].double().clamp(low, high).tolist()
    return Distribution(
        tuple(round(float(count)) for count in counts),
        tuple(edges.tolist()),
        tuple(zip(shares, quantiles)),
        float(moments.mean[unit]),
        float(moments.std[unit]),
        int(moments.count),
    )
