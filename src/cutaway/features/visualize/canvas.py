"""How large an image must be for a site: the receptive field and a margin, where the field is small."""

from __future__ import annotations

from dataclasses import dataclass

from cutaway.errors import BadInput, NotTestable
from cutaway.features.receptive_field import receptive_field
from cutaway.networks.network import Network
from cutaway.networks.sites import MAPS, POSITIONS, VECTOR, Site

USUAL = 224
"""Pixels a side where the network does not name its own."""
_LEAST, _STEP = 32, 8


def check_site(network: Network, site: Site) -> None:
    """One sentence if a site has no channels that a picture could be made for."""
    if network.modality == "text":
        raise NotTestable(f"Images were to be made for {network.name}, which reads text; images need a vision network.")
    if site.layout not in (MAPS, POSITIONS, VECTOR):
        known = [each.name for each in network.sites() if each.layout == MAPS]
        hint = f", for example {known[-1]}" if known else ""
        raise BadInput(
            f"Images were asked for {site.name}, whose axes are {site.layout!r}: it has no channels; choose a site of "
            f"feature maps{hint}."
        )


@dataclass(frozen=True)
class Reach:
    """How much of an image a position of a map sees, and how far apart positions are; pixels, the larger side."""

    field: int
    stride: int

    @property
    def border(self) -> int:
        """Positions at each end of a map whose field sticks out of the image by a quarter or more."""
        return round(self.field / 4 / self.stride)


def reach_of(network: Network, site: Site) -> Reach | None:
    """The reach of a site's positions; None where they see the whole input."""
    usual = usual_size(network)
    field = receptive_field(network, site, (usual, usual))
    return None if field is None else Reach(max(field.first.size), max(*field.stride, 1))


def canvas_size(network: Network, reach: Reach | None) -> int:
    """Pixels a side: the field and two fifths of it (at least 16 pixels), in steps of 8, at most the usual size."""
    usual = usual_size(network)
    if reach is None:
        return usual
    wanted = reach.field + max(16, 2 * reach.field // 5)
    return min(max(_LEAST, -(-wanted // _STEP) * _STEP), usual)


def usual_size(network: Network) -> int:
    """Pixels a side of the pictures that the network was trained on, or 224."""
    size = getattr(network.preprocess, "size", None)
    return size if isinstance(size, int) else USUAL
