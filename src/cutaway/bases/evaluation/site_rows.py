"""Rows of one or two sites on stimuli, with the entity and the token that each belongs to; memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cutaway.bases.rows import to_rows
from cutaway.bases.unfolding.behaviour import Progress
from cutaway.bases.unfolding.showing import MAX_TOKENS, Shown, as_set, batches
from cutaway.errors import BadInput
from cutaway.networks.network import Network
from cutaway.networks.sites import POSITIONS, Site

MOST_POSITIONS = 1024
"""Positions of one stimulus that are looked at, drawn at random where a map has more."""
HELD = 1 << 28  # bytes of rows that are kept for a second look; what does not fit is computed again


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one batch: what is read, what is written, whose row it is, and which token (None: no tokens)."""

    x: Float[Tensor, "row d_in"]
    y: Float[Tensor, "row d_out"]
    entities: tuple[str, ...]
    owner: Int[Tensor, " row"]  # index into entities
    tokens: Int[Tensor, " row"] | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return (self.x.numel() + (0 if self.y is self.x else self.y.numel())) * self.x.element_size()


@dataclass(eq=False)
class SiteRows:
    """What lies at ``reads`` and ``writes`` on ``stimuli``, batch by batch, the same every time; passes stop there.

    Padding and the first ``skip_first`` tokens of each text are left out. Raises ``BadInput`` for values that are NaN
    or infinite.
    """

    network: Network
    reads: Site
    writes: Site
    stimuli: Any
    skip_first: int = 0
    batch_size: int = 8
    max_tokens: int = MAX_TOKENS
    seed: int = 0
    progress: Progress | None = None
    _held: list[Part] = field(default_factory=list)
    _complete: bool = False

    def __iter__(self) -> Iterator[Part]:
        if self._complete:
            yield from self._held
            return
        held, size = [], 0
        for part in self._computed():
            size += part.size
            held = [*held, part] if size <= HELD else []
            yield part
        if size <= HELD:
            self._held, self._complete = held, True

    def _computed(self) -> Iterator[Part]:
        options = {"batch_size": self.batch_size, "max_tokens": self.max_tokens}
        for number, shown in enumerate(batches(self.network, self.stimuli, **options)):
            yield self._part(shown, np.random.default_rng([self.seed, number]))
            if self.progress is not None:
                self.progress(shown.done, shown.total, f"reading {self.writes.name}")

    def _part(self, shown: Shown, rng: np.random.Generator) -> Part:
        names = dict.fromkeys((self.reads.name, self.writes.name))
        with torch.no_grad():
            run = self.network.run(shown.batch, capture=names, stop_at=True)
        keep = kept_positions(run[self.reads.name], self.reads, shown, self.skip_first, rng)
        x = _rows(run[self.reads.name], self.reads, keep)
        y = x if self.reads == self.writes else _rows(run[self.writes.name], self.writes, keep)
        owner = torch.arange(len(shown.entities))[:, None].expand(keep.shape)[keep]
        ids = shown.batch.inputs.get("input_ids")
        tokens = ids.cpu()[keep] if ids is not None and ids.shape == keep.shape else None
        return Part(x, y, shown.entities, owner, tokens)

    @property
    def name(self) -> str:
        """What the stimuli are called."""
        return as_set(self.stimuli).name


def kept_positions(
    value: Tensor, site: Site, shown: Shown, skip: int, rng: np.random.Generator
) -> Bool[Tensor, "stimulus position"]:
    """Which rows count: no padding, not among the first, at most :data:`MOST_POSITIONS` of each stimulus."""
    count = len(to_rows(value, site)) // len(shown.entities)
    keep = torch.ones(len(shown.entities), count, dtype=torch.bool)
    mask = shown.batch.mask
    if POSITIONS.split()[1] in site.layout.split() and mask is not None and mask.shape == keep.shape:
        keep = mask.cpu()
    if skip and not site.spatial and count > 1:
        keep = keep & (keep.cumsum(1) > skip)
    for row in keep:
        places = row.nonzero().flatten().numpy()
        if len(places) > MOST_POSITIONS:
            row[torch.from_numpy(rng.choice(places, len(places) - MOST_POSITIONS, replace=False))] = False
    return keep


def column_sums(rows: SiteRows) -> tuple[Float[Tensor, " d_out"], int]:
    """Sum of what is written over all rows (float64), and how many they are."""
    total, count = torch.zeros(0), 0
    for part in rows:
        own = part.y.double().sum(0)
        total, count = own if not count else total + own, count + len(part.y)
    if not count:
        raise BadInput(f"The stimuli of {rows.name} leave no row to evaluate on; give longer texts or skip fewer.")
    return total, count


def sample(rows: SiteRows, most: int, *, seed: int = 0) -> tuple[Float[Tensor, "row d_in"], Float[Tensor, "row d_out"]]:
    """At most ``most`` rows drawn at random from all, by their random priorities (one pass, bounded memory)."""
    rng = np.random.default_rng([seed, 1])
    x, y, rank = torch.zeros(0), torch.zeros(0), np.zeros(0)
    for part in rows:
        rank = np.concatenate([rank, rng.random(len(part.x))])
        x = part.x if not len(x) else torch.cat([x, part.x])
        y = part.y if not len(y) else torch.cat([y, part.y])
        if len(rank) > most:
            best = np.sort(np.argpartition(rank, most)[:most])
            x, y, rank = x[best], y[best], rank[best]
    return x, y


def _rows(value: Tensor, site: Site, keep: Tensor) -> Tensor:
    rows = to_rows(value, site)
    if len(rows) != keep.numel():
        raise BadInput(f"{site.name} has {len(rows)} positions where {keep.numel()} are read; take sites that match.")
    rows = rows[keep.flatten().to(rows.device)].detach().float().cpu()
    if not bool(torch.isfinite(rows).all()):
        unit = int((~torch.isfinite(rows)).nonzero()[0, 1])
        raise BadInput(f"Unit {unit} of {site.name} is NaN or infinite on some stimulus; look for what made it first.")
    return rows
