"""Which latents belong to one network alone: nu with intervals, and the published criteria held against them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor

from cutaway.bases.crosscoders.coder import Crosscoder
from cutaway.bases.crosscoders.norms import BETWEEN, SHARED, norm_bins, norm_difference, reference_blocks
from cutaway.bases.crosscoders.scaling import (
    ERROR,
    RECONSTRUCTION,
    Directions,
    ScalingSums,
    betas,
    common_directions,
    scaling_sums,
)
from cutaway.errors import BadInput

MOST_NU_ERROR, MOST_NU_RECONSTRUCTION = 0.2, 0.5  # Minder et al. 2025
FEWEST_FIRINGS = 16  # below, a latent is not judged
FEWEST_BLOCKS = 8  # in which a latent must fire for an interval
RESAMPLES = 1000
CELLS = 4096  # ratios that are resampled at a time


@dataclass(frozen=True, eq=False)
class Specificity:
    """What Latent Scaling says of every latent; arrays over latents.

    Attributes:
        blocks: names of the networks.
        reference: the network with the longest decoder.
        firings: rows in which the latent fired.
        nu: beta of the other network / beta of the reference, the larger where there are several others; first row
            error, second row reconstruction.
        low, high: 95 % interval of ``nu``; NaN where the latent fires in fewer than 8 blocks of rows.
        norm_class: the verdict of decoder norms alone, against the network with the next longest decoder.
    """

    blocks: tuple[str, ...]
    reference: Int[Tensor, " latent"]
    firings: Float[Tensor, " latent"]
    nu: Float[Tensor, "kind latent"]
    low: Float[Tensor, "kind latent"]
    high: Float[Tensor, "kind latent"]
    norm_class: tuple[str, ...]

    @property
    def judged(self) -> Bool[Tensor, " latent"]:
        """Latents that fire often enough and are found in their own network at all."""
        return (self.firings >= FEWEST_FIRINGS) & torch.isfinite(self.nu).all(0)

    @property
    def specific(self) -> Bool[Tensor, " latent"]:
        """The published criterion: nu_error < 0.2 and nu_reconstruction < 0.5."""
        return self.judged & _within(self.nu)

    @property
    def certain(self) -> Bool[Tensor, " latent"]:
        """Specific with the upper ends of both intervals."""
        return self.specific & _within(self.high)

    @property
    def shrunk(self) -> Bool[Tensor, " latent"]:
        """Complete Shrinkage: norms call it exclusive, yet the other network's error holds it."""
        return self.judged & self._exclusive_by_norm() & (self.nu[ERROR] >= MOST_NU_ERROR)

    @property
    def decoupled(self) -> Bool[Tensor, " latent"]:
        """Latent Decoupling: norms call it exclusive, yet the other network rebuilds it from other latents."""
        return self.judged & self._exclusive_by_norm() & (self.nu[RECONSTRUCTION] >= MOST_NU_RECONSTRUCTION)

    def owners(self) -> tuple[str | None, ...]:
        """The network that each latent is specific to; None where it is not, or not judged."""
        named = zip(self.specific.tolist(), self.reference.tolist(), strict=True)
        return tuple(self.blocks[block] if own else None for own, block in named)

    def norm_owners(self) -> tuple[str | None, ...]:
        """The same by norm bins alone."""
        named = zip(self._exclusive_by_norm().tolist(), self.reference.tolist(), strict=True)
        return tuple(self.blocks[block] if own else None for own, block in named)

    def _exclusive_by_norm(self) -> Bool[Tensor, " latent"]:
        return torch.tensor([name not in (SHARED, BETWEEN) for name in self.norm_class])


def latent_scaling(
    coder: Crosscoder,
    rows: Iterable[Float[Tensor, "row joined"]],
    *,
    directions: Directions | None = None,
    blocks: int = 64,
    seed: int = 0,
) -> Specificity:
    """Latent Scaling in one pass over batches of joined rows that the crosscoder was not trained on.

    ``directions``: :func:`common_directions` unless given; ``own_directions`` for networks of different coordinates.
    """
    along = common_directions(coder) if directions is None else directions
    return judge(coder, scaling_sums(coder, rows, along, blocks=blocks), along, seed=seed)


def judge(coder: Crosscoder, sums: ScalingSums, directions: Directions, *, seed: int = 0) -> Specificity:
    """The verdicts that sums give; the same for any order in which they were merged, but for the intervals' draws."""
    reference = reference_blocks(coder)
    amounts = betas(sums, directions)
    own = _along(amounts, reference)
    ratios = torch.where(own[:, None] > 0, amounts / own[:, None], torch.nan)
    other = _largest_other(ratios, reference)
    nu = ratios.gather(1, other[:, None]).squeeze(1)
    low, high = _intervals(sums, directions, reference, other, seed)
    return Specificity(coder.plan.blocks, reference, sums.active.sum(0), nu, low, high, _norm_classes(coder))


