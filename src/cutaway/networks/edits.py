"""Edits: small values that change a tensor at a site, and that can be written down as JSON.

    Ablate   units to their mean, to zero, or to their value on another stimulus of the batch
    Patch    units to given values
    Steer    add a multiple of a direction
    Replace  the whole tensor by a function of it

Edits compose: they are applied in the order in which they are given.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.networks.sites import Site
from cutaway.registry import FUNCTIONS

Units = Sequence[int] | None


@runtime_checkable
class Edit(Protocol):
    """A change at one site; ``apply`` returns a new tensor and leaves its input as it was."""

    @property
    def site(self) -> str:
        """The name of the site that is changed."""
        ...

    def apply(self, value: Tensor, site: Site) -> Tensor:
        """The edited tensor, in the layout of ``site``."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain values that :func:`edit_from_json` turns back into an equal edit."""
        ...


@dataclass(frozen=True, eq=False)
class Ablate:
    """Removes what units say: sets them to a reference that does not depend on the stimulus.

    ``to="mean"`` uses ``reference`` (the unit's mean over a data set, broadcastable to the site's tensor without
    its batch axis) or, without one, the mean over this very batch, all axes but the unit's (and a head's own).
    ``to="resample"`` takes the units' values from another stimulus of the batch (a derangement drawn from
    ``seed``). ``units=None`` means all units.
    """

    site: str
    units: Units = None
    to: str = "mean"
    reference: Tensor | None = None
    seed: int = 0
    kind: ClassVar[str] = "ablate"

    def __post_init__(self) -> None:
        if self.to not in ("mean", "zero", "resample"):
            raise BadInput(f"Ablation to {self.to!r} was asked for; choose mean, zero or resample.")
        if self.reference is not None and self.to != "mean":
            raise BadInput(f"A reference was given for ablation to {self.to!r}; only ablation to the mean takes one.")

    def apply(self, value: Tensor, site: Site) -> Tensor:
        """The tensor with the units ablated."""
        return _write(value, self._reference(value, site), self.units, site)

    def _reference(self, value: Tensor, site: Site) -> Tensor:
        if self.to == "zero":
            return torch.zeros_like(value)
        if self.to == "resample":
            return value[derangement(len(value), self.seed).to(value.device)]
        if self.reference is None:
            kept = {site.unit_axis, value.ndim - 1} if site.layout.endswith("d_head") else {site.unit_axis}
            axes = [axis for axis in range(value.ndim) if axis not in kept]
            return value.mean(axes, keepdim=True).expand_as(value)
        return _broadcast(self.reference, value, site, f"the reference for {self.site}")

    def to_json(self) -> dict[str, Any]:
        """Plain values; see :func:`edit_from_json`."""
        return {
            "kind": self.kind,
            "site": self.site,
            "units": _plain_units(self.units),
            "to": self.to,
            "reference": _plain(self.reference),
            "seed": self.seed,
        }


@dataclass(frozen=True, eq=False)
class Patch:
    """Sets units to given values: ``value`` broadcasts to the (unit-selected) tensor of the site."""

    site: str
    value: Tensor
    units: Units = None
    kind: ClassVar[str] = "patch"

    def apply(self, value: Tensor, site: Site) -> Tensor:
        """The tensor with the units overwritten."""
        if self.units is None:
            return _broadcast(self.value, value, site, f"the patch at {self.site}").clone()
        chosen = value.index_select(site.unit_axis, _index(self.units, value, site))
        patch = _broadcast(self.value, chosen, site, f"the patch at {self.site}")
        return value.index_copy(site.unit_axis, _index(self.units, value, site), patch)

    def to_json(self) -> dict[str, Any]:
        """Plain values; see :func:`edit_from_json`."""
        return {
            "kind": self.kind,
            "site": self.site,
            "units": _plain_units(self.units),
            "value": _plain(self.value),
        }


@dataclass(frozen=True, eq=False)
class Steer:
    """Adds ``amount`` times ``direction`` (one number for each unit) at every position."""

    site: str
    direction: Tensor
    amount: float | int = 1.0
    kind: ClassVar[str] = "steer"

    def apply(self, value: Tensor, site: Site) -> Tensor:
        """The tensor with the direction added."""
        width = value.shape[site.unit_axis]
        if self.direction.shape != (width,):
            raise BadInput(
                f"The direction for {self.site} has shape {tuple(self.direction.shape)}; the site has {width} units, "
                f"so give a vector of length {width}."
            )
        shape = [1] * value.ndim
        shape[site.unit_axis] = width
        return value + self.amount * self.direction.to(value).reshape(shape)

    def to_json(self) -> dict[str, Any]:
        """Plain values; see :func:`edit_from_json`."""
        return {
            "kind": self.kind,
            "site": self.site,
            "direction": _plain(self.direction),
            "amount": self.amount,
        }


