"""Do two runs find the same? Latents one by one (MMCS), and the subspaces that they span together.

Single latents of two seeds agree for a minority only, while subspaces reproduce (arXiv:2606.12138), so both are told.
Both are read against chance: random unit vectors of the same shape for MMCS; for subspaces the dimension's own share,
and, where activations are given, directions drawn from their covariance, which share its large axes for free.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.bases.basis import Basis
from cutaway.bases.linear import random_directions
from cutaway.errors import BadInput
from cutaway.evidence import Measurement, measure_against_null
from cutaway.evidence import random_directions as drawn_from_covariance
from cutaway.evidence.metrics import mmcs

NULLS = 9  # draws; the MMCS of random directions hardly varies


@dataclass(frozen=True)
class Stability:
    """Agreement of the bases, two by two; the null of ``mmcs`` is random directions, of ``subspace`` random subspaces.

    ``mmcs_excess`` is the mean over ordered pairs of MMCS less its null. ``subspace`` is the mean squared cosine of the
    principal angles between the two ``dimension``-dimensional main subspaces (1 the same; chance dimension / d), and
    ``covariance_subspace`` what directions drawn from the activations' covariance reach (NaN without activations).
    ``angles`` are the mean principal angles in degrees, the smallest first.
    """

    bases: tuple[str, ...]
    mmcs: Measurement
    mmcs_excess: float
    subspace: Measurement
    covariance_subspace: float
    dimension: int
    angles: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {
            name: value.to_json() if isinstance(value, Measurement) else value for name, value in vars(self).items()
        }
        return plain | {"covariance_subspace": None if np.isnan(self.covariance_subspace) else self.covariance_subspace}


def stability(
    bases: Sequence[Basis],
    *,
    acts: Float[Tensor, "row d_in"] | None = None,
    dimension: int | None = None,
    seed: int = 0,
) -> Stability:
    """Agreement of dictionaries that differ in their seed only.

    ``acts`` (what they encode) weighs each latent by the energy that it carries, sqrt(mean code^2) |direction|;
    without them all latents weigh their length. ``dimension`` of the compared subspaces: default a quarter of d.
    """
    directions = [_rows(basis) for basis in bases]
    widths = {rows.shape[1] for rows in directions}
    if len(bases) < 2 or len(widths) != 1:
        raise BadInput(f"Stability compares two or more bases of one site; {len(bases)} of widths {widths} were given.")
    d = widths.pop()
    size = max(1, d // 4) if dimension is None else dimension
    if not 1 <= size <= min(d, *(len(rows) for rows in directions)):
        raise BadInput(f"Subspaces of {size} dimensions were asked for in {d} dimensions; ask for 1 to {d}.")
    spans = [_span(basis, rows, acts, size) for basis, rows in zip(bases, directions)]
    cosines = np.mean([_cosines(a, b) for a, b in itertools.combinations(spans, 2)], axis=0)
    value, null = _mmcs(directions, seed)
    return Stability(
        tuple(basis.name for basis in bases),
        value,
        value.value - float(np.mean(null)),
        _subspace(spans, size, d, seed),
        _from_covariance(acts, directions, size, d, seed),
        size,
        tuple(float(angle) for angle in np.degrees(np.arccos(np.clip(cosines, 0, 1)))),
    )


def _mmcs(directions: Sequence[np.ndarray], seed: int) -> tuple[Measurement, list[float]]:
    pairs = list(itertools.permutations(directions, 2))
    found = [mmcs(a, b) for a, b in pairs]
    null = []
    for draw in range(NULLS):
        one, other = (
            random_directions(rows.shape[1], len(rows), seed=seed + 2 * draw + index).directions().double().numpy()
            for index, rows in enumerate(pairs[0])
        )
        null.append(mmcs(one, other))
    value = float(np.mean(found))
    return measure_against_null(value, null, n=len(directions), alternative="greater", seed=seed), null


def _span(
    basis: Basis, rows: Float[np.ndarray, "latent d"], acts: Tensor | None, size: int
) -> Float[np.ndarray, "d size"]:
    """The main subspace of the weighed directions."""
    weights = np.ones(len(rows))
    if acts is not None:
        with torch.no_grad():
            weights = basis.encode(acts).double().square().mean(0).sqrt().cpu().numpy()
    return np.linalg.svd(rows * weights[:, None], full_matrices=False)[2][:size].T


def _cosines(a: Float[np.ndarray, "d k"], b: Float[np.ndarray, "d k"]) -> Float[np.ndarray, " k"]:
    """Cosines of the principal angles, the largest first (Bjorck and Golub 1973)."""
    return np.linalg.svd(a.T @ b, compute_uv=False)


def _subspace(spans: Sequence[np.ndarray], size: int, d: int, seed: int) -> Measurement:
    found = [float(np.square(_cosines(a, b)).mean()) for a, b in itertools.combinations(spans, 2)]
    rng = np.random.default_rng(seed)
    drawn = [[np.linalg.qr(rng.standard_normal((d, size)))[0] for _ in range(2)] for _ in range(NULLS)]
    null = [float(np.square(_cosines(a, b)).mean()) for a, b in drawn]
    return measure_against_null(float(np.mean(found)), null, n=len(spans), alternative="greater", seed=seed)


def _from_covariance(acts: Tensor | None, directions: Sequence[np.ndarray], size: int, d: int, seed: int) -> float:
    if acts is None or acts.shape[1] != d or len(acts) < 2:
        return float("nan")
    drawn = [
        drawn_from_covariance(acts, len(rows), norm=1.0, seed=seed + index).double().numpy()
        for index, rows in enumerate(directions[:2])
    ]
    spans = [np.linalg.svd(rows, full_matrices=False)[2][:size].T for rows in drawn]
    return float(np.square(_cosines(*spans)).mean())


def _rows(basis: Basis) -> Float[np.ndarray, "latent d"]:
    return basis.directions().detach().double().cpu().numpy()
