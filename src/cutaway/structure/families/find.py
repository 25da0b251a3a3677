"""From pairwise similarity up to a transformation to families with poses.

1. Null: pairs whose second unit sees other crops, and pairs of null networks. Only turned pairs (best shift at least
   two steps from none) are evidence of a family: the units of a random network resemble each other as they are, because
   they share what all of them read. A pair counts from the 99.9th percentile of the larger of the two nulls on, and
   from 0.5 (chosen on hed's conv3_2, before any other site was looked at): with many crops, likeness far too small to
   call two units one is significant.
2. Average-linkage clustering of 1 - s_ij, cut at that level, so that the typical pair of a group, not only a chain of
   neighbours, is above it; a group falls into denser ones where their mean silhouette (Rousseeuw 1987) shows clear
   structure.
3. Pose by angular synchronisation (Singer 2011): with the best shifts t_ij as angles, the leading eigenvector of
   H_ij = s_ij exp(-i t_ij) holds the units' poses up to a common turn.
4. A cluster of units with fewer than three different poses is copies, no family.
5. Cocycle check: t_ij + t_jk should be t_ik. Units whose shifts to the others do not agree with their pose are dropped.

A family whose units answer alike to g and g + period / k (a line turned by 180 degrees) has symmetry k: its poses are
known up to that.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import silhouette_score

from cutaway.structure.families.orbits import Orbits, shifts_of, similarity
from cutaway.structure.families.transforms import Group

PERCENTILE = 99.9
ALIKE = 0.5  # units less alike than this are no copies of each other, however significant their likeness is
SYMMETRIC = 0.7  # mean E_ii at a fraction of the period from which a family counts as symmetric
FOLDS = (12, 8, 6, 4, 3, 2)
TURNED = 2  # steps from which a pair counts as turned
DIFFERENT = 3  # poses at least TURNED steps apart that a family has
TOLERANCE = 1.5  # steps by which a shift may miss the difference of two poses
LEAST = 4  # members
RESOLUTION = 0.1  # of the distance at which pairs stop counting: smaller differences are not looked at
STRUCTURED = 0.5  # mean silhouette from which a split is taken (Kaufman and Rousseeuw 1990: "reasonable structure")


@dataclass(frozen=True, eq=False)
class Family:
    """Units that answer alike up to a transformation, each with its pose in the group's unit (degrees, octaves).

    ``symmetry`` k: the pose is known modulo period / k. ``similarity`` is the mean s_ij over pairs, ``cocycle`` the
    mean miss of t_ij + t_jk - t_ik in steps (random shifts of a 24-cycle miss by 6).
    """

    units: tuple[int, ...]
    poses: tuple[float, ...]
    symmetry: int
    similarity: float
    cocycle: float


@dataclass(frozen=True, eq=False)
class Families:
    """All families of a site under one group, the invariant units, and the level that a pair had to reach."""

    site: str
    group: Group
    families: tuple[Family, ...]
    invariant: tuple[int, ...]
    threshold: float
    null_threshold: float
    twin_threshold: float

    def of(self, unit: int) -> int | None:
        """The index of a unit's family, if it has one."""
        return next((index for index, family in enumerate(self.families) if unit in family.units), None)


def null_level(orbits: Orbits, *, seed: int = 0, percentile: float = PERCENTILE) -> float:
    """The 99.9th percentile of s_ij over pairs when unit j sees other crops than unit i."""
    return _level(orbits, similarity(orbits, shuffle=np.random.default_rng(seed)), percentile, turned=False)


def pair_level(orbits: Orbits, percentile: float = PERCENTILE) -> float:
    """The 99.9th percentile of s_ij over turned pairs, 0 without any: the level of a network without families."""
    return _level(orbits, similarity(orbits), percentile, turned=True)


def _level(orbits: Orbits, alike: np.ndarray, percentile: float, *, turned: bool) -> float:
    keep = np.flatnonzero(orbits.usable)
    pairs = alike[np.ix_(keep, keep)]
    counted = ~np.eye(len(keep), dtype=bool)
    if turned:
        counted &= np.abs(_off(pairs.argmax(2), orbits.group)) >= TURNED
    return float(np.percentile(pairs.max(2)[counted], percentile)) if counted.any() else 0.0


