"""The functions that turn data into a :class:`Measurement`: value, interval, null, p, n, seed.

Every one resamples and permutes entities, not rows; without ``entities`` each row is its own. ``n`` is the
number of entities. Same seed, same numbers. p is two-sided unless asked otherwise.
"""

import numpy as np
from jaxtyping import Float
from scipy import stats

from cutaway.errors import BadInput
from cutaway.evidence._arrays import Names, Numbers, as_codes, as_labels, as_numbers, as_stratum
from cutaway.evidence.intervals import (
    RESAMPLES,
    Interval,
    auroc_interval,
    cluster_sums,
    difference_interval,
    mean_interval,
    proportion_interval,
    spearman_interval,
)
from cutaway.evidence.measurement import Measurement
from cutaway.evidence.nulls import shuffled_labels
from cutaway.evidence.permutation import Alternative, permutation_p
from cutaway.evidence.scores import concordant_pairs

SHUFFLES = 999


def measure_mean(
    values: Numbers,
    entities: Names | None = None,
    *,
    null_value: float = 0.0,
    alternative: Alternative = "two-sided",
    shuffles: int = SHUFFLES,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Measurement:
    """Mean over rows. Null: deviations from ``null_value`` have random signs, one sign for all rows of an
    entity.
    """
    array = as_numbers(values, "Values")
    sums = cluster_sums(array - null_value, as_codes(entities, len(array), "Entities"))
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(shuffles, len(sums.sums)))
    null = null_value + signs @ sums.sums / sums.sizes.sum()
    interval = mean_interval(array, entities, resamples=resamples, seed=seed)
    value = null_value + sums.mean  # the same sum as in the null, so that ties are ties
    return _measurement(value, interval, null, alternative, len(sums.sums), seed)


