"""From addresses in a basis to a network that has their sites."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cutaway.bases.basis import Basis
from cutaway.bases.formats import describe, format_of
from cutaway.bases.store import SHIPPED, list_bases, open_basis
from cutaway.bases.unfolding.view import View, view
from cutaway.errors import BadInput, UnknownName
from cutaway.networks.network import Network
from cutaway.networks.sites import Address, parse_address


def viewed(network: Network, addresses: Iterable[str | Address], *, folders: Iterable[str | Path] = ()) -> Network:
    """The network itself if no address names a basis, else a :class:`View` that has the sites of all that do.

    ``NAME`` of ``SITE@NAME:7`` is a folder ``SITE/NAME`` or ``NAME`` in one of ``folders``, or a shipped basis. Tokens
    that the basis was not trained on (``skip_first`` in what is written beside it) are left as they are. Raises
    ``UnknownName`` with near names, ``BadInput`` for a basis of another site or network.
    """
    if isinstance(network, View):
        return network
    wanted = {(each.site, each.basis): None for each in map(parse_address, addresses) if each.basis is not None}
    if not wanted:
        return network
    homes = [Path(each) for each in folders]
    places = {(site, name): _place(site, name, network, homes) for site, name in wanted if name}
    bases = [_opened(network, site, name, place) for (site, name), place in places.items()]
    return view(network, bases, skip_first=max(_skipped(place) for place in places.values()))


def _place(site: str, name: str, network: Network, folders: list[Path]) -> Path:
    folders = [home for folder in folders for home in (folder / site, folder)]
    here = [folder / name for folder in folders if (folder / name).is_dir()]
    shipped = [each.name for each in list_bases(network)]
    if here:
        return here[0]
    if name in shipped:
        return SHIPPED / name
    known = [path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()]
    hint = "cutaway unfold NET SITE --atlas DIR keeps one under its name."
    raise UnknownName("basis", name, [*known, *shipped], hint)


def _opened(network: Network, site: str, name: str, place: Path) -> Basis:
    network.site(site)
    basis = open_basis(place, network, name=name)
    if basis.origin is None or basis.origin.writes != site:
        stands = "no site" if basis.origin is None else basis.origin.writes
        raise BadInput(f"The basis {name!r} stands for {stands}, and {site} was asked for; write that site.")
    return basis


def _skipped(place: Path) -> int:
    """How many first tokens of each text the basis was trained without; 0 where its file does not say."""
    about = describe(place).get("about", {}) if format_of(place) == "cutaway" else {}
    found = about.get("skip_first", 0) if isinstance(about, dict) else 0
    return found if isinstance(found, int) and found >= 0 else 0
