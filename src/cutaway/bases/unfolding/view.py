"""A network in other coordinates: the same network with sites whose units are the latents of bases.

    SITE@NAME          the codes of basis NAME, one unit a latent: ``layers.15.mlp_out@NAME:7`` is a unit
    SITE@NAME.error    what the basis misses of SITE: the error node

Both are ordinary sites: they are captured, ablated, patched and steered like any other, so everything that collects
evidence about units (cards, polysemanticity, tuning, observation) works on latents unchanged. The parameters are
shared with the original, the name and the fingerprint are the original's, and with errors kept an unedited pass gives
the original's output bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from cutaway.bases.basis import Basis, check_origin
from cutaway.bases.unfolding.splice import ERROR, Mask, ReadHook, Splice, WriteHook
from cutaway.errors import BadInput, UnknownName
from cutaway.networks.edits import Edit
from cutaway.networks.network import Batch, Network, Run
from cutaway.networks.sites import HEAD_STREAM, PATTERN, Address, Site, parse_address

_PLACE = "cutaway_bases"


@dataclass(frozen=True, eq=False)
class View(Network):
    """A network whose passes go through bases; see the module's description. Made by :func:`view`."""

    bases: tuple[Basis, ...] = ()
    keep_error: bool = True

    def run(
        self,
        batch: Any,
        capture: Iterable[str] = (),
        edits: Iterable[Edit] = (),
        stop_at: str | bool | None = None,
        grad: bool = False,
        logits: str = "all",
    ) -> Run:
        """As :meth:`Network.run`; padding has no codes."""
        batch = batch if isinstance(batch, Batch) else self.prepare(batch)
        home = self.module.get_submodule(_PLACE)
        assert isinstance(home, _Home)
        home.mask.real = batch.mask
        return super().run(batch, capture, edits, stop_at, grad, logits)

    def address(self, text: str | Address) -> Address:
        """A checked address; ``SITE@NAME:7`` is unit 7 of the site ``SITE@NAME``."""
        address = parse_address(text)
        if address.basis is None:
            return super().address(address)
        names = [basis.name for basis in self.bases]
        if address.basis not in names:
            raise UnknownName("basis", address.basis, names, f"Without a basis: {address.site}:{address.unit}.")
        return super().address(Address(f"{address.site}@{address.basis}", address.unit))

    def basis_of(self, site: str | Site) -> Basis:
        """The basis whose codes the site holds; ``BadInput`` for another site."""
        name = site if isinstance(site, str) else site.name
        found = [basis for basis in self.bases if name.endswith(f"@{basis.name}")]
        if not found:
            raise BadInput(f"{name} holds no codes; those sites do: {', '.join(self.codes_sites)}.")
        return found[0]

    @property
    def codes_sites(self) -> tuple[str, ...]:
        """The sites of codes, in the order of the bases."""
        return tuple(f"{_origin_writes(basis)}@{basis.name}" for basis in self.bases)

    @property
    def error_sites(self) -> tuple[str, ...]:
        """The sites of errors, in the order of the bases."""
        return tuple(name + ERROR for name in self.codes_sites)


def view(network: Network, bases: Sequence[Basis], *, keep_error: bool = True, skip_first: int = 0) -> View:
    """The network with sites for the codes and errors of ``bases``.

    Without ``keep_error`` the pass goes on with what the bases reconstruct: the unfolded network. The first
    ``skip_first`` real tokens of each text are left as they are (attention sinks that a basis was not trained on).
    Raises ``BadInput`` for a basis of another network or width, two bases with one name at one site, or a site that
    holds no vectors.
    """
    if isinstance(network, View):
        raise BadInput(f"{network.name} is seen through bases already; make the view of the network itself.")
    mask = Mask()
    options = {"mask": mask, "keep_error": keep_error, "skip": skip_first}
    bases = [_beside(basis, network) for basis in bases]
    splices = [Splice(basis, *_places(network, basis), **options) for basis in bases]
    _check_names(splices)
    module = _same_weights(network.module)
    module.register_forward_pre_hook(_Begin(splices))
    module.add_module(_PLACE, _Home([part for each in splices for part in (each.codes, each.error)], mask))
    for splice in sorted(splices, key=lambda each: each.writes.depth):
        _install(module, splice)
    values = {each.name: getattr(network, each.name) for each in fields(Network)}
    values |= {"module": module, "site_list": _sites(network, splices), "_cache": _kept_cache(network)}
    return View(**values, bases=tuple(bases), keep_error=keep_error)


class _Home(nn.Module):
    """Holds the modules through which codes and errors pass; does nothing itself, wherever it may be called."""

    def __init__(self, parts: Sequence[nn.Module], mask: Mask) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.mask = mask

    def forward(self, value: Any) -> Any:
        """What it was given."""
        return value


class _Begin:
    """Lets splices forget the last pass when a new one begins."""

    def __init__(self, splices: Sequence[Splice]) -> None:
        self.splices = splices

    def __call__(self, _module: nn.Module, _args: Any) -> None:
        for splice in self.splices:
            splice.begin()


def _beside(basis: Basis, network: Network) -> Basis:
    """The basis on the network's device; moved as a copy, so that the caller's stays where it is."""
    if not isinstance(basis, nn.Module) or basis.directions().device == network.device:
        return basis
    return copy.deepcopy(basis).to(network.device)


def _same_weights(module: nn.Module) -> nn.Module:
    """A copy of the structure around the very same parameters and buffers."""
    shared = {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]}
    return copy.deepcopy(module, shared)


def _install(module: nn.Module, splice: Splice) -> None:
    if splice.reads != splice.writes:
        _hook(module, splice.reads, ReadHook(splice))
    _hook(module, splice.writes, WriteHook(splice))


def _hook(module: nn.Module, site: Site, hook: ReadHook | WriteHook) -> None:
    target = module.get_submodule(site.module)
    if site.port == "input":
        target.register_forward_pre_hook(hook.before, with_kwargs=True)
    else:
        target.register_forward_hook(hook.after)


def _places(network: Network, basis: Basis) -> tuple[Site, Site]:
    origin = check_origin(basis, network)
    reads, writes = network.site(origin.reads), network.site(origin.writes)
    for site in (reads, writes):
        if site.layout in (PATTERN, HEAD_STREAM) or site.port not in ("input", "output"):
            raise BadInput(f"{site.name} holds no vector at a position that a basis could stand for; take the stream.")
    if writes.depth < reads.depth:
        raise BadInput(f"The basis {basis.name!r} writes {writes.name}, which comes before {reads.name}, its source.")
    return reads, writes


def _check_names(splices: Sequence[Splice]) -> None:
    names = [splice.name for splice in splices]
    if not names:
        raise BadInput("No basis was given; give at least one to see the network through.")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadInput(f"Two bases were given for {twice[0]}; give one, or name them apart.")


def _sites(network: Network, splices: Sequence[Splice]) -> tuple[Site, ...]:
    """The network's sites; codes follow what they are read from, errors what is written."""
    found: list[Site] = []
    for site in network.site_list:
        found.append(site)
        for index, splice in enumerate(splices):
            path = f"{_PLACE}.parts.{2 * index}"
            found += [splice.codes_site(path)] if splice.reads.name == site.name else []
            found += [splice.error_site(f"{_PLACE}.parts.{2 * index + 1}")] if splice.writes.name == site.name else []
    return tuple(found)


def _kept_cache(network: Network) -> dict[str, Any]:
    return {key: value for key, value in network._cache.items() if key == "fingerprint"}


def _origin_writes(basis: Basis) -> str:
    return basis.origin.writes if basis.origin is not None else ""
