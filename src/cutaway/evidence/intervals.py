"""95 % intervals whose unit of resampling is the independent entity (a template, a marker), never the row.

Each statistic has the method whose coverage the room's property tests measure as 95 +- 2 %:

    mean, difference   the farther ends of bootstrap-t over entities (Efron 1981; Hall 1988) and Student's t. The
                       percentile and BCa bootstrap cover 92-93 % for the mean of 30 exponential values;
                       bootstrap-t alone covers 92-93 % for a difference of two of them, the pair 94-96 %
    AUROC              delete-one-entity jackknife on the logit scale with Student's t (after Obuchowski 1997)
    proportion         Wilson's score interval
    rank correlation   Bonett and Wright (2000) on Fisher's scale
    any other          BCa (Efron 1987), from scipy.stats.bootstrap
"""

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from scipy.special import expit, logit

from cutaway.errors import BadInput
from cutaway.evidence._arrays import Names, Numbers, as_codes, as_labels, as_numbers, as_stratum
from cutaway.evidence.scores import concordant_pairs, midranks_within, pairs_by_cell

RESAMPLES = 2000
FEW_ENTITIES = 8  # below, the bootstrap has too few distinct resamples and Student's t takes over


class Interval(NamedTuple):
    """The two ends; both NaN where the data cannot bound the statistic (for example one entity only)."""

    low: float
    high: float


UNBOUNDED = Interval(np.nan, np.nan)


