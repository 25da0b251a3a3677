"""A pass in the coordinates of a basis: what is active, what it is held against, how it answers to what it reads.

    what lies at the site = sum of value * direction over active latents + bias + by-pass + error

and so for the baseline, whose codes are means over the baseline's own passes; latents that are active there and not
here are one node (``absent``). A latent's slope is that of its code here (1 for what a ReLU, TopK or JumpReLU lets
through). Held against a baseline it is the secant from the baseline's mean, at most 1, so that slope times the
difference of inputs is the code's difference wherever that can be; a threshold's jump is left to a node of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.bases import Basis
from cutaway.circuits.tracing.features.codes import (
    active,
    by_latents,
    bypass_pulled,
    codes_at,
    decoded,
    given_to,
    moved,
    pulled,
)
from cutaway.circuits.tracing.features.places import Place
from cutaway.errors import NotTestable

MOST_ACTIVE = 1 << 20  # active latents (at positions) of all bases of one graph
SKIPPED = 1e-6  # a by-pass smaller than this share of the site's values is rounding
PART = 4096  # latents whose directions are looked at together


@dataclass(frozen=True, eq=False)
class Coded:
    """Active latents of a place, in order of position: ``value`` here, ``base`` at the baseline, ``slope``.

    ``given`` is what the basis reads, ``usual`` the same at the baseline (None: zero). ``bias`` is what no code writes
    is decoded to; ``absent`` what latents that are not active here write at the baseline; ``error`` what the basis
    leaves out; ``skip`` what by-passes the codes (None where nothing does).
    """

    place: Place
    given: Float[Tensor, "pos d"]
    usual: Float[Tensor, "pos d"] | None
    position: Int[Tensor, " active"]
    latent: Int[Tensor, " active"]
    value: Float[Tensor, " active"]
    base: Float[Tensor, " active"]
    slope: Float[Tensor, " active"]
    bias: Float[Tensor, " e"]
    absent: Float[Tensor, "pos e"]
    error: Float[Tensor, "pos e"]
    error_base: Float[Tensor, "pos e"]
    skip: Float[Tensor, "pos e"] | None
    skip_base: Float[Tensor, "pos e"] | None

    def __len__(self) -> int:
        return len(self.latent)

    def along(self, gradient: Float[Tensor, "pos e"]) -> Float[Tensor, " active"]:
        """The gradient along the direction of each active latent."""
        made = [gradient.new_zeros(0)]
        for at in range(0, len(self), PART):
            part = slice(at, at + PART)
            ones = torch.ones_like(self.value[part])
            made.append((by_latents(self.place.basis, self.latent[part], ones) * gradient[self.position[part]]).sum(1))
        return torch.cat(made)

    def written(self, entries: Tensor, values: Float[Tensor, " entry"]) -> Float[Tensor, " e"]:
        """What some latents write together at these values."""
        total = torch.zeros_like(self.bias)
        for own, amounts in zip(entries.split(PART), values.split(PART)):
            total = total + by_latents(self.place.basis, self.latent[own], amounts).sum(0)
        return total

    def pull(self, weights: Float[Tensor, " active"], gradient: Float[Tensor, "pos e"]) -> Float[Tensor, "pos d"]:
        """What all latents and the by-pass read at each position along a gradient of what the basis writes."""
        read = pulled(self.place.basis, self.given, self.position, self.latent, weights * self.slope)
        return read if self.skip is None else read + bypass_pulled(self.place.basis, self.given, gradient)

    def readings(self, groups: Sequence[Tensor], weights: Float[Tensor, " active"]) -> Float[Tensor, "group d"]:
        """What each group of latents (at one position) reads, weighted."""
        sizes = torch.tensor([len(group) for group in groups])
        entries = torch.cat(list(groups))
        rows = self.given[self.position[[int(group[0]) for group in groups]]]
        which = torch.arange(len(groups)).repeat_interleave(sizes)
        return pulled(
            self.place.basis, rows, which, self.latent[entries], weights[entries] * self.slope[entries]
        )  # fmt: skip


def coded_places(
    places: Sequence[Place], seen: Mapping[str, Tensor], usual: Sequence[Mapping[str, Tensor]]
) -> tuple[Coded, ...]:
    """Every place of a pass, held against the mean over some passes (none: against zero).

    Values at sites are [pos d]. Raises ``NotTestable`` where bases are not sparse enough for a graph.
    """
    found: list[Coded] = []
    for place in places:
        found.append(_coded(place, seen, usual))
        if sum(map(len, found)) > MOST_ACTIVE:
            raise NotTestable(
                f"More than {MOST_ACTIVE} latents are active on this prompt; give a shorter prompt or sparser bases."
            )
    return tuple(found)


def _coded(place: Place, seen: Mapping[str, Tensor], usual: Sequence[Mapping[str, Tensor]]) -> Coded:
    basis, given, there = place.basis, seen[place.reads], seen[place.writes]
    entries = active(basis, given)
    bias = _bias(basis, given)
    by_codes, whole = decoded(basis, given)
    _check_linear(basis, entries.row, entries.latent, entries.value, by_codes, bias)
    passed = whole - by_codes
    skips = place.transcodes and float(passed.abs().max()) > SKIPPED * float(there.abs().max())
    whole = whole if skips else by_codes
    held = _Held.over(place, usual, entries.row, entries.latent, skips=skips)
    if held is None:
        zero, none = torch.zeros_like(there), torch.zeros_like(entries.value)
        ones, skip_base = torch.ones_like(none), zero if skips else None
        return Coded(
            place, given, None, entries.row, entries.latent, entries.value, none, ones, bias, zero,
            there - whole, zero, passed if skips else None, skip_base,
        )  # fmt: skip
    slope = _secants(basis, given, held.given, entries.row, entries.latent, entries.value)
    return Coded(
        place, given, held.given, entries.row, entries.latent, entries.value, held.codes, slope, bias,
        _absent(held, bias, entries.row, entries.latent, basis), there - whole, held.written - held.whole,
        passed if skips else None, held.whole - held.by_codes if skips else None,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Held:
    """Means over the baseline's passes: what is read, what lies at the site, codes of the latents that count here."""

    given: Float[Tensor, "pos d"]
    written: Float[Tensor, "pos e"]
    by_codes: Float[Tensor, "pos e"]
    whole: Float[Tensor, "pos e"]
    codes: Float[Tensor, " active"]

    @classmethod
    def over(
        cls, place: Place, usual: Sequence[Mapping[str, Tensor]], row: Tensor, latent: Tensor, *, skips: bool
    ) -> _Held | None:
        if not usual:
            return None
        kept = []
        for values in usual:
            given = values[place.reads]
            by_codes, whole = decoded(place.basis, given)
            codes = codes_at(place.basis, given, row, latent)
            kept.append((given, values[place.writes], by_codes, whole if skips else by_codes, codes))
        given, written, by_codes, whole, codes = (torch.stack(each).mean(0) for each in zip(*kept))
        return cls(given, written, by_codes, whole, codes)


