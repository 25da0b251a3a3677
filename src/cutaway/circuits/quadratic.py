"""One kernel for everything that multiplies two linear readings: attention scores, bilinear layers, dot products.

    s(x, y) = x' M y + a' x + b' y + c,      M = left' right of rank r, never multiplied out

- attention: left = W_Q (rotated to the offset), right = W_K; a, b, c come from biases (Elhage et al. 2021)
- a bilinear layer's output direction u: sum over k of u_k (w_k . x)(v_k . x), with x = y (Pearce et al. 2024)
- two encoders: s = <f(x), g(y)> with both linear once their norms are frozen

If x and y are sums of parts (features, upstream heads), s is the sum over pairs of parts: a :class:`Ledger`. Norms,
traces, singular values, eigenvalues and the symmetric split cost O(d r^2) by Gram matrices and QR of the factors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cutaway.errors import BadInput


@dataclass(frozen=True, eq=False)
class Ledger:
    """A value of a quadratic form, entered pair by pair; everything added up is the value itself.

    ``cross[m, n]`` is what part m of x and part n of y do together; ``from_x`` and ``from_y`` what a part does through
    a bias of the other side; ``constant`` what the biases do alone.
    """

    cross: Float[Tensor, "m n"]
    from_x: Float[Tensor, " m"]
    from_y: Float[Tensor, " n"]
    constant: float

    @property
    def total(self) -> float:
        """The value of the form at the sums of the parts."""
        return float(self.cross.sum() + self.from_x.sum() + self.from_y.sum()) + self.constant

    def matrix(self) -> Float[Tensor, "m_and_bias n_and_bias"]:
        """One table: the last row is the bias of x's side, the last column that of y's side."""
        corner = torch.full_like(self.from_x[:1], self.constant)
        return torch.cat([
            torch.cat([self.cross, self.from_x[:, None]], 1),
            torch.cat([self.from_y, corner])[None],
        ])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values (descending, at most ``rank``) and the directions on both sides: M = sum of s_k left_k right_k'.

    A pair of directions has one common sign that means nothing: both may be turned around at once.
    """

    values: Float[Tensor, " k"]
    left: Float[Tensor, "k d_x"]
    right: Float[Tensor, "k d_y"]