def measure_difference(
    first: Numbers,
    second: Numbers,
    first_entities: Names | None = None,
    second_entities: Names | None = None,
    *,
    paired: bool = False,
    alternative: Alternative = "two-sided",
    shuffles: int = SHUFFLES,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Measurement:
    """mean(first) - mean(second).

    Unpaired: entities of the two samples are different, and under the null they exchange samples. Paired: row
    i of both belongs together (to entity ``first_entities[i]``), and under the null differences have random
    signs.
    """
    a, b = as_numbers(first, "First sample"), as_numbers(second, "Second sample")
    options = {"alternative": alternative, "shuffles": shuffles, "resamples": resamples, "seed": seed}
    if paired:
        if len(a) != len(b):
            raise BadInput(f"Paired samples have {len(a)} and {len(b)} rows; give both values of every pair.")
        return measure_mean(a - b, first_entities, **options)
    return _unpaired(a, b, first_entities, second_entities, **options)


def _unpaired(
    a: Float[np.ndarray, " row_a"],
    b: Float[np.ndarray, " row_b"],
    a_entities: Names | None,
    b_entities: Names | None,
    *,
    alternative: Alternative,
    shuffles: int,
    resamples: int,
    seed: int,
) -> Measurement:
    a_codes = as_codes(a_entities, len(a), "Entities of the first sample")
    b_codes = as_codes(b_entities, len(b), "Entities of the second sample")
    if a_entities is not None and b_entities is not None and set(_listed(a_entities)) & set(_listed(b_entities)):
        raise BadInput("An entity occurs in both samples, so they are not independent; pair them with paired=True.")
    codes = np.concatenate([a_codes, b_codes + a_codes.max() + 1])
    sums = cluster_sums(np.concatenate([a, b]), codes)
    member = np.arange(len(sums.sums)) <= a_codes.max()
    draws = np.random.default_rng(seed).permuted(np.tile(member, (shuffles, 1)), axis=1)
    gaps = _gaps(np.vstack([member, draws]).astype(float), sums.sums, sums.sizes)
    interval = difference_interval(a, b, a_entities, b_entities, resamples=resamples, seed=seed)
    return _measurement(float(gaps[0]), interval, gaps[1:], alternative, len(sums.sums), seed)


def _gaps(
    member: Float[np.ndarray, "draw entity"],
    sums: Float[np.ndarray, " entity"],
    sizes: Float[np.ndarray, " entity"],
) -> Float[np.ndarray, " draw"]:
    """Mean of member rows minus mean of the others, for each draw."""
    return (member @ sums) / (member @ sizes) - ((1 - member) @ sums) / ((1 - member) @ sizes)


def _listed(names: Names) -> list:
    return names.tolist() if isinstance(names, np.ndarray) else list(names)  # type: ignore[arg-type]


def measure_proportion(
    successes: int, trials: int, *, expected: float = 0.5, alternative: Alternative = "two-sided"
) -> Measurement:
    """Share of independent trials that succeed. Null: each succeeds with chance ``expected`` (exact binomial
    p).
    """
    interval = proportion_interval(successes, trials)
    test = stats.binomtest(successes, trials, expected, alternative=alternative)
    spread = float(np.sqrt(expected * (1 - expected) / trials))
    return Measurement(successes / trials, *interval, expected, spread, float(test.pvalue), trials)


def measure_auroc(
    scores: Numbers,
    labels: Numbers,
    entities: Names | None = None,
    *,
    strata: Names | None = None,
    alternative: Alternative = "two-sided",
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Measurement:
    """AUROC of scores that have not seen these labels. Null: :func:`shuffled_labels` between (or within)
    entities.

    With ``strata`` only pairs inside a stratum are compared, and labels move inside strata. For a trained
    probe use :func:`cutaway.evidence.probe`, whose null trains again on every shuffle.
    """
    values = as_numbers(scores, "Scores")
    truth, stratum = as_labels(labels, len(values)), as_stratum(strata, len(values))
    draws = shuffled_labels(truth, entities, count=shuffles, strata=stratum, seed=seed)
    won, pairs = concordant_pairs(values[:, None], np.vstack([truth, draws]).T, stratum)
    interval = auroc_interval(values, truth, entities, strata=stratum)
    n = int(as_codes(entities, len(values), "Entities").max()) + 1
    return _measurement(float(won[0] / pairs[0]), interval, won[1:] / pairs[1:], alternative, n, seed)


def measure_spearman(
    first: Numbers,
    second: Numbers,
    entities: Names | None = None,
    *,
    alternative: Alternative = "two-sided",
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Measurement:
    """Rank correlation over entities (of the means over an entity's rows). Null: one is permuted."""
    a, b = as_numbers(first, "First variable"), as_numbers(second, "Second variable")
    if len(a) != len(b):
        raise BadInput(f"The variables have {len(a)} and {len(b)} rows; give both for every row.")
    codes = as_codes(entities, len(a), "Entities")
    ranks = [stats.rankdata(sums.sums / sums.sizes) for sums in (cluster_sums(a, codes), cluster_sums(b, codes))]
    x, y = (rank - rank.mean() for rank in ranks)
    scale = float(np.sqrt((x @ x) * (y @ y)))
    if scale == 0:
        raise BadInput("A variable has the same value for every entity, so it has no rank correlation.")
    shuffled = np.random.default_rng(seed).permuted(np.tile(y, (shuffles, 1)), axis=1)
    value = float(x @ y / scale)
    return _measurement(value, spearman_interval(value, len(x)), shuffled @ x / scale, alternative, len(x), seed)


def measure_against_null(
    value: float,
    null: Numbers,
    *,
    bootstrap: Numbers | None = None,
    n: int,
    alternative: Alternative = "two-sided",
    seed: int = 0,
) -> Measurement:
    """A number computed elsewhere, against draws of the same number from a null world (random sets, twins,
    ...).

    ``bootstrap`` are values of the statistic on resampled entities; their 2.5 and 97.5 percentiles are the
    interval.
    """
    interval = Interval(np.nan, np.nan)
    if bootstrap is not None:
        low, high = np.quantile(as_numbers(bootstrap, "Bootstrap values"), (0.025, 0.975))
        interval = Interval(float(low), float(high))
    return _measurement(float(value), interval, as_numbers(null, "The null distribution"), alternative, n, seed)


def _measurement(
    value: float,
    interval: Interval,
    null: Float[np.ndarray, " draw"],
    alternative: Alternative,
    n: int,
    seed: int,
) -> Measurement:
    spread = float(null.std(ddof=1)) if len(null) > 1 else float("nan")
    p = permutation_p(value, null, alternative=alternative)
    return Measurement(value, interval.low, interval.high, float(null.mean()), spread, p, n, seed)
