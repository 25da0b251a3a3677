"""Total effects: the marker is swapped in the text, and everything else stays.

The effect of one marker pair is its mean over templates; the entities of every test are the marker pairs, since the
idiosyncrasies of one word recur in every template. With eight pairs a permutation p cannot fall below 2/256, too
coarse for a correction over many edges, so p is that of a t over pairs; where many edges are screened at once, of the
moderated t.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import Float
from scipy import optimize, special, stats

from cutaway.audits.protected_attributes.reading import Progress, read
from cutaway.audits.protected_attributes.sinks import Case, Markers, Sink
from cutaway.errors import BadInput
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

    def measured(self, markers: Markers, target: int = 0, metric: str = "log-odds") -> Measurement:
        """The mean effect of an attribute on one target over marker pairs."""
        return measure_pairs(*self.by_pair(markers, target, metric))

    def by_pair(
        self, markers: Markers, target: int = 0, metric: str = "log-odds"
    ) -> tuple[Float[np.ndarray, " row"], list[str]]:
        """The effects of an attribute's cases on one target, and the marker pair of each."""
        rows = cases_of(self.sink, markers)
        return self.effects(metric)[rows, target], case_pairs(self.sink.cases, rows)


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


def moderated_p(means: Sequence[Float[np.ndarray, "..."]]) -> Float[np.ndarray, " test"]:
    """p of each test's mean against zero, by the t-test that borrows its variance from all tests (Smyth 2004).

    ``means`` are the marker pairs' means of each test, equally many for all. With four or eight pairs a variance of
    one's own is a coin toss. The prior (d0 degrees of freedom around s0^2) is fitted to the variances of all tests by
    the moments of their logarithm; where they differ by more than chance, d0 is small and little is borrowed.
    """
    values = np.stack(list(means))
    count = values.shape[1]
    if count < 2:
        raise BadInput(f"A t-test needs two marker pairs, found {count}.")
    own_df, own = count - 1, np.maximum(values.var(axis=1, ddof=1), 1e-12)
    prior_df, prior = _variance_prior(own, own_df)
    if np.isinf(prior_df):
        variance = np.full_like(own, prior)
    else:
        variance = own if prior_df == 0 else (prior_df * prior + own_df * own) / (prior_df + own_df)
    t = values.mean(axis=1) / np.sqrt(variance / count)
    df = min(prior_df + own_df, own_df * len(values))
    return 2 * stats.t.sf(np.abs(t), df)


def _variance_prior(variances: Float[np.ndarray, " test"], df: int) -> tuple[float, float]:
    """d0 and s0^2 of a scaled inverse chi-square prior (limma's fitFDist); d0 is inf if variances differ by chance."""
    if len(variances) < 3:
        return 0.0, float("nan")
    logs = np.log(variances) - special.digamma(df / 2) + np.log(df / 2)
    excess = logs.var(ddof=1) - special.polygamma(1, df / 2)
    if excess <= 0:
        return float("inf"), float(np.exp(logs.mean()))
    half = cast(float, optimize.brentq(lambda x: float(special.polygamma(1, x)) - excess, 1e-6, 1e9))
    return 2 * half, float(np.exp(logs.mean() + special.digamma(half) - np.log(half)))


def cases_of(sink: Sink, markers: Markers, half: str | None = None) -> list[int]:
    """Rows of the cases with these markers (in one half of the templates)."""
    return [row for row, case in enumerate(sink.cases) if markers.include(case) and half in (None, case.half)]


def case_pairs(cases: Sequence[Case], rows: Sequence[int]) -> list[str]:
    """The marker pair of each of these cases."""
    return [cases[row].pair for row in rows]
