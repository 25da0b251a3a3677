"""Which weights matter: the strongest inputs and outputs of a unit, orders of units, sorted weight matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.weights import Kernel
from cutaway.errors import BadInput

Reduce = Literal["sum", "norm", "strongest"]


@dataclass(frozen=True)
class Contribution:
    """One end of a unit's weights.

    ``norm`` is the L2 norm of the kernel between the two, ``total`` its signed sum. ``share`` is its part of the
    unit's weight energy (sum of squares over all kernels of the unit, in [0, 1]), ``negative`` the part of the kernel's
    own energy that lies in negative weights, ``of_strongest`` the norm relative to the strongest one's (Olah et al.
    2020 list inputs above 0.3 of it).
    """

    address: str
    unit: int
    norm: float
    total: float
    share: float
    negative: float
    of_strongest: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "address": self.address, "norm": self.norm, "sum": self.total, "share": self.share,
            "negative_share": self.negative, "of_strongest": self.of_strongest,
        }  # fmt: skip


def inputs_of(kernel: Kernel, unit: int, *, top: int | None = None) -> tuple[Contribution, ...]:
    """What a target unit reads, the largest norm first; ``BadInput`` for a unit that the target does not have."""
    _check_unit(unit, kernel.values.shape[0], kernel.target)
    return ranked(kernel.values[unit], kernel.source, top=top)


def outputs_of(kernel: Kernel, unit: int, *, top: int | None = None) -> tuple[Contribution, ...]:
    """What reads a source unit, the largest norm first; ``BadInput`` for a unit that the source does not have."""
    _check_unit(unit, kernel.values.shape[1], kernel.source)
    return ranked(kernel.values[:, unit], kernel.target, top=top)


def ranked(kernels: Float[Tensor, "unit y x"], site: str, *, top: int | None = None) -> tuple[Contribution, ...]:
    """Kernels as contributions of a site's units, the largest norm first; for expanded weights as for direct ones."""
    energy = kernels.square().sum((1, 2))
    negative = kernels.clamp(max=0).square().sum((1, 2))
    total, strongest = float(energy.sum()), math.sqrt(float(energy.max()))
    order = torch.argsort(energy, descending=True, stable=True).tolist()[:top]
    return tuple(
        Contribution(
            f"{site}:{unit}",
            unit,
            math.sqrt(float(energy[unit])),
            float(kernels[unit].sum()),
            float(energy[unit]) / total if total else 0.0,
            float(negative[unit] / energy[unit]) if energy[unit] > 0 else 0.0,
            math.sqrt(float(energy[unit])) / strongest if strongest else 0.0,
        )
        for unit in order
    )


def negative_share(values: Float[Tensor, "target source y x"]) -> Float[Tensor, " target"]:
    """The share of each target's weight energy that lies in negative weights, in [0, 1]; 0 where all weights are 0."""
    energy = values.square().sum((1, 2, 3))
    return values.clamp(max=0).square().sum((1, 2, 3)) / energy.clamp(min=torch.finfo(values.dtype).tiny)


def reduced(values: Float[Tensor, "target source y x"], reduce: Reduce = "sum") -> Float[Tensor, "target source"]:
    """One number for each pair: the kernel's signed ``sum``, its L2 ``norm``, or its ``strongest`` entry, signed."""
    flat = values.flatten(2)
    if reduce == "sum":
        return flat.sum(2)
    if reduce == "norm":
        return flat.norm(dim=2)
    return flat.gather(2, flat.abs().argmax(2, keepdim=True))[..., 0]


def principal_order(matrix: Float[Tensor, "unit other"]) -> list[int]:
    """Units sorted by their score on the first principal component of their rows, the smallest first.

    The component's sign, which is arbitrary, is set so that its largest loading is positive. Units with like weights
    stand together (Voss et al. 2021, "Visualizing Weights").
    """
    centred = (matrix - matrix.mean(0)).double()
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    axis = axes[0] * torch.sign(axes[0][axes[0].abs().argmax()])
    return torch.argsort(centred @ axis, stable=True).tolist()


def sorted_matrix(
    kernel: Kernel, source_order: Sequence[int], target_order: Sequence[int], *, reduce: Reduce = "sum"
) -> Float[Tensor, "target source"]:
    """The weight matrix with chosen units in chosen orders, say by preferred orientation; rows are targets."""
    for unit in source_order:
        _check_unit(unit, kernel.values.shape[1], kernel.source)
    for unit in target_order:
        _check_unit(unit, kernel.values.shape[0], kernel.target)
    chosen = kernel.values[list(target_order)][:, list(source_order)]
    return reduced(chosen, reduce)


@dataclass(frozen=True, eq=False)
class AngleProfile:
    """Mean weight by relative angle (target minus source): ``centres`` in degrees from -period/2, ``counts`` pairs.

    A bin without pairs has mean NaN.
    """

    centres: Float[np.ndarray, " bin"]
    means: Float[np.ndarray, " bin"]
    counts: tuple[int, ...]
    period: float


def relative_angle_profile(
    matrix: Float[Tensor, "target source"],
    source_angles: Sequence[float],
    target_angles: Sequence[float],
    *,
    period: float | int = 360.0,
    bins: int = 12,
) -> AngleProfile:
    """How the weight depends on the angle between two units, e.g. positive at 0 and negative at the antipode.

    ``matrix`` is as from :func:`sorted_matrix`, angles in degrees, one for each of its columns and rows; ``period`` is
    360 for curves and 180 for lines. One bin is centred on 0. Raises ``BadInput`` if the counts do not fit.
    """
    if matrix.shape != (len(target_angles), len(source_angles)):
        raise BadInput(
            f"{len(target_angles)} and {len(source_angles)} angles were given for a matrix of shape "
            f"{tuple(matrix.shape)}; give one for each row (target) and one for each column (source)."
        )
    difference = np.asarray(target_angles, dtype=float)[:, None] - np.asarray(source_angles, dtype=float)[None]
    width = period / bins
    place = np.floor(difference / width + 0.5).astype(int) % bins
    flat = matrix.detach().double().cpu().numpy().ravel()
    counts = np.bincount(place.ravel(), minlength=bins)
    sums = np.bincount(place.ravel(), weights=flat, minlength=bins)
    means = np.divide(sums, counts, out=np.full(bins, np.nan), where=counts > 0)
    centres = (np.arange(bins) * width + period / 2) % period - period / 2
    order = np.argsort(centres)
    return AngleProfile(centres[order], means[order], tuple(int(each) for each in counts[order]), float(period))


def _check_unit(unit: int, width: int, site: str) -> None:
    if not 0 <= unit < width:
        raise BadInput(f"Unit {unit} of {site} was asked for; it has units 0 to {width - 1}.")
