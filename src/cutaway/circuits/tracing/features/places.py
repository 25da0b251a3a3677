"""Where a basis stands in a transformer, and which bases a graph can be made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cutaway.bases import Basis, check_origin
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.network import Network

ATTN_OUT, MLP_OUT, RESID = "attn_out", "mlp_out", "resid"
_SITE = re.compile(r"layers\.(\d+)\.(\w+)")


@dataclass(frozen=True, eq=False)
class Place:
    """A basis at ``layers.{layer}.{part}``; with ``transcodes`` it computes that from what the MLP reads."""

    basis: Basis
    layer: int
    part: str
    reads: str
    writes: str

    @property
    def transcodes(self) -> bool:
        """True where it stands in for the layer's MLP."""
        return self.reads != self.writes

    @property
    def name(self) -> str:
        """As addresses begin: ``layers.5.mlp_out@NAME``."""
        return f"{self.writes}@{self.basis.name}"


def places_of(network: Network, bases: Sequence[Basis]) -> tuple[Place, ...]:
    """Where each basis stands; the order of the forward pass.

    Raises ``BadInput`` for a basis of another network or width and for two at one site, ``NotTestable`` for sites that
    a graph cannot be opened at.
    """
    places = [_place(network, basis) for basis in bases]
    taken = [place.writes for place in places]
    twice = next((site for site in taken if taken.count(site) > 1), None)
    if twice is not None:
        raise BadInput(f"Two bases at {twice} were given; a site is taken apart in one basis at a time.")
    order = {ATTN_OUT: 0, MLP_OUT: 1, RESID: 2}
    return tuple(sorted(places, key=lambda place: (place.layer, order[place.part])))


def _place(network: Network, basis: Basis) -> Place:
    origin = check_origin(basis, network)
    network.site(origin.reads)
    found = _SITE.fullmatch(origin.writes)
    layer, part = (int(found[1]), found[2]) if found else (0, "")
    own = part in (ATTN_OUT, MLP_OUT, RESID) and origin.reads == origin.writes
    across = part == MLP_OUT and origin.reads == f"layers.{layer}.mlp_in"
    if not (own or across):
        raise NotTestable(
            f"The basis {basis.name!r} reads {origin.reads} and writes {origin.writes}; graphs are made of bases at "
            "layers.N.attn_out, mlp_out or resid, and of transcoders from layers.N.mlp_in to layers.N.mlp_out."
        )
    return Place(basis, layer, part, origin.reads, origin.writes)
