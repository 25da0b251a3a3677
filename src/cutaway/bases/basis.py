"""What a basis is: a way to split what lies at a site into directions, and where it was learned.

Acts are rows: one position of one stimulus each, whatever the site's layout (:mod:`cutaway.bases.rows`). Codes say how
much of each latent is there; a direction is what one unit of a latent writes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.networks.network import Network


@dataclass(frozen=True)
class Origin:
    """Where a basis was learned: network, its fingerprint, the site that is read and the one that is written.

    ``reads == writes`` for what reconstructs a site (SAE, NMF, PCA), not for a transcoder. ``stimuli`` is the
    fingerprint of what was shown, empty where unknown.
    """

    network: str
    fingerprint: str
    reads: str
    writes: str
    stimuli: str = ""
    seed: int = 0
    version: str = ""

    @property
    def replaces(self) -> bool:
        """True for a transcoder: it computes one site from another."""
        return self.reads != self.writes

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class SparseCodes:
    """The active latents of each row, ``values`` and ``indices`` among ``width`` latents; unused places hold 0."""

    values: Float[Tensor, "row k"]
    indices: Int[Tensor, "row k"]
    width: int

    def dense(self) -> Float[Tensor, "row latent"]:
        """The codes with all their zeros."""
        empty = self.values.new_zeros(len(self.values), self.width)
        return empty.scatter_add(1, self.indices, self.values)


@runtime_checkable
class Basis(Protocol):
    """Directions at a site, and how much of each is there."""

    @property
    def name(self) -> str:
        """What addresses call it: ``layers.5.mlp@NAME:7``."""
        ...

    @property
    def origin(self) -> Origin | None:
        """Where it was learned; None where it belongs to no network."""
        ...

    @property
    def width(self) -> int:
        """Number of latents."""
        ...

    def encode(self, acts: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows latent"]:
        """How much of each latent is there."""
        ...

    def decode(self, codes: Float[Tensor, "*rows latent"]) -> Float[Tensor, "*rows d_out"]:
        """What codes stand for."""
        ...

    def directions(self) -> Float[Tensor, "latent d_out"]:
        """What one unit of each latent writes."""
        ...

    def reconstruct(self, acts: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """``decode(encode(acts))`` and whatever by-passes the codes (a transcoder's skip)."""
        ...


def check_origin(basis: Basis, network: Network) -> Origin:
    """The basis's origin; ``BadInput`` if it was learned on another network, or for sites of another width."""
    origin = basis.origin
    if origin is None:
        raise BadInput(f"The basis {basis.name!r} names no network and no site; give them when it is loaded.")
    if origin.fingerprint and origin.fingerprint != network.fingerprint:
        raise BadInput(
            f"The basis {basis.name!r} was learned on {origin.network} ({origin.fingerprint[:12]}), and this is "
            f"{network.name} ({network.fingerprint[:12]}); load that network, or train a basis on this one."
        )
    site = network.site(origin.writes)
    found = None if site.heads else site.width  # a site of heads counts heads, not what they hold
    have = int(basis.directions().shape[1])
    if found is not None and found != have:
        raise BadInput(
            f"The basis {basis.name!r} writes vectors of {have} units, and {origin.writes} of {network.name} has "
            f"{found}; take a basis of that width."
        )
    return origin
