"""The null of a model diff: a network held against itself, where every latent found to be exclusive is false.

Both sides are one network's rows with independent noise; the second may be turned by a random rotation, as a network
trained from another seed is, at least. Trained and judged like the real pair, it says how many exclusive latents the
procedure reports where there are none. A benign twin (another seed, harmless fine-tuning) is the stronger null where
one can be had: give its rows to the ordinary functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from cutaway.bases.activations.source import Rows
from cutaway.bases.crosscoders.coder import Crosscoder
from cutaway.bases.crosscoders.plan import CROSSCODER, Plan
from cutaway.bases.crosscoders.scaling import own_directions
from cutaway.bases.crosscoders.sources import RowSource
from cutaway.bases.crosscoders.specificity import Specificity, latent_scaling
from cutaway.bases.crosscoders.training import CoderRecipe, train_coder
from cutaway.errors import BadInput

SCALE_ROWS = 8192
JUDGING_BATCH = 512
HELD_OUT = 1_000_003  # added to the seed of what is measured on, so that its noise is new too


@dataclass(frozen=True, eq=False)
class SelfPair:
    """Joined rows of a network and its noisy (and turned) self; the same seed gives the same noise.

    ``noise`` is a share of each unit's standard deviation, drawn for both sides.
    """

    source: RowSource
    noise: float
    turn: torch.Tensor | None = None

    @property
    def d_in(self) -> int:
        """Twice the network's."""
        return 2 * self.source.d_in

    @property
    def d_out(self) -> int:
        """The same."""
        return self.d_in

    @property
    def count(self) -> int:
        """Rows in one epoch."""
        return self.source.count

    @property
    def fingerprint(self) -> str:
        """The source's, marked."""
        return f"self-pair({self.source.fingerprint}, noise {self.noise}, turned {self.turn is not None})"

    def batches(self, size: int, *, seed: int = 0, start: int = 0) -> Iterator[Rows]:
        """The source's batches beside themselves."""
        spread = next(self.source.batches(min(SCALE_ROWS, self.count)))[0].std(0)
        for number, (x, _) in enumerate(self.source.batches(size, seed=seed, start=start), start):
            rng = torch.Generator().manual_seed((seed + 1) * 7_919_017 + number)
            first, second = (x + self.noise * spread * torch.randn(x.shape, generator=rng) for _ in range(2))
            joined = torch.cat([first, second if self.turn is None else second @ self.turn], 1)
            yield joined, joined


@dataclass(frozen=True, eq=False)
class SelfDiff:
    """What a self-diff gave: both counts would be 0 if the procedure made no mistake."""

    crosscoder: Crosscoder
    said: Specificity

    @property
    def by_scaling(self) -> int:
        """Latents that Latent Scaling calls exclusive."""
        return int(self.said.specific.sum())

    @property
    def by_norms(self) -> int:
        """Latents that norm bins call exclusive."""
        return sum(owner is not None for owner in self.said.norm_owners())


def self_diff(
    source: RowSource,
    held_out: RowSource,
    *,
    latents: int,
    k: float | int,
    recipe: CoderRecipe,
    noise: float = 0.1,
    rotate: bool = False,
    judged_rows: int = 32_768,
) -> SelfDiff:
    """Train a BatchTopK crosscoder between a network and itself, and count what it calls exclusive.

    Use the width, k and recipe of the real diff. ``rotate`` also turns the second side by a random rotation and takes
    own directions, as for networks without common coordinates. ``held_out`` rows are what is judged on.
    """
    if noise < 0:
        raise BadInput(f"Noise of {noise} was asked for; give a share of the spread, 0 or more.")
    turn = _rotation(source.d_in, recipe.seed) if rotate else None
    pair, fresh = SelfPair(source, noise, turn), SelfPair(held_out, noise, turn)
    plan = Plan(CROSSCODER, ("network", "itself"), (pair.d_in,), (source.d_in,) * 2, latents, k=k)
    coder = Crosscoder(plan, seed=recipe.seed)
    train_coder(coder, pair, recipe)
    along = own_directions(coder, _rows(pair, judged_rows, recipe.seed)) if rotate else None
    said = latent_scaling(coder, _rows(fresh, judged_rows, recipe.seed + HELD_OUT), directions=along, seed=recipe.seed)
    return SelfDiff(coder, said)


def _rows(pair: SelfPair, count: int, seed: int) -> Iterator[Tensor]:
    """At most one epoch of a pair, in batches."""
    size = min(JUDGING_BATCH, pair.count)
    batches = max(min(count, pair.count) // size, 1)
    return (x for x, _ in islice(pair.batches(size, seed=seed), batches))


def _rotation(d: int, seed: int) -> Tensor:
    drawn = torch.randn(d, d, generator=torch.Generator().manual_seed(seed))
    turned, upper = torch.linalg.qr(drawn)
    return turned * upper.diagonal().sign()