def _off(index: np.ndarray, group: Group) -> np.ndarray:
    """How many steps the shift at an index of the last axis of a similarity is from none."""
    shift = np.array(shifts_of(group))[index]
    return np.minimum(shift, group.size - shift) if group.cyclic else np.abs(shift)


def find_families(orbits: Orbits, *, twin_level: float = 0.0, seed: int = 0, least: int = LEAST) -> Families:
    """The families of a site; ``twin_level`` is :func:`pair_level` of null networks (the largest of several)."""
    null = null_level(orbits, seed=seed)
    threshold = max(null, twin_level, ALIKE)
    variant = np.flatnonzero(orbits.usable)
    alike = similarity(orbits)[np.ix_(variant, variant)] if len(variant) >= least else np.zeros((0, 0, 1))
    families = []
    for members in _clusters(alike.max(2), threshold, least):
        made = _family(alike[np.ix_(members, members)], variant[members], orbits.group, least)
        if made is not None:
            families.append(made)
    ordered = sorted(families, key=lambda family: (-len(family.units), family.units))
    invariant = tuple(int(unit) for unit in np.flatnonzero(orbits.invariant))
    return Families(orbits.site, orbits.group, tuple(ordered), invariant, threshold, null, twin_level)


def _clusters(best: Float[np.ndarray, "unit unit2"], threshold: float, least: int) -> list[np.ndarray]:
    """Dense groups among the units whose pairs reach the threshold."""
    if len(best) < max(least, 2):
        return []
    # Differences well below the threshold are interpolation: rotations by 90 degrees are exact, others are not.
    apart = np.maximum(1 - (best + best.T) / 2, (1 - threshold) * RESOLUTION)
    np.fill_diagonal(apart, 0)
    joined = _cut(apart, 1 - threshold)
    groups = [np.flatnonzero(joined == label) for label in np.unique(joined)]
    parts = [part for members in groups for part in _split(members, apart, least)]
    return [members for members in parts if len(members) >= least]


def _cut(apart: np.ndarray, height: float) -> np.ndarray:
    return fcluster(linkage(squareform(apart, checks=False), "average"), height, "distance")


def _split(members: np.ndarray, apart: np.ndarray, least: int) -> list[np.ndarray]:
    """A group as the denser ones that it falls into, where a lower cut shows clear structure (mean silhouette)."""
    if len(members) < 2 * least:
        return [members]
    own = apart[np.ix_(members, members)]
    heights = np.unique(linkage(squareform(own, checks=False), "average")[:, 2])
    best_score, best_labels = STRUCTURED, None
    for height in heights[:-1]:
        labels = _cut(own, float(height) + 1e-12)
        if 1 < len(np.unique(labels)) < len(labels):
            score = float(silhouette_score(own, labels, metric="precomputed"))
            if score > best_score:
                best_score, best_labels = score, labels
    if best_labels is None:
        return [members]
    return [members[best_labels == label] for label in np.unique(best_labels)]


def _family(alike: np.ndarray, units: np.ndarray, group: Group, least: int) -> Family | None:
    """The cluster with poses, without members whose shifts disagree with them; None if too few remain."""
    symmetry = _symmetry(alike, group)
    keep = np.arange(len(units))
    while len(keep) >= least:
        part = alike[np.ix_(keep, keep)]
        shifts, strength, steps = _best_shifts(part, group, symmetry)
        poses = synchronised(shifts, strength, steps)
        miss = _miss(shifts - (poses[None, :] - poses[:, None]), steps)
        np.fill_diagonal(miss, 0)
        typical = miss.sum(1) / max(len(keep) - 1, 1)
        if typical.max() <= TOLERANCE:
            if _different(poses, steps) < DIFFERENT:
                return None
            scaled = tuple(float(pose % steps * group.step) if steps else float(pose * group.step) for pose in poses)
            off = ~np.eye(len(keep), dtype=bool)
            return Family(
                tuple(int(unit) for unit in units[keep]), scaled, symmetry,
                float(strength[off].mean()), cocycle(shifts, steps),
            )  # fmt: skip
        keep = np.delete(keep, int(typical.argmax()))
    return None


