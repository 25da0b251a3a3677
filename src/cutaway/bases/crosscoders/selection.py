"""Which latents of a row are on: rectified (L1), the k largest, the n k largest of n rows, or above a threshold.

A latent counts by what it writes: its activation times its decoder's norm, so that no scale can be hidden in the
decoder. BatchTopK (Bussmann et al. 2024) ties rows together while it learns; afterwards a threshold takes its place,
the running mean of the smallest product that was kept, so that a row's code does not depend on its neighbours.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.bases.crosscoders.plan import BATCHTOPK, JUMPRELU, TOPK

THRESHOLD_MEMORY = 0.99  # share of the running threshold that a batch leaves
BANDWIDTH = 2.0  # of JumpReLU's gradient estimate, in units of an activation times a decoder norm
FIRST_THRESHOLD = 1.0  # likewise: features write about the square root of a block's width in scaled units


class Selection(nn.Module):
    """The selection of one coder: ``learn`` with gradients on a batch, ``pick`` row by row afterwards."""

    threshold: Tensor

    def __init__(self, kind: str, width: int, k: float | int | None) -> None:
        super().__init__()
        self.kind, self.k = kind, k
        if kind == JUMPRELU:
            self.log_threshold = nn.Parameter(torch.full((width,), FIRST_THRESHOLD).log())
        self.register_buffer("threshold", torch.zeros(()))

    def learn(self, pre: Float[Tensor, "row latent"], weights: Float[Tensor, " latent"]) -> Float[Tensor, "row latent"]:
        """Codes of a training batch; moves BatchTopK's threshold on."""
        if self.kind != BATCHTOPK:
            return self.pick(pre, weights)
        codes = pre.clamp(min=0)
        worth = (codes * weights).detach()
        kept = worth.flatten().topk(min(round(len(pre) * float(self.k or 0)), worth.numel()), sorted=False)
        self._remember(kept.values)
        mask = torch.zeros_like(worth).flatten().scatter_(0, kept.indices, 1.0).view_as(worth)
        return codes * mask

    def pick(self, pre: Float[Tensor, "row latent"], weights: Float[Tensor, " latent"]) -> Float[Tensor, "row latent"]:
        """Codes of rows that do not depend on one another."""
        codes = pre.clamp(min=0)
        if self.kind == BATCHTOPK:
            return codes * (codes * weights > self.threshold)
        if self.kind == TOPK:
            places = (codes * weights).topk(int(self.k or 0), -1).indices
            return torch.zeros_like(codes).scatter(-1, places, codes.gather(-1, places))
        if self.kind == JUMPRELU:
            return _JumpReLU.apply(pre * weights, self.log_threshold.exp()) / weights.clamp(min=1e-8)
        return codes

    @torch.no_grad()
    def _remember(self, kept: Tensor) -> None:
        smallest, now = float(kept.min()), float(self.threshold)  # 0 if fewer are positive than may be kept
        memory = THRESHOLD_MEMORY if now > 0 else 0.0
        self.threshold.fill_(memory * now + (1 - memory) * smallest)


class _JumpReLU(torch.autograd.Function):
    """z where z > theta, else 0; the gradient of theta is the rectangle estimate of Rajamanoharan et al. 2024."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor) -> Tensor:
        ctx.save_for_backward(z, theta)
        return z * (z > theta)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        z, theta = ctx.saved_tensors
        near = ((z - theta).abs() < BANDWIDTH / 2) / BANDWIDTH
        return grad * (z > theta), (-theta * near * grad).sum(0)
