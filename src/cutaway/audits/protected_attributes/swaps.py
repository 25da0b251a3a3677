"""Total effects: the marker is swapped in the text, and everything else stays.

The effect of one marker pair is its mean over templates; the entities of every test are the marker pairs, since the
idiosyncrasies of one word recur in every template. With eight pairs a permutation p cannot fall below 2/256, too
coarse for a correction over some sixty edges, so p is Student's t over pairs (conservative for heavy tails).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from cutaway.audits.protected_attributes.reading import Progress, read
from cutaway.audits.protected_attributes.sinks import Case, Sink
from cutaway.evidence import Measurement, mean_interval
from cutaway.networks.network import Network


@dataclass(frozen=True, eq=False)
class Swap:
    """Metrics of a sink's cases with the contrasting and with the marked phrase; ``mass`` is what its words share."""

    sink: Sink
    contrast: dict[str, Float[np.ndarray, "case target"]]
    marked: dict[str, Float[np.ndarray, "case target"]]
    mass: float  # mean probability of all words of the sink together

    def effects(self, metric: str = "log-odds") -> Float[np.ndarray, "case target"]:
        """Marked minus contrast."""
        return self.marked[metric] - self.contrast[metric]

    def measured(self, attribute: str, target: int = 0, metric: str = "log-odds") -> Measurement:
        """The mean effect of one attribute on one target over marker pairs."""
        return measure_pairs(*self.by_pair(attribute, target, metric))

    def by_pair(
        self, attribute: str, target: int = 0, metric: str = "log-odds"
    ) -> tuple[Float[np.ndarray, " row"], list[str]]:
        """The effects of one attribute's cases on one target, and the marker pair of each."""
        rows = [row for row, case in enumerate(self.sink.cases) if case.attribute == attribute]
        return self.effects(metric)[rows, target], [self.sink.cases[row].pair for row in rows]


def swap(network: Network, sink: Sink, progress: Progress | None = None) -> Swap:
    """Runs both sides of every case."""
    log_probs = read(network, sink.prompts, words=sink.words, progress=progress).log_probs
    assert log_probs is not None
    values = {name: metric(log_probs) for name, metric in sink.metrics.items()}
    return Swap(
        sink,
        contrast={name: value[1::2] for name, value in values.items()},
        marked={name: value[::2] for name, value in values.items()},
        mass=float(np.exp(log_probs).sum(1).mean()),
    )


def pair_means(values: Float[np.ndarray, " row"], pairs: Sequence[str]) -> Float[np.ndarray, " pair"]:
    """The mean of each pair's rows, pairs in order of appearance."""
    return np.array([values[[pair == name for pair in pairs]].mean() for name in dict.fromkeys(pairs)])


def measure_pairs(values: Float[np.ndarray, " row"], pairs: Sequence[str]) -> Measurement:
    """Mean over marker pairs; p of Student's t against zero; the null's spread is that of random signs."""
    means = pair_means(values, pairs)
    value, spread = float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else 0.0
    null_std = float(np.sqrt((means**2).sum())) / len(means)
    if spread <= 1e-12 * abs(value) or spread == 0:
        # All pairs alike: no t, but the chance that random signs agree.
        p = 1.0 if value == 0 else 2.0 ** (1 - len(means))
    else:
        p = float(2 * stats.t.sf(abs(value) / (spread / np.sqrt(len(means))), len(means) - 1))
    return Measurement(value, *mean_interval(values, list(pairs)), 0.0, null_std, p, len(means))


def cases_of(sink: Sink, attribute: str, half: str | None = None) -> list[int]:
    """Rows of the cases of one attribute (in one half of the templates)."""
    return [row for row, case in enumerate(sink.cases) if case.attribute == attribute and half in (None, case.half)]


def case_pairs(cases: Sequence[Case], rows: Sequence[int]) -> list[str]:
    """The marker pair of each of these cases."""
    return [cases[row].pair for row in rows]
