"""What is explained: an output, or what a unit or feature says at a pixel of a site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.bases import Basis, check_origin, to_rows
from cutaway.circuits.tracing.features.codes import check_differentiable, given_to
from cutaway.errors import BadInput
from cutaway.networks.network import Network

_PLACE = re.compile(r"(?P<site>[^@:\s]+?)(?:@(?P<basis>[^:@,\s]+))?(?::(?P<unit>\d+))?@(?P<y>\d+),(?P<x>\d+)")


@dataclass(frozen=True, eq=False)
class MapTarget:
    """One number of a pass. ``site`` None: output ``unit`` less ``against`` (None: less the mean of all outputs)."""

    name: str
    site: str | None
    unit: int
    pixel: tuple[int, int] | None = None
    against: int | None = None
    basis: Basis | None = None

    def read(self, network: Network, output: Tensor | None, value: Tensor | None) -> Float[Tensor, " row"]:
        """The number for each row of a batch, from the output or from what lies at the site."""
        if self.site is None:
            assert output is not None
            _check_unit(self.unit, int(output.shape[1]), "outputs")
            known = output[:, self.unit]
            if output.shape[1] == 1:
                return known
            return known - (output.mean(1) if self.against is None else output[:, self.against])
        assert value is not None and self.pixel is not None
        site, (y, x) = network.site(self.site), self.pixel
        if y >= value.shape[2] or x >= value.shape[3]:
            raise BadInput(
                f"Pixel {y},{x} of {self.site} was asked for; on this picture the site has {value.shape[2]} rows and "
                f"{value.shape[3]} columns."
            )
        here = to_rows(value[:, :, y : y + 1, x : x + 1], site)
        if self.basis is not None:
            here = self.basis.encode(given_to(self.basis, here))
            if torch.is_grad_enabled():
                check_differentiable(self.basis, here)
        _check_unit(self.unit, int(here.shape[1]), f"units of {self.site}")
        return here[:, self.unit]


def _check_unit(unit: int, count: int, what: str) -> None:
    if not 0 <= unit < count:
        raise BadInput(f"Number {unit} of the {what} was asked for; there are 0 to {count - 1}.")


def map_target(
    network: Network, target: str | int, against: str | int | None = None, *, bases: Sequence[Basis] = ()
) -> MapTarget:
    """``edges@40,52`` (row, column), ``conv4_2:7@5,9``, ``conv4_2@NAME:7@5,9``; or an output by number or label.

    Raises ``BadInput`` for what is neither.
    """
    found = _PLACE.fullmatch(target.strip()) if isinstance(target, str) else None
    if found is None:
        unit, other = _output(network, target), None if against is None else _output(network, against)
        if other == unit:
            raise BadInput(f"Output {target!r} was to be held against itself; name another.")
        return MapTarget(_name(network, unit), None, unit, against=other)
    if against is not None:
        raise BadInput("A pixel of a site is explained as it is; leave --against out.")
    site = network.site(found["site"])
    if not site.spatial:
        raise BadInput(f"{site.name} has no pixels ({site.layout}); name a feature map, or an output by number.")
    basis = None if found["basis"] is None else _basis(network, site.name, found["basis"], bases)
    unit = int(found["unit"] or 0)
    if found["unit"] is None and site.width != 1:
        raise BadInput(f"{site.name} has several units; name one, for example {site.name}:0@{found['y']},{found['x']}.")
    return MapTarget(str(target).strip(), site.name, unit, (int(found["y"]), int(found["x"])), basis=basis)


def _basis(network: Network, site: str, name: str, bases: Sequence[Basis]) -> Basis:
    for basis in bases:
        if basis.name == name and check_origin(basis, network).writes == site:
            return basis
    raise BadInput(f"The target is in a basis {name!r} of {site}, and none of that name was given; give it.")


def _output(network: Network, word: str | int) -> int:
    if isinstance(word, int):
        return word
    inside = word[1:-1] if word.startswith("<") and word.endswith(">") else word
    if inside.isdigit():
        return int(inside)
    if word in network.labels:
        return network.labels.index(word)
    raise BadInput(
        f"{word!r} is no output of {network.name}: name one by number or label, or a pixel as SITE@Y,X or "
        "SITE:UNIT@Y,X."
    )


def _name(network: Network, unit: int) -> str:
    return network.labels[unit] if unit < len(network.labels) else f"<{unit}>"