class ClusterSums(NamedTuple):
    """Sum and number of rows of each entity: all that the mean over rows and its error need."""

    sums: Float[np.ndarray, " entity"]
    sizes: Float[np.ndarray, " entity"]

    @property
    def mean(self) -> float:
        """Mean over rows."""
        return float(self.sums.sum() / self.sizes.sum())

    def resampled(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and its standard error in ``count`` bootstrap samples of entities, each ``[count]``."""
        entities = len(self.sums)
        weights = rng.multinomial(entities, np.full(entities, 1 / entities), size=count).astype(float)
        return self._weighted(weights)

    def standard_error(self) -> float:
        """Linearised standard error of the mean over rows (a ratio estimator), with G / (G - 1)."""
        return float(self._weighted(np.ones((1, len(self.sums))))[1][0])

    def _weighted(self, weights: Float[np.ndarray, "resample entity"]) -> tuple[np.ndarray, np.ndarray]:
        entities, rows = weights.shape[1], weights @ self.sizes
        mean = weights @ self.sums / rows
        squares = (  # sum over entities of weight * (sum - mean * size)^2, multiplied out
            weights @ self.sums**2
            - 2 * mean * (weights @ (self.sums * self.sizes))
            + mean**2 * (weights @ self.sizes**2)
        )
        return mean, np.sqrt(np.maximum(squares, 0) * entities / max(entities - 1, 1)) / rows


def cluster_sums(values: Float[np.ndarray, " row"], codes: Int[np.ndarray, " row"]) -> ClusterSums:
    """Sums and sizes of entities numbered 0, 1, ..."""
    return ClusterSums(np.bincount(codes, weights=values), np.bincount(codes).astype(float))


def mean_interval(
    values: Numbers,
    entities: Names | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of the mean over rows, resampling entities; below 8 entities Student's t alone."""
    array = as_numbers(values, "Values")
    centre = array.mean()  # subtracting it first keeps the multiplied-out squares exact for large offsets
    sums = cluster_sums(array - centre, as_codes(entities, len(array), "Entities"))
    low, high = _studentised([sums], [1.0], level, resamples, np.random.default_rng(seed))
    return Interval(low + centre, high + centre)


def difference_interval(
    first: Numbers,
    second: Numbers,
    first_entities: Names | None = None,
    second_entities: Names | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of mean(first) - mean(second) for independent samples: Welch's error, bootstrap-t over
    entities.
    """
    a, b = as_numbers(first, "First sample"), as_numbers(second, "Second sample")
    offset = a.mean() - b.mean()
    samples = [
        cluster_sums(a - a.mean(), as_codes(first_entities, len(a), "Entities of the first sample")),
        cluster_sums(b - b.mean(), as_codes(second_entities, len(b), "Entities of the second sample")),
    ]
    low, high = _studentised(samples, [1.0, -1.0], level, resamples, np.random.default_rng(seed))
    return Interval(low + offset, high + offset)


def _studentised(
    samples: list[ClusterSums], signs: list[float], level: float, resamples: int, rng: np.random.Generator
) -> Interval:
    """Interval of a signed sum of means: each end is the farther one of bootstrap-t and Student's (Welch's) t."""
    if min(len(sample.sums) for sample in samples) < 2:
        return UNBOUNDED
    value = sum(sign * sample.mean for sign, sample in zip(signs, samples, strict=True))
    variances = np.array([sample.standard_error() ** 2 for sample in samples])
    error, freedom = np.sqrt(variances.sum()), np.array([len(sample.sums) - 1 for sample in samples])
    if error == 0:
        return Interval(value, value)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    low, high = stats.t.ppf(tails, variances.sum() ** 2 / (variances**2 / freedom).sum())
    if freedom.min() >= FEW_ENTITIES - 1:
        skewed = np.quantile(_t_values(samples, signs, value, resamples, rng), tails)
        low, high = min(low, skewed[0]), max(high, skewed[1])
    return Interval(float(value - error * high), float(value - error * low))


def _t_values(
    samples: list[ClusterSums], signs: list[float], value: float, resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, " resample"]:
    drawn = [sample.resampled(rng, resamples) for sample in samples]
    means = np.sum([sign * mean for sign, (mean, _) in zip(signs, drawn, strict=True)], axis=0)
    errors = np.sqrt(np.sum([error**2 for _, error in drawn], axis=0))
    usable = errors > 0  # a resample of one entity, repeated, has no error to divide by
    return (means[usable] - value) / errors[usable]


def proportion_interval(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion of independent trials."""
    if trials < 1 or not 0 <= successes <= trials:
        raise BadInput(f"{successes} successes in {trials} trials is not a proportion; give 0 <= successes <= trials.")
    bounds = stats.binomtest(successes, trials).proportion_ci(confidence_level=level, method="wilson")
    return Interval(float(bounds.low), float(bounds.high))


def spearman_interval(correlation: float, n: int, *, level: float = 0.95) -> Interval:
    """Interval of a rank correlation over ``n`` entities: Fisher's z with variance (1 + r^2/2) / (n - 3)."""
    if n < 5:
        return UNBOUNDED
    if abs(correlation) >= 1:  # z is infinite; the sample is in perfect order, the population need not be
        correlation = float(np.copysign(1 - 1 / n**2, correlation))
    reach = stats.norm.ppf((1 + level) / 2) * np.sqrt((1 + correlation**2 / 2) / (n - 3))
    z = np.arctanh(correlation)
    return Interval(float(np.tanh(z - reach)), float(np.tanh(z + reach)))


def auroc_interval(
    scores: Numbers,
    labels: Numbers,
    entities: Names | None = None,
    *,
    strata: Names | None = None,
    level: float = 0.95,
) -> Interval:
    """Interval of :func:`auroc` by leaving out one entity at a time, on the logit scale.

    Entities may hold one class or both. A perfect or perfectly wrong ordering has no error to estimate: there
    the bound is Wilson's for as many trials as the rarer class has entities. NaN if one entity holds all of a
    class.
    """
    values = as_numbers(scores, "Scores")
    truth, codes = as_labels(labels, len(values)), as_codes(entities, len(values), "Entities")
    stratum = as_stratum(strata, len(values))
    won, pairs = concordant_pairs(values[:, None], truth[:, None], stratum)
    if pairs[0] == 0:
        raise BadInput("No stratum holds both classes, so there is nothing to compare; use coarser strata.")
    left_out = _without_each(values, truth, codes, stratum, won[0], pairs[0])
    rarer = min(len(set(codes[truth])), len(set(codes[~truth])))
    if rarer < 2 or np.isnan(left_out).any():
        return UNBOUNDED
    return _logit_jackknife(won[0] / pairs[0], left_out, rarer, level)


def _logit_jackknife(value: float, left_out: Float[np.ndarray, " entity"], rarer: int, level: float) -> Interval:
    count = len(left_out)
    error = np.sqrt((count - 1) / count * np.square(left_out - left_out.mean()).sum())
    if error == 0 or value in (0.0, 1.0):
        return proportion_interval(round(value * rarer), rarer, level=level)
    reach = stats.t.ppf((1 + level) / 2, count - 1) * error / (value * (1 - value))
    return Interval(float(expit(logit(value) - reach)), float(expit(logit(value) + reach)))


def _without_each(
    values: Float[np.ndarray, " row"],
    truth: Bool[np.ndarray, " row"],
    codes: Int[np.ndarray, " row"],
    strata: Int[np.ndarray, " row"],
    won: float,
    pairs: float,
) -> Float[np.ndarray, " entity"]:
    """AUROC without each entity: all pairs, less those of the entity's rows, plus its inner pairs (removed
    twice).
    """
    row_won, row_pairs = _pairs_of_rows(values, truth, strata)
    own_won, own_pairs = np.bincount(codes, weights=row_won), np.bincount(codes, weights=row_pairs)
    cells = codes * (strata.max() + 1) + strata
    inner_won, inner_pairs = pairs_by_cell(values[:, None], truth[:, None], cells)
    owner = np.unique(cells) // (strata.max() + 1)
    own_won -= np.bincount(owner, weights=inner_won[:, 0])
    own_pairs -= np.bincount(owner, weights=inner_pairs[:, 0])
    remaining = pairs - own_pairs
    return np.divide(won - own_won, remaining, out=np.full(len(own_won), np.nan), where=remaining > 0)


def _pairs_of_rows(
    values: Float[np.ndarray, " row"], truth: Bool[np.ndarray, " row"], strata: Int[np.ndarray, " row"]
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    """For each row, the correctly ordered pairs it takes part in, and all its pairs (midrank placements)."""
    classes = 2 * strata + truth
    others = np.bincount(classes, minlength=2 * (strata.max() + 1))[classes ^ 1]
    below = (midranks_within(values[:, None], strata) - midranks_within(values[:, None], classes))[:, 0]
    return np.where(truth, below, others - below), others.astype(float)


def bootstrap_interval(
    statistic: Callable[..., float],
    *samples: Numbers,
    entities: Names | None = None,
    method: Literal["BCa", "percentile", "basic"] = "BCa",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of any ``statistic(*samples)`` of row-aligned samples, resampling whole entities.

    BCa corrects bias and skewness, and is worth its jackknife for smooth statistics (ratios, correlations,
    quantiles); for a mean use :func:`mean_interval`. An interval of no width is returned when every resample
    agrees.
    """
    columns = [as_numbers(sample, "A sample") for sample in samples]
    if len({len(column) for column in columns}) != 1:
        raise BadInput(f"Samples have {[len(c) for c in columns]} rows; row-aligned samples need one length.")
    codes = as_codes(entities, len(columns[0]), "Entities")
    members = [np.flatnonzero(codes == entity) for entity in range(codes.max() + 1)]
    if len(members) < 2:
        return UNBOUNDED

    def of_entities(drawn: Any) -> float:
        drawn = np.asarray(drawn, dtype=int)
        rows = drawn if entities is None else np.concatenate([members[entity] for entity in drawn])
        return float(statistic(*(column[rows] for column in columns)))

    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # equal resamples are handled below
        result = stats.bootstrap(
            (np.arange(len(members)),), of_entities, n_resamples=resamples, vectorized=False,
            confidence_level=level, method=method, rng=np.random.default_rng(seed),
        )  # fmt: skip
    if np.isnan(result.confidence_interval.low) and np.ptp(result.bootstrap_distribution) == 0:
        return Interval(float(result.bootstrap_distribution[0]), float(result.bootstrap_distribution[0]))
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))
