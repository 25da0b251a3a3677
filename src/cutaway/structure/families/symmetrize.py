"""Weights between families, made symmetric: what a block would be if its families were exact, and what that saves.

Between a family F of targets (poses p) and a family G of sources (poses q) exact equivariance asks for
W[i, j](x) = V[q_j - p_i](R(-p_i) x): one kernel for each relative pose, turned with the target. A source that is
invariant (or a colour channel of the input) asks for W[i, j](x) = V[j](R(-p_i) x), an invariant target for
W[i, j](x) = V[i](R(-q_j) x). The projection averages the turned-back kernels of each class and turns them forth again.
Pairs with a unit that is in no family and not invariant stay as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cutaway.evidence import Measurement, measure_against_null
from cutaway.structure.families.find import Families, Family
from cutaway.structure.families.transforms import Group


@dataclass(frozen=True)
class Poses:
    """Who is in which family of a site, and how it is turned: ``member`` [unit] is the family, -1 invariant, -2 none;
    ``steps`` [unit] the pose in steps of the group; ``cycle`` [family] after how many steps a family repeats.
    """

    member: tuple[int, ...]
    steps: tuple[float, ...]
    cycle: tuple[int, ...]

    @classmethod
    def of(cls, families: Families, width: int) -> "Poses":
        """The poses of a site's units."""
        member, steps = np.full(width, -2), np.zeros(width)
        member[list(families.invariant)] = -1
        cycle = []
        for index, family in enumerate(families.families):
            member[list(family.units)] = index
            steps[list(family.units)] = np.array(family.poses) / families.group.step
            cycle.append(families.group.size // family.symmetry)
        return cls(tuple(member.tolist()), tuple(steps.tolist()), tuple(cycle))

    @classmethod
    def invariant(cls, width: int) -> "Poses":
        """All units invariant: the colours of the input, for a rotation."""
        return cls((-1,) * width, (0.0,) * width, ())


@dataclass(frozen=True, eq=False)
class Symmetrised:
    """A block of weights with its tied pairs replaced, and how good the replacement is.

    ``r2`` is the share of the tied pairs' energy (about 0) that the symmetric weights keep, ``tied`` the share of
    parameters that are tied, ``compression`` all parameters over those that remain to be stored.
    """

    weight: Float[Tensor, "target source y x"]
    r2: float
    tied: float
    compression: float


def symmetrised(
    weight: Float[Tensor, "target source y x"], targets: Poses, sources: Poses, group: Group
) -> Symmetrised:
    """The nearest weights that respect the families of both sides (least squares up to interpolation)."""
    projected = weight.clone().double()
    stored = tied = 0
    for rows, columns, turn, classes in _classes(targets, sources, group):
        block = weight[rows][:, columns].double()
        flat, angles = block.flatten(0, 1), turn.reshape(-1) * group.step
        back = _turned(flat, -angles)
        labels = torch.from_numpy(classes.reshape(-1).copy())
        count = int(labels.max()) + 1
        sums = torch.zeros(count, *back.shape[1:], dtype=back.dtype).index_add_(0, labels, back)
        means = sums / torch.bincount(labels, minlength=count).clamp_min(1)[:, None, None]
        projected[np.ix_(rows, columns)] = _turned(means[labels], angles).unflatten(0, block.shape[:2])
        stored += len(torch.unique(labels))
        tied += len(labels)
    pairs = weight.shape[0] * weight.shape[1]
    energy, lost = _energies(weight, projected, targets, sources)
    r2 = 1 - lost / energy if energy > 0 else float("nan")
    return Symmetrised(projected.to(weight.dtype), r2, tied / pairs, pairs / (pairs - tied + stored))


def _classes(targets: Poses, sources: Poses, group: Group):
    """Blocks of tied pairs: target units, source units, turns in steps [target source], class of each pair."""
    of_targets, of_sources = (np.array(side.member) for side in (targets, sources))
    for f in [*range(len(targets.cycle)), -1]:
        for g in [*range(len(sources.cycle)), -1]:
            rows, columns = np.flatnonzero(of_targets == f), np.flatnonzero(of_sources == g)
            if (f == -1 and g == -1) or not len(rows) or not len(columns):
                continue
            p, q = np.array(targets.steps)[rows][:, None], np.array(sources.steps)[columns][None, :]
            shape = (len(rows), len(columns))
            if f == -1:
                yield rows, columns, np.broadcast_to(q, shape), np.broadcast_to(np.arange(shape[0])[:, None], shape)
            elif g == -1:
                yield rows, columns, np.broadcast_to(p, shape), np.broadcast_to(np.arange(shape[1])[None], shape)
            else:
                cycle = sources.cycle[g]
                bins = min(cycle, shape[1])
                relative = np.round((q - p) % cycle * bins / cycle).astype(int) % bins
                yield rows, columns, np.broadcast_to(p, shape), relative


def _energies(weight: Tensor, projected: Tensor, targets: Poses, sources: Poses) -> tuple[float, float]:
    a, b = (np.array(side.member) for side in (targets, sources))
    tied = torch.from_numpy((a[:, None] >= -1) & (b[None] >= -1) & ~((a[:, None] == -1) & (b[None] == -1)))
    energy = weight.double().square().sum((2, 3))[tied].sum()
    lost = (weight.double() - projected).square().sum((2, 3))[tied].sum()
    return float(energy), float(lost)


def _turned(kernels: Float[Tensor, "n y x"], degrees: np.ndarray) -> Float[Tensor, "n y x"]:
    """Each kernel turned counter-clockwise by its angle.

    A 3x3 kernel's outer ring is shifted by Fourier interpolation, which loses nothing and is exact for multiples of
    90 degrees; larger kernels are resampled bicubically, with zeros outside.
    """
    if kernels.shape[-1] == 1:
        return kernels
    if kernels.shape[-1] == 3:
        return _ring_turned(kernels, degrees)
    angles = torch.from_numpy(np.deg2rad(np.asarray(degrees, dtype=float)))
    c, s, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    matrix = torch.stack([torch.stack([c, -s, zero], -1), torch.stack([s, c, zero], -1)], 1)
    grid = functional.affine_grid(matrix, [len(kernels), 1, *kernels.shape[1:]], align_corners=False)
    made = functional.grid_sample(kernels[:, None], grid.to(kernels), mode="bicubic", align_corners=False)[:, 0]
    # A kernel's sum is its answer to a uniform field; pictures are mostly that, so no rounding may change it.
    return made + (kernels.sum((1, 2)) - made.sum((1, 2)))[:, None, None] / made[0].numel()


# Counter-clockwise from the right, rows downwards.
_RING = ((1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2))


def _ring_turned(kernels: Tensor, degrees: np.ndarray) -> Tensor:
    rows, columns = zip(*_RING)
    ring = torch.fft.fft(kernels[:, rows, columns])
    frequency = torch.fft.fftfreq(8, 1 / 8).to(kernels.dtype)
    turn = torch.from_numpy(np.deg2rad(np.asarray(degrees, dtype=float))).to(kernels.dtype)
    turned = kernels.clone()
    turned[:, rows, columns] = torch.fft.ifft(ring * torch.exp(-1j * turn[:, None] * frequency)).real
    return turned


def confirm(
    weight: Float[Tensor, "target source y x"],
    targets: Poses,
    sources: Poses,
    group: Group,
    *,
    draws: int = 200,
    seed: int = 0,
) -> Measurement:
    """R2 of the symmetric weights against the same with the members of every family in random places.

    Permuting which pose belongs to which unit keeps sizes, ties and energies: what is lost is only the claim.
    """
    rng = np.random.default_rng(seed)
    observed = symmetrised(weight, targets, sources, group).r2
    null = [symmetrised(weight, _permuted(targets, rng), _permuted(sources, rng), group).r2 for _ in range(draws)]
    return measure_against_null(observed, null, n=len(targets.member), alternative="greater", seed=seed)


def _permuted(poses: Poses, rng: np.random.Generator) -> Poses:
    member, steps = np.array(poses.member), np.array(poses.steps)
    for family in range(len(poses.cycle)):
        units = np.flatnonzero(member == family)
        steps[units] = steps[rng.permutation(units)]
    return Poses(poses.member, tuple(steps.tolist()), poses.cycle)


def family_sizes(families: Sequence[Family]) -> tuple[int, ...]:
    """Members of each family, the largest first."""
    return tuple(len(family.units) for family in families)
