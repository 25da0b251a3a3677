"""What a dictionary is held against, at the same L0: chance, components, neurons, a linear map, nothing.

    random     as many random directions, centred, the same number of largest codes kept, with the best common scale
    pca        principal components of the reference rows, the same number of largest codes kept
    neurons    the units that lie farthest from their mean, as many; the others at their mean
    linear     for a transcoder: the least-squares map of what is read to what is written (no sparsity)
    mean, zero what ablation puts there

For a transcoder, random, pca and neurons see the very site that is to be written, which favours them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.bases.basis import Basis, Origin
from cutaway.bases.linear import Linear, neurons, principal_components, random_directions

FIT_ROWS = 16_384
"""Rows of the reference stimuli that components, scales and maps are fitted on."""
RIVALS = ("random", "pca", "neurons", "linear")
ABLATIONS = ("mean", "zero")


@dataclass(frozen=True, eq=False)
class Affine:
    """A linear map with an offset as a basis: one latent for each output unit."""

    name: str
    matrix: Float[Tensor, "d_in d_out"]
    offset: Float[Tensor, " d_out"]
    origin: Origin | None = None

    @property
    def skip(self) -> None:
        """Nothing by-passes the codes."""
        return

    @property
    def width(self) -> int:
        """Number of output units."""
        return int(self.matrix.shape[1])

    def encode(self, acts: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """The map without its offset."""
        return acts @ self.matrix.to(acts)

    def decode(self, codes: Float[Tensor, "*rows d_out"]) -> Float[Tensor, "*rows d_out"]:
        """With its offset."""
        return codes + self.offset.to(codes)

    def directions(self) -> Float[Tensor, "d_out d_out"]:
        """The units themselves."""
        return torch.eye(self.width)

    def reconstruct(self, acts: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """The map."""
        return self.decode(self.encode(acts))


def rivals(
    basis: Basis,
    origin: Origin,
    x: Float[Tensor, "row d_in"],
    y: Float[Tensor, "row d_out"],
    mean: Float[Tensor, " d_out"],
    *,
    l0: float | int,
    seed: int = 0,
) -> dict[str, Basis]:
    """The rivals of ``basis`` by name, fitted on reference rows, each with at most round(l0) codes a row."""
    place = replace(origin, reads=origin.writes)
    d, keep = y.shape[1], max(1, round(l0))
    found: dict[str, Basis] = {"random": _random(d, basis.width, keep, y, mean, place, seed)}
    components = principal_components(y, min(d, len(y)), origin=place)
    found["pca"] = replace(components.keeping(keep), name="pca")
    found["neurons"] = replace(neurons(d, place).keeping(keep), mean=mean, name="neurons")
    if origin.replaces:
        found["linear"] = linear_map(x, y, origin)
    return found


def ablations(origin: Origin, mean: Float[Tensor, " d_out"]) -> dict[str, Basis]:
    """The mean and the zero predictor as bases of one silent latent."""
    place = replace(origin, reads=origin.writes)
    d = len(mean)
    return {
        name: Linear(name, torch.zeros(d, 1), torch.zeros(1, d), value, place)
        for name, value in (("mean", mean), ("zero", torch.zeros_like(mean)))
    }


def linear_map(x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"], origin: Origin) -> Affine:
    """Least squares with a ridge of 1e-6 of the mean variance, so that fewer rows than units are no accident."""
    centre, target = x.double().mean(0), y.double().mean(0)
    a, b = x.double() - centre, y.double() - target
    gram = a.T @ a
    gram.diagonal().add_(1e-6 * float(gram.diagonal().mean()) + 1e-12)
    matrix = torch.linalg.solve(gram, a.T @ b)
    return Affine("linear", matrix.to(x), (target - centre @ matrix).to(y), origin)


def _random(d: int, width: int, keep: int, y: Tensor, mean: Tensor, place: Origin, seed: int) -> Linear:
    """With the one scale of the codes that is best on the reference rows: a tight frame's is not, once most are cut."""
    drawn = replace(random_directions(d, width, seed=seed, origin=place).keeping(keep), mean=mean, name="random")
    rows = y[: max(1, (1 << 24) // width)]
    made, wanted = drawn.reconstruct(rows) - mean, rows - mean
    power = float((made * made).sum())
    return replace(drawn, read=drawn.read * (float((made * wanted).sum()) / power if power else 1.0))
