"""How many separate kinds do these points fall into? Counted by gaps, against a continuum as the null.

A *cut* parts the points into two sides. Walk outwards from a point over its nearest neighbours: the walk is clean for
as many steps as it stays on the point's own side, a fifth of the points (and ten) at most. The *crossing* of a cut is
the sum over points of the square root of the steps that are missing: 0 where every point's neighbours are on its own
side; the root, so that one stray example does not decide.

1. Look at the points along their first 3 and 10 principal axes: noise in further axes hides a gap, and a projection
   of something connected is connected. (Fewer than 3 axes fold a curve onto itself, which looks like a gap.)
2. Candidate cuts: every branch against the rest, in the trees of Ward's, average and single linkage, with
   ``fewest_of(n)`` points at least on both sides. The statistic is the least crossing among them.
3. Null: as many points, uniform along a line, all cuts of the line. Of all connected clouds a line has the fewest
   points at a border, so it is the least favourable: a broad feature whose examples change gradually along one or many
   axes, around a ring or over a sheet, crosses as much or more (the reasoning of the dip test, Hartigan and Hartigan
   1985, carried over to counts of nearest neighbours, Schilling 1986).
4. If p is small enough, each side is looked at in the same way. A side of m among n points is tested at
   0.05 (m - 1) / (n - 1) (Meinshausen 2008; Kimes et al. 2017), which keeps the chance of any false split at 0.05.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import num_obs_y, pdist, squareform

AXES = (3, 10)
SHORTEST_WALK, WALK_SHARE = 10, 0.2
LEVEL = 0.05
LEAST_SHARE, LEAST_COUNT = 0.1, 5
DRAWS = 999
_LINKAGES = ("ward", "average", "single")

Points = Float[np.ndarray, "example axis"]
Sides = Bool[np.ndarray, "cut example"]


@dataclass(frozen=True, eq=False)
class Split:
    """The cleanest cut of some points: its crossing, its sides, and how often a continuum has one as clean."""

    crossing: float
    side: Bool[np.ndarray, " example"]
    p: float


@dataclass(frozen=True, eq=False)
class Partition:
    """The kinds found: ``labels`` (0 the largest), the p of the first cut, and how clean that cut is.

    ``cleanness`` is 1 - crossing / (its mean for a continuum along a line): 1 a gap that nothing crosses, 0 as much
    as a line, negative for a cloud of more axes, NaN where there are
    too few points for a cut. It needs no threshold, and tells units with one mode apart.
    """

    labels: Int[np.ndarray, " example"]
    p: float
    cleanness: float

    @property
    def modes(self) -> int:
        """Number of kinds."""
        return int(self.labels.max()) + 1

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the points in each kind, the largest first."""
        return tuple((np.bincount(self.labels) / len(self.labels)).tolist())

    @property
    def effective(self) -> float:
        """1 / sum of squared shares: 2 for two kinds of equal size, 1.47 for 80 % and 20 %."""
        return effective_number(self.shares)


def effective_number(shares: tuple[float, ...]) -> float:
    """1 / sum of squared shares (Hill's number of order 2; Simpson's index inverted), at least 1."""
    return float(1 / np.square(shares).sum())


def count_modes(points: Points, *, level: float = LEVEL) -> Partition:
    """The kinds that the points fall into; one kind where no gap is cleaner than a continuum's would be."""
    fewest = fewest_of(len(points))
    first = cleanest_cut(principal_axes(points), fewest)
    labels = np.zeros(len(points), dtype=int)
    queue = [(np.arange(len(points)), first)]
    while queue:
        rows, split = queue.pop()
        if split is None or split.p > level * (len(rows) - 1) / max(len(points) - 1, 1):
            continue
        labels[rows[split.side]] = labels.max() + 1
        parts = (rows[split.side], rows[~split.side])
        queue += [(part, cleanest_cut(principal_axes(points[part]), fewest)) for part in parts]
    if first is None:
        return Partition(labels, 1.0, np.nan)
    typical = _line_crossings(len(points), fewest).mean()
    return Partition(_by_size(labels), first.p, float(1 - first.crossing / typical))


def line_cleanness(count: int) -> Float[np.ndarray, " draw"]:
    """The cleanness of so many points along a line, many times: mean 0."""
    drawn = _line_crossings(count, fewest_of(count))
    return 1 - drawn / drawn.mean()


def fewest_of(count: int) -> int:
    """The smallest group of so many points that is called a kind: a tenth, and five at least.

    Parts of parts are held to a tenth of all points, so that a unit's rare extremes are no kind of their own.
    """
    return max(LEAST_COUNT, int(np.ceil(LEAST_SHARE * count)))


def walk_of(count: int) -> int:
    """Most steps of a walk over nearest neighbours: a fifth of the points, ten at least, all the others at most."""
    return min(max(SHORTEST_WALK, int(WALK_SHARE * count)), count - 1)