def ratio_interval(
    above: Float[np.ndarray, "block cell"],
    below: Float[np.ndarray, "block cell"],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """Interval of sum(above) / sum(below), resampling blocks: the farther ends of bootstrap-t and Student's t.

    The error of the ratio is the linearised one, B / (B - 1) sum (a - nu b)^2 / (sum b)^2. NaN where fewer than 8
    blocks hold anything.
    """
    count = len(above)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)
    ends = [
        _one_interval(above[:, at : at + CELLS], below[:, at : at + CELLS], draws, level)
        for at in range(0, above.shape[1], CELLS)
    ]
    low, high = np.concatenate(ends, axis=1)
    return low, high


def _one_interval(
    above: Float[np.ndarray, "block cell"],
    below: Float[np.ndarray, "block cell"],
    draws: Float[np.ndarray, "draw block"],
    level: float,
) -> Float[np.ndarray, "2 cell"]:
    count = len(above)
    with np.errstate(all="ignore"):
        value, error = _ratio_and_error(above, below, np.ones((1, count)))
        drawn, errors = _ratio_and_error(above, below, draws)
        scores = np.where((errors > 0) & np.isfinite(drawn), (drawn - value) / errors, np.nan)
        enough = ((below != 0).sum(0) >= FEWEST_BLOCKS) & np.isfinite(value[0])
        scores = np.where(np.isfinite(scores).any(0), scores, 0.0)  # no spread at all: no width
        tails = [(1 - level) / 2, (1 + level) / 2]
        skewed = np.nanquantile(scores, tails, axis=0)
        plain = stats.t.ppf(tails, max((below != 0).sum(0).min(initial=count), 2) - 1)[:, None]
    low = value[0] - np.maximum(skewed[1], plain[1]) * error[0]
    high = value[0] - np.minimum(skewed[0], plain[0]) * error[0]
    return np.where(enough, np.stack([low, high]), np.nan)


def _ratio_and_error(
    above: Float[np.ndarray, "block cell"],
    below: Float[np.ndarray, "block cell"],
    draws: Float[np.ndarray, "draw block"],
) -> tuple[Float[np.ndarray, "draw cell"], Float[np.ndarray, "draw cell"]]:
    whole = draws @ below
    ratio = (draws @ above) / whole
    spread = draws @ above**2 - 2 * ratio * (draws @ (above * below)) + ratio**2 * (draws @ below**2)
    count = len(above)
    return ratio, np.sqrt(np.maximum(spread, 0) * count / (count - 1)) / np.abs(whole)


def _intervals(
    sums: ScalingSums, directions: Directions, reference: Tensor, other: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """Of both kinds: drives by block (about the mean of all rows where moments are centred), lengths taken out."""
    if len(sums.rows) < 2:
        unknown = torch.full((2, len(reference)), torch.nan, dtype=torch.float64)
        return unknown, unknown
    drive = sums.drive
    if directions.centred:
        mean = sums.total.sum(0) / sums.rows.sum()
        level = sums.level.sum(0) / sums.rows.sum()
        drive = (
            drive
            - mean * sums.level
            - level * sums.total[:, None, None]
            + (mean * level) * sums.rows[:, None, None, None]
        )
    lengths = torch.stack(
        [torch.stack([d.square().sum(1) for d in p]) for p in (directions.error, directions.reconstruction)]
    )
    drive = drive / lengths.clamp(min=1e-30)
    ends = []
    for kind in (ERROR, RECONSTRUCTION):
        at = torch.arange(len(reference))
        above, below = drive[:, kind, other[kind], at], drive[:, kind, reference, at]
        ends.append(ratio_interval(above.numpy(), below.numpy(), seed=seed))
    low, high = (torch.from_numpy(np.stack(each)) for each in zip(*ends, strict=True))
    return low, high


def _along(amounts: Tensor, block: Tensor) -> Tensor:
    return amounts[:, block, torch.arange(amounts.shape[2])]


def _largest_other(ratios: Tensor, reference: Tensor) -> Int[Tensor, "kind latent"]:
    rivals = ratios.nan_to_num(-torch.inf).clone()
    rivals[:, reference, torch.arange(ratios.shape[2])] = -torch.inf
    if ratios.shape[1] < 2:
        raise BadInput("Latent Scaling compares two or more networks.")
    # A latent with no finite ratio still needs a network other than its own.
    fallback = (reference + 1) % ratios.shape[1]
    return torch.where(torch.isfinite(rivals).any(1), rivals.argmax(1), fallback)


def _norm_classes(coder: Crosscoder) -> tuple[str, ...]:
    norms = coder.block_norms().detach()
    (first, second), places = norms.topk(2, dim=0)
    ahead = places[1] > places[0]  # in the order of the blocks, as the bins are
    return norm_bins(norm_difference(torch.where(ahead, first, second), torch.where(ahead, second, first)))


def _within(nu: Tensor) -> Tensor:
    return (nu[ERROR] < MOST_NU_ERROR) & (nu[RECONSTRUCTION] < MOST_NU_RECONSTRUCTION)
