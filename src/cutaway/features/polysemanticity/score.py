"""Does one feature answer to several kinds of input? A score without labels, with its null.

1. Take the strongest positions of the unit, one for each origin (crops of one photograph are one origin: they look
   alike whatever the unit does).
2. Describe what is there in a representation of the *input* (:mod:`cutaway.features.descriptors`), not of the site.
3. Project on the directions in which all compared examples vary most; link by Ward's method (1963); cut into 2, 3 and 4
   clusters; score each cut by its balanced silhouette (Rousseeuw 1987, mean over clusters, so that one stray example
   is not a cluster); keep the best.
4. Do the same with as many points from one Gaussian cloud of the examples' own covariance (after Liu et al. 2008,
   "SigClust"): the score's null. p at most 0.05 is more than one mode.
5. Do the same with the examples of random other units of the site: how unusual the score is here. Real examples are
   not Gaussian, so a site at which every unit scores high says more about the stimuli than about the units.

Broad is not polysemantic: examples of every kind, without gaps between the kinds, give one mode. The score is blind to
kinds that the descriptors do not tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist

from cutaway.evidence import measure_against_null
from cutaway.features.activity import Activity
from cutaway.features.card import Polysemanticity
from cutaway.features.descriptors import Rows, describe
from cutaway.features.examples import top_picks
from cutaway.features.pictures import Pictures
from cutaway.networks.network import Network

MOST_EXAMPLES, FEWEST_EXAMPLES = 24, 8
DIMENSIONS = 10
CUTS = (2, 3, 4)
LEVEL = 0.05
FEWEST_PEERS = 8
CLOUDS = 199


def separation(points: Float[np.ndarray, "example axis"]) -> tuple[float, Int[np.ndarray, " example"]]:
    """The best balanced silhouette over 2, 3 and 4 Ward clusters, in [-1, 1], and the clustering that has it."""
    distances = cdist(points, points)
    tree = linkage(points, "ward")
    cuts = [fcluster(tree, count, "maxclust") for count in CUTS if count < len(points)]
    scores = [balanced_silhouette(distances, labels) for labels in cuts]
    best = int(np.argmax(scores))
    return scores[best], cuts[best]


def balanced_silhouette(distances: Float[np.ndarray, "n n"], labels: Int[np.ndarray, " n"]) -> float:
    """Mean over clusters of their members' mean silhouette; a cluster of one example counts 0.

    A silhouette is (b - a) / max(a, b): a is the mean distance to the own cluster, b to the nearest other one.
    """
    names = np.unique(labels)
    if len(names) < 2:
        return 0.0
    member = labels[:, None] == names[None, :]
    sizes = member.sum(axis=0)
    own = member.argmax(axis=1)
    sums = distances @ member
    rows = np.arange(len(labels))
    inner = sums[rows, own] / np.maximum(sizes[own] - 1, 1)
    outer = np.where(member, np.inf, sums / sizes).min(axis=1)
    scale = np.maximum(inner, outer)
    values = np.divide(outer - inner, scale, out=np.zeros(len(labels)), where=scale > 0)
    values[sizes[own] == 1] = 0.0
    return float(np.mean([values[own == each].mean() for each in range(len(names))]))


def polysemanticity(
    network: Network,
    activity: Activity,
    unit: int,
    others: Sequence[int],
    pictures: Pictures | None,
    *,
    seed: int = 0,
) -> Polysemanticity | None:
    """The score of ``unit``, also among ``others``, units of the same activity; None below eight examples."""
    count = _example_count(activity, unit)
    if count < FEWEST_EXAMPLES:
        return None
    sets = [top_picks(activity, each, count, per_origin=1) for each in (unit, *others)]
    sets = [picks for picks in sets if len(picks) == count]
    rows, what = describe(network, activity, [each for picks in sets for each in picks], pictures)
    own, *peers = np.split(projected(rows), len(sets))
    score, clusters = separation(own)
    measured = measure_against_null(score, one_cloud_scores(own, seed=seed), n=count, alternative="greater", seed=seed)
    shares = (1.0,)
    if measured.p <= LEVEL:
        shares = tuple(sorted((np.bincount(clusters)[1:] / count).tolist(), reverse=True))
    among = None
    if len(peers) >= FEWEST_PEERS:
        scores = [separation(points)[0] for points in peers]
        among = measure_against_null(score, scores, n=count, alternative="greater", seed=seed)
    return Polysemanticity(measured, len(shares), shares, what, among)


def one_cloud_scores(points: Float[np.ndarray, "example axis"], *, seed: int = 0) -> Float[np.ndarray, " draw"]:
    """The separation of as many points drawn from one Gaussian with the points' covariance, many times."""
    centred = points - points.mean(axis=0)
    rng = np.random.default_rng(seed)
    # Mixing the centred points with Gaussian weights gives exactly their covariance, whatever its rank.
    mixing = rng.standard_normal((CLOUDS, len(points), len(points))) / np.sqrt(len(points) - 1)
    return np.array([separation(weights @ centred)[0] for weights in mixing])


def _example_count(activity: Activity, unit: int) -> int:
    """Origins on which the unit reaches half of its maximum, within 8 and 24, as far as it is active at all."""
    values = [each.value for each in top_picks(activity, unit, len(activity), per_origin=1)]
    strong = sum(value >= 0.5 * max(values) for value in values)
    return min(len(values), max(FEWEST_EXAMPLES, min(MOST_EXAMPLES, strong)))


def projected(rows: Rows) -> Float[np.ndarray, "example axis"]:
    """The rows on the ten axes along which all compared examples together vary most."""
    centred = rows - rows.mean(axis=0)
    left, strength, _ = np.linalg.svd(centred, full_matrices=False)
    keep = min(DIMENSIONS, len(strength))
    return left[:, :keep] * strength[:keep]