@dataclass(frozen=True, eq=False)
class Quadratic:
    """x' M y + a' x + b' y + c with M = left' right kept as factors (see the module)."""

    left: Float[Tensor, "rank d_x"]
    right: Float[Tensor, "rank d_y"]
    from_x: Float[Tensor, " d_x"]
    from_y: Float[Tensor, " d_y"]
    constant: float = 0.0

    @classmethod
    def of_readings(
        cls,
        left: Float[Tensor, "rank d_x"],
        right: Float[Tensor, "rank d_y"],
        left_bias: Float[Tensor, " rank"] | None = None,
        right_bias: Float[Tensor, " rank"] | None = None,
        scale: float = 1.0,
    ) -> Quadratic:
        """scale * (left x + left_bias) . (right y + right_bias)."""
        alpha = torch.zeros_like(left[:, 0]) if left_bias is None else left_bias
        beta = torch.zeros_like(right[:, 0]) if right_bias is None else right_bias
        return cls(left * scale, right, scale * (beta @ left), scale * (alpha @ right), float(scale * (alpha @ beta)))

    @classmethod
    def of_bilinear(
        cls, first: Float[Tensor, "hidden d"], second: Float[Tensor, "hidden d"], direction: Float[Tensor, " hidden"]
    ) -> Quadratic:
        """The output of (first x) * (second x) along a direction of its hidden units: a form in x twice."""
        return cls.of_readings(first * direction[:, None], second)

    @property
    def rank(self) -> int:
        """The number of factors, at least M's rank."""
        return int(self.left.shape[0])

    def value(self, x: Float[Tensor, "*batch d_x"], y: Float[Tensor, "*batch d_y"]) -> Float[Tensor, "*batch"]:
        """s(x, y) for vectors side by side."""
        cross = ((x @ self.left.T) * (y @ self.right.T)).sum(-1)
        return cross + x @ self.from_x + y @ self.from_y + self.constant

    def ledger(self, x_parts: Float[Tensor, "m d_x"], y_parts: Float[Tensor, "n d_y"]) -> Ledger:
        """s at the sums of the parts, pair by pair."""
        cross = (x_parts @ self.left.T) @ (y_parts @ self.right.T).T
        return Ledger(cross, x_parts @ self.from_x, y_parts @ self.from_y, self.constant)

    def restricted(
        self, x_basis: Float[Tensor, "m d_x"] | None = None, y_basis: Float[Tensor, "n d_y"] | None = None
    ) -> Quadratic:
        """The same form in other coordinates: x = x_basis' u, y = y_basis' v (rows: features, tokens)."""
        left, from_x = (self.left, self.from_x) if x_basis is None else (self.left @ x_basis.T, x_basis @ self.from_x)
        right, from_y = (
            (self.right, self.from_y) if y_basis is None else (self.right @ y_basis.T, y_basis @ self.from_y)
        )
        return replace(self, left=left, right=right, from_x=from_x, from_y=from_y)

    def norm(self) -> float:
        """The Frobenius norm of M, from two r x r Gram matrices."""
        return float(((self.left @ self.left.T) * (self.right @ self.right.T)).sum().clamp(min=0).sqrt())

    def spectrum(self, count: int | None = None) -> Spectrum:
        """Singular values and directions of M, from QR of the factors and an r x r decomposition."""
        left_q, left_r = torch.linalg.qr(self.left.T)
        right_q, right_r = torch.linalg.qr(self.right.T)
        u, values, v = torch.linalg.svd(left_r @ right_r.T, full_matrices=False)
        count = len(values) if count is None else min(count, len(values))
        return Spectrum(values[:count], (left_q @ u).T[:count], (right_q @ v.T).T[:count])

    def eigenvalues(self) -> Complex[Tensor, " rank"]:
        """The eigenvalues of a square M that can differ from 0 (complex): those of right left'."""
        self._needs_square()
        return torch.linalg.eigvals(self.right @ self.left.T)

    def symmetric_share(self) -> float:
        """|(M + M')/2|^2 / |M|^2: 1 for a symmetric M, 0 for an antisymmetric one, near 1/2 for an unrelated pair.

        A symmetric score looks for likeness: whatever x wants in y, y would want in x.
        """
        self._needs_square()
        crossed = self.right @ self.left.T
        twice = float((crossed * crossed.T).sum())  # trace of M M
        energy = self.norm() ** 2
        if energy == 0:
            raise BadInput("A form without a quadratic part was to be split into symmetric and antisymmetric.")
        return 0.5 * (1 + twice / energy)

    def symmetric_eigen(self, count: int | None = None) -> tuple[Float[Tensor, " k"], Float[Tensor, "k d"]]:
        """Eigenvalues and directions of (M + M')/2, the largest in size first: x' M x = sum of l_k (v_k . x)^2."""
        self._needs_square()
        basis, triangle = torch.linalg.qr(torch.cat([self.left, self.right]).T)
        swapped = torch.cat([self.right, self.left]) @ basis
        small = 0.5 * triangle @ swapped
        values, vectors = torch.linalg.eigh((small + small.T) / 2)
        order = values.abs().argsort(descending=True)[:count]
        return values[order], (basis @ vectors[:, order]).T

    def antisymmetric_planes(self, count: int | None = None) -> tuple[Float[Tensor, " k"], Float[Tensor, "k 2 d"]]:
        """Planes in which (M - M')/2 turns x, the fastest first: x' A y = sum of t_k (p_k.x q_k.y - q_k.x p_k.y)."""
        self._needs_square()
        basis, triangle = torch.linalg.qr(torch.cat([self.left, self.right]).T)
        small = 0.5 * triangle @ (torch.cat([self.right, -self.left]) @ basis)
        # i A is Hermitian: its eigenvalues come as pairs +-t with eigenvectors (p +- i q) / sqrt 2.
        values, vectors = torch.linalg.eigh(1j * (small - small.T) / 2)
        positive = [int(k) for k in values.argsort(descending=True) if values[k] > 1e-9 * values.abs().max()][:count]
        chosen = vectors[:, positive].T * 2**0.5
        planes = torch.stack([chosen.imag, chosen.real], 1)
        return values[positive], planes @ basis.T

    def _needs_square(self) -> None:
        if self.left.shape[1] != self.right.shape[1]:
            raise BadInput(
                f"Both sides must be one space here; x has {self.left.shape[1]} and y {self.right.shape[1]} dimensions."
            )


def directions_for(
    form: Quadratic, x: Float[Tensor, "pair d_x"], y: Float[Tensor, "pair d_y"], share: float = 0.9
) -> int:
    """How many singular directions carry ``share`` of the quadratic part, summed over pairs that matter.

    Directions are taken in the order of what they add, signed, over all pairs (sparse attention decomposition, Franco
    and Crovella 2024); 0 where the quadratic part does not add up to anything positive.
    """
    if not 0 < share <= 1:
        raise BadInput(f"A share of {share} was asked for; give one above 0 and at most 1.")
    spectrum = form.spectrum()
    added = ((x @ spectrum.left.T) * (y @ spectrum.right.T)).sum(0) * spectrum.values
    total = float(added.sum())
    if total <= 0:
        return 0
    reached = added.sort(descending=True).values.cumsum(0) >= share * total - 1e-9 * abs(total)
    return int(reached.int().argmax()) + 1