def _bias(basis: Basis, given: Tensor) -> Float[Tensor, " e"]:
    with torch.no_grad():
        nothing = torch.zeros_like(basis.encode(given_to(basis, given[:1])))
        return basis.decode(nothing)[0].double().cpu()


def _check_linear(
    basis: Basis, row: Tensor, latent: Tensor, value: Tensor, by_codes: Tensor, bias: Tensor
) -> None:  # fmt: skip
    """Codes must be decoded by their directions, or nothing adds up."""
    last = row == row[-1] if len(row) else row.bool()
    at = int(row[-1]) if len(row) else 0
    made = by_latents(basis, latent[last], value[last]).sum(0) + bias
    if float((made - by_codes[at]).abs().max()) > 1e-3 * max(1e-6, float(by_codes[at].abs().max())):
        raise NotTestable(
            f"What the basis {basis.name!r} decodes is not the sum of its directions and a constant; its latents "
            "cannot be the parts of a sum."
        )


def _secants(
    basis: Basis, given: Tensor, usual: Tensor, row: Tensor, latent: Tensor, value: Tensor
) -> Float[Tensor, " active"]:
    """How much of a code's tangent its way from the baseline's input makes use of, 0 to 1."""
    way = given - usual
    tangent = moved(basis, given, way, row, latent)
    change = value - codes_at(basis, usual, row, latent)
    share = torch.where(tangent == 0, torch.ones_like(tangent), change / tangent)
    return torch.where(share > 0, share, torch.ones_like(share)).clamp(max=1)


def _absent(held: _Held, bias: Tensor, row: Tensor, latent: Tensor, basis: Basis) -> Float[Tensor, "pos e"]:
    """What latents that are not active here write at the baseline."""
    rest = held.by_codes - bias
    for at in range(0, len(row), PART):
        part = slice(at, at + PART)
        rest = rest.index_add(0, row[part], -by_latents(basis, latent[part], held.codes[part]))
    return rest
