"""JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435): a learned threshold a latent, an L0 penalty.

Neither has a useful derivative by the threshold theta; straight-through estimators stand in, with a rectangular window
of width e around it: df/dtheta = -(theta / e) rect((z - theta) / e), d1/dtheta = -(1 / e) rect((z - theta) / e).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.bases.dictionaries.kind import DICTIONARIES, Pass
from cutaway.bases.dictionaries.kinds._losses import above_threshold, activity, output, squared_error

if TYPE_CHECKING:
    from cutaway.bases.dictionaries.dictionary import Dictionary
    from cutaway.bases.dictionaries.recipe import Recipe


@DICTIONARIES.register("jumprelu")
class JumpReLU:
    """f = z 1[z > theta]; penalty l1 * sum 1[z > theta]."""

    has_k: ClassVar[bool] = False
    extras: ClassVar[tuple[str, ...]] = ("threshold",)
    learned: ClassVar[tuple[str, ...]] = ("threshold",)
    revive: ClassVar[str] = "resample"

    @staticmethod
    def encode(dictionary: Dictionary, acts: Float[Tensor, "row d_in"]) -> Float[Tensor, "row latent"]:
        """What is above the thresholds."""
        return above_threshold(dictionary, acts)

    @staticmethod
    def train_on(
        dictionary: Dictionary, x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"], recipe: Recipe
    ) -> Pass:
        """Squared error and L0."""
        theta = dictionary.threshold
        assert theta is not None
        codes, counts = jump(dictionary.pre(x).relu(), theta, recipe.bandwidth)
        out = output(dictionary, codes @ dictionary.W_dec, x)
        return Pass(out, squared_error(out, y), recipe.l1 * counts.sum(1).mean(), *activity(codes))


def jump(
    z: Float[Tensor, "row latent"], theta: Float[Tensor, " latent"], bandwidth: float | int
) -> tuple[Float[Tensor, "row latent"], Float[Tensor, "row latent"]]:
    """``z 1[z > theta]`` and ``1[z > theta]``, with the straight-through derivatives by ``theta``."""
    return _Jump.apply(z, theta, bandwidth)  # type: ignore[no-any-return]


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
        above = (z > theta).to(z.dtype)
        ctx.save_for_backward(z, theta, above)
        ctx.bandwidth = bandwidth
        return z * above, above

    @staticmethod
    def backward(ctx: Any, by_code: Tensor, by_count: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        z, theta, above = ctx.saved_tensors
        window = ((z - theta).abs() < ctx.bandwidth / 2) / ctx.bandwidth
        return by_code * above, -(window * (theta * by_code + by_count)).sum(0), None
