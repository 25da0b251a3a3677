"""A site of a pass as channels, or as features of a basis: which are active at which pixels, and what they hand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.bases import Basis, check_origin, from_rows, to_rows
from cutaway.circuits.tracing.features.codes import (
    Entries,
    active,
    by_latents,
    codes_at,
    decoded,
    pulled,
)
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.network import Network
from cutaway.networks.sites import Site

MOST_ENTRIES = 1 << 24  # active units at pixels of one site
PART = 1 << 14


@dataclass(frozen=True, eq=False)
class Opening:
    """A site that a graph opens, in a basis (None: its channels)."""

    site: Site
    basis: Basis | None

    @property
    def name(self) -> str:
        """As addresses begin."""
        return self.site.name if self.basis is None else f"{self.site.name}@{self.basis.name}"


def openings(network: Network, sites: Sequence[str], bases: Sequence[Basis]) -> dict[str, Opening]:
    """Sites and bases by site; raises ``BadInput`` for two bases at one, ``NotTestable`` for sites without pixels."""
    found = {name: Opening(network.site(name), None) for name in sites}
    taken: set[str] = set()
    for basis in bases:
        origin = check_origin(basis, network)
        if origin.replaces:
            raise NotTestable(f"The basis {basis.name!r} computes one site from another; give one that reads a site.")
        if origin.writes in taken:
            raise BadInput(f"Two bases at {origin.writes} were given; a site is taken apart in one basis at a time.")
        taken.add(origin.writes)
        found[origin.writes] = Opening(network.site(origin.writes), basis)
    flat = next((name for name, opening in found.items() if not opening.site.spatial), None)
    if flat is not None:
        raise NotTestable(f"{flat} has no pixels ({found[flat].site.layout}); graphs of maps open feature maps.")
    return found


@dataclass(frozen=True, eq=False)
class Coded:
    """What is active at a site: ``row`` (the pixel, y * width + x), ``latent``, ``value``, and ``along``: d target / d
    value with everything after it really counted. ``error`` [row unit] is what the basis leaves out (None: channels).
    """

    opening: Opening
    shape: tuple[int, int, int]
    given: Float[Tensor, "row unit"]
    row: Int[Tensor, " entry"]
    latent: Int[Tensor, " entry"]
    value: Float[Tensor, " entry"]
    along: Float[Tensor, " entry"]
    error: Float[Tensor, "row unit"] | None
    error_share: Float[Tensor, " row"] | None

    @property
    def shares(self) -> Float[Tensor, " entry"]:
        """What flows through each active unit."""
        return self.along * self.value

    def like(self, rows: Float[Tensor, "row unit"]) -> Float[Tensor, "1 unit y x"]:
        """Rows as a map."""
        units, y, x = self.shape
        return from_rows(rows, rows.new_zeros(1, units, y, x), self.opening.site)

    def reading(self, entries: Tensor | slice) -> Float[Tensor, "1 unit y x"]:
        """How some entries read the site, times d target / d each."""
        row, latent, along = self.row[entries], self.latent[entries], self.along[entries]
        if self.opening.basis is None:
            rows = torch.zeros_like(self.given)
            rows[row, latent] = along
            return self.like(rows)
        return self.like(pulled(self.opening.basis, self.given, row, latent, along))

    def products(self, gradient: Float[Tensor, "1 unit y x"]) -> Float[Tensor, " entry"]:
        """value * (gradient . direction) of every entry."""
        return self.value * directed(self.opening, gradient, self.row, self.latent)

    def error_products(self, gradient: Float[Tensor, "1 unit y x"]) -> Float[Tensor, " row"]:
        """gradient . error at every pixel."""
        assert self.error is not None
        return (to_rows(gradient, self.opening.site).double().cpu() * self.error).sum(1)

    def written(self, entries: Tensor, values: Float[Tensor, " entry"]) -> Float[Tensor, "unit y x"]:
        """What some entries write at these values."""
        rows = torch.zeros_like(self.given)
        row, latent = self.row[entries], self.latent[entries]
        if self.opening.basis is None:
            rows[row, latent] = values
        else:
            for at in range(0, len(row), PART):
                part = slice(at, at + PART)
                rows.index_add_(0, row[part], by_latents(self.opening.basis, latent[part], values[part]))
        return self.like(rows)[0]

    def now(self, value: Float[Tensor, "1 unit y x"], entries: Tensor) -> Float[Tensor, " entry"]:
        """What some entries are in another pass."""
        rows = to_rows(value, self.opening.site).detach().double().cpu()
        row, latent = self.row[entries], self.latent[entries]
        if self.opening.basis is None:
            return rows[row, latent]
        used, place = row.unique(return_inverse=True)
        return codes_at(self.opening.basis, rows[used], place, latent)


def directed(opening: Opening, gradient: Tensor, row: Tensor, latent: Tensor) -> Float[Tensor, " entry"]:
    """The gradient along the direction of each entry, at its pixel."""
    rows = to_rows(gradient, opening.site).detach().double().cpu()
    if opening.basis is None:
        return rows[row, latent]
    made = [rows.new_zeros(0)]
    for own, at in zip(latent.split(PART), row.split(PART)):
        made.append((by_latents(opening.basis, own, torch.ones(len(own), dtype=torch.float64)) * rows[at]).sum(1))
    return torch.cat(made)


def coded(opening: Opening, value: Float[Tensor, "1 unit y x"], gradient: Float[Tensor, "1 unit y x"]) -> Coded:
    """A site of a pass, with the gradient of the target at it; raises ``NotTestable`` for codes that are not sparse."""
    given = to_rows(value, opening.site).detach().double().cpu()
    basis = opening.basis
    entries = active(basis, given) if basis is not None else _channels(given)
    if len(entries) > MOST_ENTRIES:
        raise NotTestable(
            f"{len(entries)} units are active at {opening.name}; at most {MOST_ENTRIES} fit, so show a smaller picture."
        )
    shape = (int(value.shape[1]), int(value.shape[2]), int(value.shape[3]))
    along = directed(opening, gradient, entries.row, entries.latent)
    error = None if basis is None else given - decoded(basis, given)[0]
    share = None if error is None else (to_rows(gradient, opening.site).detach().double().cpu() * error).sum(1)
    return Coded(opening, shape, given, entries.row, entries.latent, entries.value, along, error, share)


def _channels(given: Tensor) -> Entries:
    row, latent = given.nonzero(as_tuple=True)
    return Entries(row, latent, given[row, latent])
