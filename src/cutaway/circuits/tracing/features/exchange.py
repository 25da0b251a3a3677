"""What lies at a site, with some of its latents set to something else, inside of a running network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.circuits.tracing.features.coded import Coded
from cutaway.circuits.tracing.features.codes import chunks, decoded, given_to
from cutaway.networks.edits import Edit, Replace


@dataclass(frozen=True, eq=False)
class Stays:
    """What a place keeps of what the running network makes there: ``latents`` among those that are active in the
    prompt, ``others``, the basis's ``error`` and the ``skip``, at each position. All else is the baseline's.
    """

    latents: Bool[Tensor, " active"]
    others: Bool[Tensor, " pos"]
    error: Bool[Tensor, " pos"]
    skip: Bool[Tensor, " pos"]

    @classmethod
    def nothing(cls, coded: Coded) -> Stays:
        """All at the baseline."""
        none = torch.zeros(len(coded.given), dtype=torch.bool)
        return cls(torch.zeros(len(coded), dtype=torch.bool), none, none.clone(), none.clone())

    def opposite(self) -> Stays:
        """Everything else stays."""
        return Stays(~self.latents, ~self.others, ~self.error, ~self.skip)


def exchange(coded: Coded, sets: Sequence[Stays]) -> list[Edit]:
    """Edits that keep set k alone in copy k of the prompt."""
    place, caught = coded.place, list[Tensor]()

    def look(value: Tensor) -> Tensor:
        caught[:] = [value]
        return value

    def change(value: Tensor) -> Tensor:
        read = caught[0] if place.transcodes else value
        made = [_kept(coded, given, there, stays) for given, there, stays in zip(read, value, sets)]
        return torch.stack(made).to(value)

    looking: list[Edit] = [Replace(place.reads, look)] if place.transcodes else []
    return [*looking, Replace(place.writes, change)]


def _kept(coded: Coded, given: Tensor, there: Tensor, stays: Stays) -> Float[Tensor, "pos e"]:
    """One copy: every part as it is now where it stays, as in the baseline elsewhere."""
    basis, there = coded.place.basis, there.detach().double().cpu()
    given = given.detach().double().cpu()
    by_codes, whole = decoded(basis, given)
    whole = by_codes if coded.skip is None else whole
    known, others = _split(coded, given, stays)
    skip_base = torch.zeros_like(there) if coded.skip_base is None else coded.skip_base
    parts = (
        (stays.others, others, coded.absent),
        (stays.error, there - whole, coded.error_base),
        (stays.skip, whole - by_codes, skip_base),
    )
    return known + coded.bias + sum(torch.where(kept[:, None], now, base) for kept, now, base in parts)


def _split(coded: Coded, given: Tensor, stays: Stays) -> tuple[Tensor, Tensor]:
    """What the prompt's latents write, each as now or as in the baseline, and what all others write now."""
    basis, directions = coded.place.basis, coded.place.basis.directions()
    known, others = [], []
    for part in chunks(basis, len(given)):
        with torch.no_grad():
            codes = basis.encode(given_to(basis, given[part])).detach().clone()
        own = (coded.position >= part.start) & (coded.position < part.stop)
        at = (coded.position[own] - part.start, coded.latent[own])
        mine = torch.zeros_like(codes)
        mine[at] = torch.where(stays.latents[own].to(codes.device), codes[at], coded.base[own].to(codes))
        codes[at] = 0
        known.append((mine @ directions.to(codes)).detach().double().cpu())
        others.append((codes @ directions.to(codes)).detach().double().cpu())
    return torch.cat(known), torch.cat(others)


def adding(added: Float[Tensor, "row pos d"]) -> Callable[[Tensor], Tensor]:
    """Adds something to each copy."""

    def add(value: Tensor) -> Tensor:
        return value + added.to(value)

    return add
