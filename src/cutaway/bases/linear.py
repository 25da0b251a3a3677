"""Bases that nobody trains by gradients: neurons, random directions, principal components, NMF.

They are what learned dictionaries are held against, and bases of their own for convolutional sites.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from sklearn.decomposition import NMF
from torch import Tensor

from cutaway.bases.basis import Origin
from cutaway.errors import BadInput


@dataclass(frozen=True, eq=False)
class Linear:
    """Codes are ``(acts - mean) read``, [d latent]; directions are rows of ``write`` [latent d].

    ``keep``: only so many of the largest codes (by size) of each row stay; ``positive`` cuts negative codes off.
    """

    name: str
    read: Float[Tensor, "d latent"]
    write: Float[Tensor, "latent d"]
    mean: Float[Tensor, " d"]
    origin: Origin | None = None
    keep: int | None = None
    positive: bool = False

    @property
    def width(self) -> int:
        """Number of latents."""
        return int(self.write.shape[0])

    def encode(self, acts: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows latent"]:
        """How much of each latent is there."""
        codes = (acts - self.mean.to(acts)) @ self.read.to(acts)
        codes = codes.clamp(min=0) if self.positive else codes
        if self.keep is None or self.keep >= self.width:
            return codes
        places = codes.abs().topk(self.keep, -1).indices
        return torch.zeros_like(codes).scatter(-1, places, codes.gather(-1, places))

    def decode(self, codes: Float[Tensor, "*rows latent"]) -> Float[Tensor, "*rows d"]:
        """What codes stand for."""
        return codes @ self.write.to(codes) + self.mean.to(codes)

    def directions(self) -> Float[Tensor, "latent d"]:
        """What one unit of each latent writes."""
        return self.write

    def reconstruct(self, acts: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """What is left of acts."""
        return self.decode(self.encode(acts))

    def keeping(self, count: int) -> Linear:
        """The same basis with at most ``count`` codes a row: the fair rival of a dictionary with that L0."""
        return replace(self, keep=count, name=f"{self.name}-top{count}")


def neurons(d: int, origin: Origin | None = None) -> Linear:
    """The trivial basis: every unit is a latent."""
    return Linear("neurons", torch.eye(d), torch.eye(d), torch.zeros(d), origin)


def random_directions(d: int, width: int, *, seed: int = 0, origin: Origin | None = None) -> Linear:
    """Unit vectors of random direction, read by their own projections and scaled by d / width (a tight frame's)."""
    drawn = torch.randn(width, d, generator=torch.Generator().manual_seed(seed))
    drawn = drawn / drawn.norm(dim=1, keepdim=True)
    return Linear("random", drawn.T * (d / width if width > d else 1.0), drawn, torch.zeros(d), origin)


def principal_components(acts: Float[Tensor, "row d"], width: int, *, origin: Origin | None = None) -> Linear:
    """The directions of largest variance, the first first; raises ``BadInput`` for more than there are."""
    if not 1 <= width <= min(acts.shape):
        raise BadInput(
            f"{width} components of {tuple(acts.shape)} rows were asked for; at most {min(acts.shape)} exist."
        )
    mean = acts.mean(0)
    axes = torch.linalg.svd((acts - mean).double(), full_matrices=False).Vh[:width].to(acts)
    return Linear("pca", axes.T, axes, mean, origin)


@dataclass(frozen=True, eq=False)
class Factors:
    """Non-negative parts: codes are the non-negative least-squares coordinates of acts in ``parts`` [latent d]."""

    name: str
    parts: Float[Tensor, "latent d"]
    model: NMF
    origin: Origin | None = None

    @property
    def width(self) -> int:
        """Number of parts."""
        return int(self.parts.shape[0])

    def encode(self, acts: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows latent"]:
        """How much of each part is there; raises ``BadInput`` for negative acts."""
        flat = acts.reshape(-1, acts.shape[-1])
        _check_positive(flat)
        codes = self.model.transform(flat.detach().double().cpu().numpy())
        return torch.from_numpy(codes).to(acts).unflatten(0, acts.shape[:-1])

    def decode(self, codes: Float[Tensor, "*rows latent"]) -> Float[Tensor, "*rows d"]:
        """What codes stand for."""
        return codes @ self.parts.to(codes)

    def directions(self) -> Float[Tensor, "latent d"]:
        """The parts."""
        return self.parts

    def reconstruct(self, acts: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """What the parts make of acts."""
        return self.decode(self.encode(acts))


def nonnegative_parts(
    acts: Float[Tensor, "row d"], width: int, *, seed: int = 0, rounds: int = 400, origin: Origin | None = None
) -> Factors:
    """Non-negative matrix factorization of acts behind a rectifier (Lee and Seung 1999), one row a position."""
    _check_positive(acts)
    model = NMF(n_components=cast(Any, width), init="nndsvda", random_state=seed, max_iter=rounds, tol=1e-4)
    model.fit(acts.detach().double().cpu().numpy())
    parts = torch.from_numpy(np.ascontiguousarray(model.components_)).to(acts)
    return Factors(f"nmf{width}", parts, model, origin)


def _check_positive(acts: Tensor) -> None:
    if not bool(torch.isfinite(acts).all()):
        raise BadInput("Activations with NaN or infinite values were given; look for what made them first.")
    if float(acts.min()) < 0:
        raise BadInput(
            "Negative activations were given to a non-negative factorization; take a site behind a rectifier."
        )