def cleanest_cut(axes: Points, fewest: int) -> Split | None:
    """The candidate cut with the least crossing, ``fewest`` points at least on both sides; None where there are too
    few points, or all are the same.
    """
    count = len(axes)
    if count < 2 * fewest or axes.shape[1] == 0:
        return None
    best: tuple[float, np.ndarray] | None = None
    for width in sorted({min(width, axes.shape[1]) for width in AXES}):
        distances = pdist(axes[:, :width])
        sides = candidate_cuts(distances, fewest)
        if len(sides) == 0:
            continue
        crossed = crossings(squareform(distances), sides)
        least = int(crossed.argmin())
        if best is None or crossed[least] < best[0]:
            best = float(crossed[least]), sides[least]
    if best is None:
        return None
    null = _line_crossings(count, fewest)
    return Split(*best, (1 + int((null <= best[0] + 1e-9).sum())) / (len(null) + 1))


def candidate_cuts(distances: Float[np.ndarray, " pair"], fewest: int) -> Sides:
    """Each branch of three trees against the rest, as far as both sides have ``fewest`` points; no cut twice."""
    found: dict[bytes, np.ndarray] = {}
    count = num_obs_y(distances)
    for method in _LINKAGES:
        tree = linkage(distances, method)
        member = np.zeros((2 * count - 1, count), dtype=bool)
        member[np.arange(count), np.arange(count)] = True
        for row, (left, right) in enumerate(tree[:, :2].astype(int).tolist()):
            np.logical_or(member[left], member[right], out=member[count + row])
        sizes = member.sum(axis=1)
        for side in member[(sizes >= fewest) & (sizes <= count - fewest)]:
            side = side if side[0] else ~side
            found[side.tobytes()] = side
    return np.array(list(found.values()), dtype=bool).reshape(len(found), count)


def crossings(distances: Float[np.ndarray, "n n"], sides: Sides) -> Float[np.ndarray, " cut"]:
    """The crossing of each cut; a point walks over no more neighbours than there are others on its side."""
    hidden = distances.copy()
    np.fill_diagonal(hidden, np.inf)
    near = np.argsort(hidden, axis=1, kind="stable")[:, : walk_of(len(distances))]
    clean = np.logical_and.accumulate(sides[:, near] == sides[:, :, None], axis=2).sum(axis=2)
    size = np.where(sides, sides.sum(axis=1, keepdims=True), (~sides).sum(axis=1, keepdims=True))
    return np.sqrt(np.maximum(np.minimum(size - 1, near.shape[1]) - clean, 0)).sum(axis=1)


def principal_axes(points: Points) -> Float[np.ndarray, "example main"]:
    """The points along the (at most ten) orthogonal axes in which they vary most; axes without variation are left
    out.
    """
    centred = points - points.mean(axis=0)
    left, strength, _ = np.linalg.svd(centred, full_matrices=False)
    keep = min(max(AXES), int((strength > 1e-9 * max(float(strength[0]), 1e-300)).sum()))
    return left[:, :keep] * strength[:keep] if strength[0] > 1e-12 * np.abs(points).max(initial=0) else left[:, :0]


def _line_crossings(count: int, fewest: int) -> Float[np.ndarray, " draw"]:
    """:func:`_crossings_of_lines` for this count or the next one that is tabled: more points have more cuts to choose
    from, so rounding up errs on the safe side.
    """
    step = 2 if count < 24 else 4 if count < 64 else 16
    return _crossings_of_lines(-(-count // step) * step, fewest)


@lru_cache(maxsize=128)
def _crossings_of_lines(count: int, fewest: int) -> Float[np.ndarray, " draw"]:
    """The least crossing of all cuts of points uniform along a line, many times; the same for the same counts."""
    lines = np.sort(np.random.default_rng([count, fewest]).random((DRAWS, count)), axis=1)
    cuts = range(fewest, count - fewest + 1)
    return np.min([_one_sided(lines, cut) + _one_sided(-lines[:, ::-1], count - cut) for cut in cuts], axis=0)


def _one_sided(lines: Float[np.ndarray, "draw n"], cut: int) -> Float[np.ndarray, " draw"]:
    """What the ``cut`` lowest of sorted points add to the crossing."""
    walk = walk_of(lines.shape[1])
    border = lines[:, cut, None]
    near = lines[:, max(0, cut - walk) : cut]  # further ones have a whole walk of their own side before the border
    before = np.arange(near.shape[1])[::-1]  # own points between each and the border
    reach = 2 * near - border
    # Points are sorted, so the own points beyond each that are nearer than the border are counted from one end.
    beyond = (lines[:, None, max(0, cut - 2 * walk) : cut] > reach[:, :, None]).sum(axis=2) - before - 1
    return np.sqrt(np.maximum(min(walk, cut - 1) - before - np.maximum(beyond, 0), 0)).sum(axis=1)


def _by_size(labels: Int[np.ndarray, " example"]) -> Int[np.ndarray, " example"]:
    """The same groups numbered from the largest."""
    names, sizes = np.unique(labels, return_counts=True)
    rank = np.empty(int(names.max()) + 1, dtype=int)
    rank[names[np.argsort(-sizes, kind="stable")]] = np.arange(len(names))
    return rank[labels]
