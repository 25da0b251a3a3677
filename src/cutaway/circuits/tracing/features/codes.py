"""Codes of a basis and their gradients, a few rows at a time, so that latents x positions never lie in memory.

Everything here needs no more of a basis than the protocol: what an encoder reads is its gradient where it is active
(the rows of W_enc for ReLU, TopK and JumpReLU; scaled by the magnitude for gated ones).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.bases import Basis
from cutaway.errors import BadInput, NotTestable

MOST_NUMBERS = 1 << 24  # of codes that are made at a time


@dataclass(frozen=True, eq=False)
class Entries:
    """Codes that count: ``row`` among the rows that were encoded, ``latent``, ``value``; ordered by row."""

    row: Int[Tensor, " entry"]
    latent: Int[Tensor, " entry"]
    value: Float[Tensor, " entry"]

    def __len__(self) -> int:
        return len(self.row)


def chunks(basis: Basis, count: int) -> Iterator[slice]:
    """Slices of ``count`` rows whose codes fit."""
    size = max(1, MOST_NUMBERS // max(1, basis.width))
    return (slice(at, min(at + size, count)) for at in range(0, count, size))


def given_to(basis: Basis, rows: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
    """Rows as the basis takes them: its own precision and device."""
    like = basis.directions()
    return rows.to(like.device, like.dtype)


def active(basis: Basis, rows: Float[Tensor, "row d"]) -> Entries:
    """All codes that are not zero; raises ``BadInput`` for codes that are no numbers."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for part in chunks(basis, len(rows)):
        codes = _encoded(basis, rows[part])
        row, latent = codes.nonzero(as_tuple=True)
        found.append((row + part.start, latent, codes[row, latent]))
    row, latent, value = (torch.cat(each) for each in zip(*found))
    return Entries(row, latent, value)


def _encoded(basis: Basis, rows: Tensor) -> Tensor:
    with torch.no_grad():
        codes = basis.encode(given_to(basis, rows)).double().cpu()
    if not bool(torch.isfinite(codes).all()):
        raise BadInput(f"The basis {basis.name!r} gave codes that are not numbers; mend it, or train it again.")
    return codes


def decoded(basis: Basis, rows: Float[Tensor, "row d"]) -> tuple[Float[Tensor, "row e"], Float[Tensor, "row e"]]:
    """What codes alone stand for, and the whole reconstruction (more, where something by-passes the codes)."""
    made = []
    with torch.no_grad():
        for part in chunks(basis, len(rows)):
            own = given_to(basis, rows[part])
            made.append(tuple(x.double().cpu() for x in (basis.decode(basis.encode(own)), basis.reconstruct(own))))
    return torch.cat([each[0] for each in made]), torch.cat([each[1] for each in made])


def codes_at(basis: Basis, rows: Float[Tensor, "row d"], row: Tensor, latent: Tensor) -> Float[Tensor, " entry"]:
    """The codes of some latents on some rows."""
    found = torch.zeros(len(row), dtype=torch.float64)
    for part in chunks(basis, len(rows)):
        own = (row >= part.start) & (row < part.stop)
        if bool(own.any()):
            found[own] = _encoded(basis, rows[part])[row[own] - part.start, latent[own]]
    return found


def pulled(
    basis: Basis, rows: Float[Tensor, "row d"], row: Tensor, latent: Tensor, weights: Float[Tensor, " entry"]
) -> Float[Tensor, "row d"]:
    """The gradient of a weighted sum of codes of each row: what these latents together read."""
    found = torch.zeros_like(rows)
    for part in chunks(basis, len(rows)):
        own = (row >= part.start) & (row < part.stop)
        if bool(own.any()):
            found[part] = _gradient(basis, rows[part], row[own] - part.start, latent[own], weights[own])
    return found


def _gradient(basis: Basis, rows: Tensor, row: Tensor, latent: Tensor, weights: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = given_to(basis, rows.detach()).clone().requires_grad_()
        codes = basis.encode(leaf)
        check_differentiable(basis, codes)
        total = (codes[row.to(codes.device), latent.to(codes.device)] * weights.to(codes)).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
    return gradient.double().cpu()


def check_differentiable(basis: Basis, codes: Tensor) -> None:
    """Raises ``NotTestable`` for codes that are not a differentiable function of what is encoded (NMF)."""
    if not codes.requires_grad:
        raise NotTestable(
            f"The codes of the basis {basis.name!r} have no gradient, so that nothing can be traced through them; take "
            "a dictionary with an encoder."
        )


def moved(
    basis: Basis, rows: Float[Tensor, "row d"], way: Float[Tensor, "row d"], row: Tensor, latent: Tensor
) -> Float[Tensor, " entry"]:
    """The derivative of codes along a way (one direction for each row): by how much they would change on its length.

    All latents of a row at once: the gradient of <v, codes> by the row is linear in v, and its product with the way
    is differentiated by v.
    """
    found = torch.zeros(len(row), dtype=torch.float64)
    for part in chunks(basis, len(rows)):
        own = (row >= part.start) & (row < part.stop)
        if bool(own.any()):
            found[own] = _tangent(basis, rows[part], way[part])[row[own] - part.start, latent[own]]
    return found


def _tangent(basis: Basis, rows: Tensor, way: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = given_to(basis, rows.detach()).clone().requires_grad_()
        codes = basis.encode(leaf)
        check_differentiable(basis, codes)
        probe = torch.zeros_like(codes, requires_grad=True)
        (back,) = torch.autograd.grad((codes * probe).sum(), leaf, create_graph=True)
        (tangent,) = torch.autograd.grad((back * way.to(back)).sum(), probe)
    return tangent.detach().double().cpu()


def bypass_pulled(
    basis: Basis, rows: Float[Tensor, "row d"], gradient: Float[Tensor, "row e"]
) -> Float[Tensor, "row d"]:
    """The gradient of <gradient, what by-passes the codes> by each row (a transcoder's skip)."""
    found = torch.zeros_like(rows)
    for part in chunks(basis, len(rows)):
        with torch.enable_grad():
            leaf = given_to(basis, rows[part].detach()).clone().requires_grad_()
            passed = basis.reconstruct(leaf) - basis.decode(basis.encode(leaf))
            (back,) = torch.autograd.grad((passed * gradient[part].to(passed)).sum(), leaf)
        found[part] = back.double().cpu()
    return found


def by_latents(basis: Basis, latent: Tensor, values: Float[Tensor, " entry"]) -> Float[Tensor, "entry d"]:
    """What each of these latents writes at these values."""
    rows = basis.directions()[latent.to(basis.directions().device)]
    return rows.detach().double().cpu() * values[:, None]