@dataclass(frozen=True, eq=False)
class Replace:
    """Replaces the tensor by ``function(tensor)``; a name is looked up among the registered functions.

    Only a registered name can be written as JSON: code is never stored.
    """

    site: str
    function: Callable[[Tensor], Tensor] | str
    kind: ClassVar[str] = "replace"

    def apply(self, value: Tensor, site: Site) -> Tensor:
        """The function's result, which must keep the tensor's shape."""
        function = FUNCTIONS[self.function] if isinstance(self.function, str) else self.function
        result = function(value)
        if result.shape != value.shape:
            raise BadInput(
                f"The replacement at {self.site} returned shape {tuple(result.shape)} for {tuple(value.shape)}; "
                "return a tensor of the same shape."
            )
        return result.to(value.dtype)

    def to_json(self) -> dict[str, Any]:
        """Plain values; raises for a function without a registered name."""
        if not isinstance(self.function, str):
            raise BadInput(
                f"The replacement at {self.site} is an unnamed function; register it in registry.FUNCTIONS and give "
                "its name to write it as JSON."
            )
        return {"kind": self.kind, "site": self.site, "function": self.function}


def edit_from_json(fields: dict[str, Any] | str) -> Edit:
    """The edit that :meth:`Edit.to_json` described; unknown kinds and fields raise one clear error."""
    fields = dict(json.loads(fields)) if isinstance(fields, str) else dict(fields)
    kinds = {edit.kind: edit for edit in (Ablate, Patch, Steer, Replace)}
    kind = fields.pop("kind", None)
    if kind not in kinds:
        raise BadInput(f"An edit of kind {kind!r} was asked for; the kinds are {', '.join(kinds)}.")
    for key in ("reference", "value", "direction"):
        if fields.get(key) is not None:
            fields[key] = _tensor(fields[key])
    try:
        return kinds[kind](**fields)
    except TypeError as error:
        raise BadInput(f"The edit {kind!r} cannot be read: {error}.") from error


def derangement(count: int, seed: int) -> Tensor:
    """A permutation of ``count`` items without a fixed point: a random cycle, so that no item keeps its place."""
    if count < 2:
        raise BadInput("Resampling takes values from another stimulus of the batch; give at least two stimuli.")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    target = torch.empty_like(order)
    target[order] = order.roll(1)
    return target


def _write(value: Tensor, source: Tensor, units: Units, site: Site) -> Tensor:
    if units is None:
        return source.to(value.dtype).clone()
    index = _index(units, value, site)
    return value.index_copy(site.unit_axis, index, source.to(value.dtype).index_select(site.unit_axis, index))


def _index(units: Sequence[int], value: Tensor, site: Site) -> Tensor:
    width = value.shape[site.unit_axis]
    wrong = [unit for unit in units if not 0 <= unit < width]
    if wrong:
        raise BadInput(f"Unit {wrong[0]} of {site.name} was asked for; it has units 0 to {width - 1}.")
    return torch.as_tensor(list(units), dtype=torch.long, device=value.device)


def _broadcast(given: Tensor, like: Tensor, site: Site, what: str) -> Tensor:
    given = given.to(like)
    if given.ndim == 1 and given.shape[0] == like.shape[site.unit_axis]:
        shape = [1] * like.ndim
        shape[site.unit_axis] = given.shape[0]
        given = given.reshape(shape)
    try:
        return given.expand_as(like)
    except RuntimeError as error:
        raise BadInput(
            f"Shape {tuple(given.shape)} was given for {what}; it must fit {tuple(like.shape)} ({site.layout})."
        ) from error


def _plain_units(units: Units) -> list[int] | None:
    return None if units is None else [int(unit) for unit in units]


def _plain(tensor: Tensor | None) -> dict[str, Any] | None:
    if tensor is None:
        return None
    tensor = tensor.detach().cpu()
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "values": tensor.tolist()}


def _tensor(plain: dict[str, Any] | list[Any]) -> Tensor:
    if isinstance(plain, list):
        return torch.tensor(plain, dtype=torch.float32)
    dtype = getattr(torch, str(plain.get("dtype")), None)
    if not isinstance(dtype, torch.dtype):
        raise BadInput(f"A tensor of type {plain.get('dtype')!r} was asked for; use float32, bfloat16 or the like.")
    return torch.tensor(plain["values"], dtype=dtype)
