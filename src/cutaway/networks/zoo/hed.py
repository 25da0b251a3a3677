"""Holistically-nested edge detection on VGG16 (Xie and Tu 2015, arXiv:1504.06375), as a plain torch module.

    conv1_1 relu conv1_2 relu ─ side1 ─ side1_up ─┐
    pool1 conv2_1 relu conv2_2 relu ─ side2 ─ side2_up ─┤
    pool2 conv3_1 ... conv3_3 relu ─ side3 ─ side3_up ─┼─ fuse ─ edge logit
    pool3 conv4_1 ... conv4_3 relu ─ side4 ─ side4_up ─┤
    pool4 conv5_1 ... conv5_3 relu ─ side5 ─ side5_up ─┘

Everything after the last rectifier of a block is linear, so the edge logit splits exactly over channels:
``logit = fuse.bias + sum_k fuse.weight[k] * side{k}_up`` and ``side{k} = bias + sum_c weight[c] *
relu{k}_{last}[c]``.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = (2, 2, 3, 3, 3)


class Upsample(nn.Module):
    """Bilinear resizing to the input's size, pixel centres at half coordinates, borders repeated."""

    def forward(self, logit: Float[Tensor, "batch 1 y x"], size: tuple[int, int]) -> Tensor:
        """The logit map at ``size`` (rows, columns): ``[batch, 1, *size]``."""
        return functional.interpolate(logit, size=size, mode="bilinear", align_corners=False)


class VGG16HED(nn.Module):
    """Edge logits of a picture (BGR, 0..255, minus the mean): ``[batch, 3, y, x] -> [batch, 1, y, x]``.

    The logit is before the sigmoid; positive means that an edge is more likely than not. Sides that are odd
    at a pooling stage are padded at the end, as the trained network's were.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        for block, (width, depth) in enumerate(zip(WIDTHS, DEPTHS), start=1):
            if block > 1:
                self.add_module(f"pool{block - 1}", nn.MaxPool2d(2, stride=2, ceil_mode=True))
            for layer in range(1, depth + 1):
                self.add_module(f"conv{block}_{layer}", nn.Conv2d(channels, width, 3, padding=1))
                self.add_module(f"relu{block}_{layer}", nn.ReLU())
                channels = width
            self.add_module(f"side{block}", nn.Conv2d(width, 1, 1))
            self.add_module(f"side{block}_up", Upsample())
        self.fuse = nn.Conv2d(len(WIDTHS), 1, 1)

    def forward(self, x: Float[Tensor, "batch 3 y x"]) -> Float[Tensor, "batch 1 y x"]:
        """The fused edge logit at the resolution of the input."""
        size = (x.shape[-2], x.shape[-1])
        sides: list[Tensor] = []
        for block, depth in enumerate(DEPTHS, start=1):
            if block > 1:
                x = self.get_submodule(f"pool{block - 1}")(x)
            for layer in range(1, depth + 1):
                x = self.get_submodule(f"conv{block}_{layer}")(x)
                x = self.get_submodule(f"relu{block}_{layer}")(x)
            side = self.get_submodule(f"side{block}")(x)
            sides.append(self.get_submodule(f"side{block}_up")(side, size))
        return self.fuse(torch.cat(sides, dim=1))
