"""A basis inside a forward pass: codes and errors become tensors of the pass, and what they add up to goes on.

1. Where the basis reads, rows are encoded. The codes pass through a module of their own (``codes``), so that they can
   be captured and edited like any other site.
2. Where it writes, the error is what the basis misses of the value that is there: value - reconstruction. It passes
   through a module of its own, too (``error``).
3. The pass goes on with decode(codes) + by-pass (a transcoder's skip), and the error if it is kept. If neither codes
   nor error were edited and the error is kept, that sum is the value itself, and the value is what goes on: such a
   pass changes no bit. In a pass with gradients the sum goes on (equal up to rounding) and errors are constants: what
   flows back flows through the codes.

Positions that are padding, or among the first ``skip`` of a text, keep their value and have no codes and no error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from cutaway.bases.basis import Basis
from cutaway.bases.linear import Factors, Linear
from cutaway.bases.rows import from_rows, to_rows
from cutaway.errors import BadInput
from cutaway.networks.sites import POSITIONS, Site

ERROR = ".error"


@dataclass
class Mask:
    """Which positions of the running batch are real; one for all splices of a network."""

    real: Bool[Tensor, "batch pos"] | None = None


class Splice:
    """One basis at its two sites, during a pass; its methods are the hooks."""

    def __init__(
        self, basis: Basis, reads: Site, writes: Site, *, mask: Mask, keep_error: bool = True, skip: int = 0
    ) -> None:
        self.basis, self.reads, self.writes = basis, reads, writes
        self.mask, self.keep_error, self.skip = mask, keep_error, skip
        self.codes, self.error = nn.Identity(), nn.Identity()
        self._type = basis.directions().dtype  # a network in half precision is read in the basis's own
        self._read: Tensor | None = None  # what was encoded last
        self._encoded: tuple[Tensor, Tensor] | None = None  # the codes before and after their module
        self._calls = {"reads": 0, "writes": 0}

    @property
    def name(self) -> str:
        """What the codes' site is called."""
        return f"{self.writes.name}@{self.basis.name}"

    def codes_site(self, path: str) -> Site:
        """The site of the codes, whose module lies at ``path``."""
        flat = replace(self.reads, layout=_flat_layout(self.reads), heads=None)
        return replace(flat, name=self.name, kind="codes", module=path, port="output", call=0, width=self.basis.width)

    def error_site(self, path: str) -> Site:
        """The site of the error; its units are those of the site that is written."""
        width = int(self.basis.directions().shape[1])
        flat = replace(self.writes, layout=_flat_layout(self.writes), heads=None)
        return replace(flat, name=self.name + ERROR, kind="error", module=path, port="output", call=0, width=width)

    def begin(self) -> None:
        """Forgets the last pass."""
        self._calls, self._read, self._encoded = {"reads": 0, "writes": 0}, None, None

    def at_reads(self, raw: Tensor) -> None:
        """Encodes what is there, if this is the use of the module that is meant."""
        if self._counts("reads", self.reads):
            self._encode(raw)

    def at_writes(self, raw: Tensor) -> Tensor | None:
        """What the pass goes on with; None if nothing changes."""
        if not self._counts("writes", self.writes):
            return None
        if self.reads == self.writes:
            self._encode(raw)
        return self._put_back(raw)

    def _counts(self, which: str, site: Site) -> bool:
        call = self._calls[which]
        self._calls[which] += 1
        return call == site.call

    def _encode(self, raw: Tensor) -> None:
        rows = to_rows(self.reads.view(raw), self.reads).to(self._type)
        codes = from_rows(self.basis.encode(rows), raw, self.codes_site(""))
        kept = self._kept(codes, self.codes_site(""))
        codes = codes if kept is None else codes.masked_fill(~kept, 0)
        self._read, self._encoded = rows, (codes, self.codes(codes))

    def _put_back(self, raw: Tensor) -> Tensor | None:
        if self._encoded is None or self._read is None:
            raise BadInput(f"{self.writes.name} was reached before {self.reads.name}, which its codes are made from.")
        before, after = self._encoded
        bypass = self._bypass()
        made = self._decoded(before, raw, bypass)
        error = raw - made if not torch.is_grad_enabled() else (raw - made).detach()
        kept = self._kept(error, self.error_site(""))
        error = error if kept is None else error.masked_fill(~kept, 0)
        shown = self.error(error)
        if self.keep_error and after is before and shown is error and not torch.is_grad_enabled():
            return None
        value = made if after is before else self._decoded(after, raw, bypass)
        value = value + shown if self.keep_error else value
        value = value if kept is None else torch.where(kept, value, raw)
        return value.to(raw.dtype)

    def _decoded(self, codes: Tensor, raw: Tensor, bypass: Tensor | None) -> Tensor:
        rows = self.basis.decode(to_rows(codes, self.codes_site("")))
        return from_rows(rows if bypass is None else rows + bypass, raw, self.error_site(""))

    def _bypass(self) -> Tensor | None:
        if not has_bypass(self.basis):
            return None
        rows = self._read
        assert rows is not None
        return self.basis.reconstruct(rows) - self.basis.decode(self.basis.encode(rows))

    def _kept(self, value: Tensor, site: Site) -> Tensor | None:
        """Where codes are made, shaped to broadcast; None for everywhere."""
        real = self.mask.real
        if site.layout != POSITIONS or (real is None and not self.skip):
            return None
        if real is None or real.shape != value.shape[:2]:
            real = torch.ones(value.shape[:2], dtype=torch.bool, device=value.device)
        return (real & (real.cumsum(1) > self.skip))[..., None]


class ReadHook:
    """Shows a splice what its reading module was given or gave."""

    def __init__(self, splice: Splice) -> None:
        self.splice = splice

    def before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """For sites that are a module's input."""
        self.splice.at_reads(args[0] if args else next(iter(kwargs.values())))

    def after(self, _module: nn.Module, _args: Any, output: Any) -> None:
        """For sites that are a module's output."""
        self.splice.at_reads(output[0] if isinstance(output, (tuple, list)) else output)


class WriteHook:
    """Puts what a splice makes in the place of what a module was given or gave."""

    def __init__(self, splice: Splice) -> None:
        self.splice = splice

    def before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """For sites that are a module's input."""
        key = None if args else next(iter(kwargs))
        value = self.splice.at_writes(args[0] if key is None else kwargs[key])
        if value is None:
            return None
        return ((value, *args[1:]), kwargs) if key is None else (args, {**kwargs, key: value})

    def after(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        """For sites that are a module's output."""
        wrapped = isinstance(output, (tuple, list))
        value = self.splice.at_writes(output[0] if wrapped else output)
        if value is None:
            return None
        return type(output)([value, *output[1:]]) if wrapped else value


def has_bypass(basis: Basis) -> bool:
    """False where ``reconstruct`` is known to be ``decode(encode())``; a basis that does not say may have one."""
    return not isinstance(basis, (Linear, Factors)) and getattr(basis, "skip", basis) is not None


def _flat_layout(site: Site) -> str:
    return POSITIONS if site.heads else site.layout
