"""Latent Scaling: how much of a latent is in each network, measured on activations instead of decoder norms.

    1. Y is what a network's activations hold beside the other latents (its error, the latent's own part put back), or
       its reconstruction.
    2. beta = d . (Y'f) / (|d|^2 |f|^2), the least-squares amount of direction d that comes with the latent f.
    3. nu = beta of another network / beta of the network whose decoder is longest. A latent is specific to the latter
       if nu_error < 0.2 and nu_reconstruction < 0.5.

Minder et al. 2025. Our departures: the latent's own part is put back in every network, so that nu_error does not
depend on how far training has shrunk the other decoder (rare latents are not done shrinking); biases belong to no
reconstruction; sums are kept by block of rows, so that every nu has an interval; and for networks that share no
coordinates directions are estimated on other rows (:func:`own_directions`) and moments are centred.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.bases.crosscoders.coder import Crosscoder
from cutaway.bases.crosscoders.norms import reference_blocks
from cutaway.errors import BadInput

ERROR, RECONSTRUCTION = 0, 1


@dataclass(frozen=True, eq=False)
class Directions:
    """Along what each latent is looked for in each network: for the error and for the reconstruction.

    ``centred``: moments about the mean (least squares with an intercept) instead of about 0, as published.
    """

    error: tuple[Float[Tensor, "latent _"], ...]
    reconstruction: tuple[Float[Tensor, "latent _"], ...]
    centred: bool = False

    def of(self, kind: int, block: int) -> Tensor:
        """Directions in one network, for :data:`ERROR` or :data:`RECONSTRUCTION`."""
        return (self.error if kind == ERROR else self.reconstruction)[block]


@dataclass(frozen=True, eq=False)
class ScalingSums:
    """Sums over rows by block of rows: they add up in any order, whoever made them.

    Attributes:
        rows: number of rows.
        active: rows in which a latent fires.
        total, square: sums of f and of f^2.
        drive: sum of f times (Y along d), by error or reconstruction and by network.
        level: sum of (Y along d), likewise.
    """

    rows: Float[Tensor, " block"]
    active: Float[Tensor, "block latent"]
    total: Float[Tensor, "block latent"]
    square: Float[Tensor, "block latent"]
    drive: Float[Tensor, "block kind net latent"]
    level: Float[Tensor, "block kind net latent"]

    def merge(self, other: ScalingSums) -> ScalingSums:
        """Both together: blocks of one beside blocks of the other."""
        return ScalingSums(*(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def coarser(self, blocks: int) -> ScalingSums:
        """Neighbouring blocks added up, so that at most ``blocks`` are left."""
        place = torch.arange(len(self.rows)) * blocks // len(self.rows) if len(self.rows) > blocks else None
        return self if place is None else ScalingSums(*(_pooled(getattr(self, f.name), place) for f in fields(self)))


def common_directions(coder: Crosscoder) -> Directions:
    """The published choice: each latent's longest decoder, looked for in all networks.

    Right for a network and its fine-tune, whose coordinates are the same; raises ``BadInput`` for other widths.
    """
    widths = set(coder.plan.writes)
    if len(widths) != 1:
        raise BadInput(
            f"Networks of widths {sorted(widths)} share no coordinates; take own_directions, estimated on other rows."
        )
    every = torch.stack([coder.block_directions(block).detach() for block in range(len(coder.plan.blocks))])
    longest = every[reference_blocks(coder), torch.arange(coder.width)].double()
    return Directions((longest,) * len(every), (longest,) * len(every))


def own_directions(coder: Crosscoder, rows: Iterable[Float[Tensor, "row joined"]]) -> Directions:
    """For networks without common coordinates: along what Y moves with each latent in its own network.

    A regression of each network's Y on f, with an intercept, brought to unit length in scaled units. Noise has a
    direction too: measure beta on other rows than these, where a direction of noise gives an amount around 0.
    """
    sums = _Moments(coder)
    for batch in rows:
        sums.add(batch)
    return Directions(sums.slopes(ERROR), sums.slopes(RECONSTRUCTION), centred=True)


def scaling_sums(
    coder: Crosscoder, rows: Iterable[Float[Tensor, "row joined"]], directions: Directions, *, blocks: int = 64
) -> ScalingSums:
    """One pass over batches of joined rows, each batch a block until there are more than twice ``blocks``.

    Give rows in their natural order (whole documents): a block is what the intervals take to be independent.
    """
    total: ScalingSums | None = None
    for batch in rows:
        one = _block_sums(coder, batch, directions)
        total = one if total is None else total.merge(one)
        total = total.coarser(blocks) if len(total.rows) >= 2 * blocks else total
    if total is None:
        raise BadInput("No rows were given; Latent Scaling needs some that the crosscoder was not trained on.")
    return total.coarser(blocks)


def betas(sums: ScalingSums, directions: Directions) -> Float[Tensor, "kind net latent"]:
    """beta of every latent in every network, in units of its direction; NaN where it never fires."""
    drive, square = sums.drive.sum(0), sums.square.sum(0)
    if directions.centred:
        drive = drive - sums.total.sum(0) * sums.level.sum(0) / sums.rows.sum()
        square = square - sums.total.sum(0).square() / sums.rows.sum()
    lengths = torch.stack([torch.stack([d.square().sum(1) for d in part]) for part in _both(directions)])
    return torch.where(square > 0, drive / (lengths.clamp(min=1e-30) * square), torch.nan)


def _both(directions: Directions) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return directions.error, directions.reconstruction


def _pooled(values: Tensor, place: Tensor) -> Tensor:
    empty = values.new_zeros(int(place[-1]) + 1, *values.shape[1:])
    return empty.index_add(0, place, values)


def _parts(
    coder: Crosscoder, batch: Tensor, scaled: bool
) -> tuple[Tensor, Iterator[tuple[int, Tensor, Tensor, Tensor]]]:
    """Codes, and for each network its number, error, reconstruction without bias and decoder, in float64."""
    if not bool(torch.isfinite(batch).all()):
        raise BadInput("Activations with NaN or infinite values were given; look for what made them first.")
    with torch.no_grad():
        codes = coder.encode(batch.to(coder.b_dec)).double()
        bias = coder.b_dec.double() * coder.out_scale.double()
        unit = coder.out_scale.double() if scaled else torch.ones_like(bias)
        decoder = coder.directions().double() / unit
        written = codes @ decoder
        error = (batch.to(bias) - bias) / unit - written
    columns = [coder.plan.columns(block) for block in range(len(coder.plan.blocks))]
    return codes, ((b, error[:, at], written[:, at], decoder[:, at]) for b, at in enumerate(columns))


def _block_sums(coder: Crosscoder, batch: Tensor, directions: Directions) -> ScalingSums:
    codes, parts = _parts(coder, batch, scaled=directions.centred)
    total, square = codes.sum(0), codes.square().sum(0)
    drive = codes.new_zeros(2, len(coder.plan.blocks), coder.width)
    level = torch.zeros_like(drive)
    for block, error, written, decoder in parts:
        for kind, y in ((ERROR, error), (RECONSTRUCTION, written)):
            along = directions.of(kind, block)
            seen = y @ along.T
            drive[kind, block], level[kind, block] = (codes * seen).sum(0), seen.sum(0)
        back = (decoder * directions.of(ERROR, block)).sum(1)
        drive[ERROR, block] += square * back
        level[ERROR, block] += total * back
    rows = codes.new_tensor([len(codes)])
    return ScalingSums(rows, (codes > 0).double().sum(0)[None], total[None], square[None], drive[None], level[None])


class _Moments:
    """Sums that the regression of Y on each latent needs, by network."""

    def __init__(self, coder: Crosscoder) -> None:
        self.coder, self.rows = coder, 0
        self.total = torch.zeros(coder.width, dtype=torch.float64)
        self.square = torch.zeros_like(self.total)
        sizes = [(kind, block) for kind in (ERROR, RECONSTRUCTION) for block in range(len(coder.plan.blocks))]
        self.cross = {at: self.total.new_zeros(coder.width, coder.plan.writes[at[1]]) for at in sizes}
        self.level = {at: self.total.new_zeros(coder.plan.writes[at[1]]) for at in sizes}
        self.decoder: dict[int, Tensor] = {}

    def add(self, batch: Tensor) -> None:
        codes, parts = _parts(self.coder, batch, scaled=True)
        self.rows += len(codes)
        self.total += codes.sum(0)
        self.square += codes.square().sum(0)
        for block, error, written, decoder in parts:
            self.decoder[block] = decoder
            for kind, y in ((ERROR, error), (RECONSTRUCTION, written)):
                self.cross[kind, block] += codes.T @ y
                self.level[kind, block] += y.sum(0)

    def slopes(self, kind: int) -> tuple[Tensor, ...]:
        if not self.rows:
            raise BadInput("No rows were given; directions are estimated on rows that are then not measured on.")
        return tuple(self._slope(kind, block) for block in range(len(self.coder.plan.blocks)))

    def _slope(self, kind: int, block: int) -> Tensor:
        moved = self.cross[kind, block] - self.total[:, None] * self.level[kind, block] / self.rows
        if kind == ERROR:  # the latent's own part put back
            moved = moved + (self.square - self.total.square() / self.rows)[:, None] * self.decoder[block]
        return moved / moved.norm(dim=1, keepdim=True).clamp(min=1e-30)