def _different(poses: np.ndarray, steps: int) -> int:
    """How many poses can be picked that are at least TURNED steps apart."""
    ordered = np.sort(poses % steps if steps else poses)
    picked = [ordered[0]]
    for pose in ordered[1:]:
        if pose - picked[-1] >= TURNED - 0.5 and (not steps or picked[0] + steps - pose >= TURNED - 0.5):
            picked.append(pose)
    return len(picked)


def _symmetry(alike: np.ndarray, group: Group) -> int:
    """The finest fraction of the period after which the members, on average, agree with themselves, and half-way to
    which they do not (a broad tuning curve agrees with itself at any small shift).
    """
    if not group.cyclic:
        return 1
    own = alike[np.arange(len(alike)), np.arange(len(alike))].mean(0)
    for fold in FOLDS:
        if group.size % (2 * fold) == 0:
            steps = np.arange(fold) * group.size // fold
            if own[steps].min() >= SYMMETRIC and own[steps + group.size // (2 * fold)].max() <= SYMMETRIC - 0.4:
                return fold
    return 1


def _best_shifts(alike: np.ndarray, group: Group, symmetry: int) -> tuple[np.ndarray, np.ndarray, int]:
    """t_ij, s_ij and the number of steps of the (folded) cycle; 0 steps for groups that are not cyclic."""
    if not group.cyclic:
        return np.array(shifts_of(group))[alike.argmax(2)].astype(float), alike.max(2), 0
    steps = group.size // symmetry
    folded = alike.reshape(*alike.shape[:2], symmetry, steps).mean(2)
    return folded.argmax(2).astype(float), folded.max(2), steps


def synchronised(
    shifts: Float[np.ndarray, "unit unit2"], strength: Float[np.ndarray, "unit unit2"], steps: int
) -> Float[np.ndarray, " unit"]:
    """Poses p with p_j - p_i near t_ij, in steps, the first unit's 0; least squares where the group is not cyclic."""
    weights = np.maximum(strength, 0)
    if not steps:
        poses = ((shifts - shifts.T) / 2 * weights).sum(0) / np.maximum(weights.sum(0), 1e-12)
        return poses - poses[0]
    hermitian = weights * np.exp(-2j * np.pi * shifts / steps)
    hermitian = (hermitian + hermitian.conj().T) / 2
    leading = np.linalg.eigh(hermitian)[1][:, -1]
    return np.angle(leading * np.conj(leading[0])) * steps / (2 * np.pi)


def cocycle(shifts: Float[np.ndarray, "unit unit2"], steps: int) -> float:
    """The mean miss of t_ij + t_jk - t_ik over all triples of different units, in steps."""
    total = shifts[:, :, None] + shifts[None, :, :] - shifts[:, None, :]
    miss = _miss(total, steps)
    units = np.arange(len(shifts))
    i, j, k = np.meshgrid(units, units, units, indexing="ij")
    different = (i != j) & (j != k) & (i != k)
    return float(miss[different].mean()) if different.any() else 0.0


def _miss(steps_off: np.ndarray, steps: int) -> np.ndarray:
    off = np.abs(steps_off)
    return off if not steps else np.minimum(off % steps, steps - off % steps)


def circular_correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], period: float | int = 360) -> float:
    """The correlation of two sets of angles, -1 to 1, unchanged by a turn of either (Fisher and Lee 1983, rho_T):

    sum sin(a_i - a_j) sin(b_i - b_j) over pairs, divided by the root of the product of the sums of squares. NaN where
    either set has only one angle (or opposite ones).
    """
    first, second = (np.sin((values[:, None] - values[None, :]) * 2 * np.pi / period) for values in (a, b))
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 1e-12 else float("nan")
