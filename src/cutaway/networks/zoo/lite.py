"""EfficientNet-Lite 0, 1 and 2 (Tan and Le 2019, arXiv:1905.11946, without squeeze-and-excite and with
ReLU6).

A stem, inverted-residual blocks, a head, global average pooling and a linear classifier. Every activation
is a module of its own and works out of place, so that each has a name and keeps its input. Convolutions pad
as TensorFlow's ``SAME`` does: so that the output has ``ceil(n / stride)`` pixels, with the odd pixel of
padding at the end.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

STEM_WIDTH, HEAD_WIDTH, CLASSES = 32, 1280, 1000
BN_EPSILON = 1e-3


@dataclass(frozen=True)
class Stage:
    """A run of blocks of one shape; the first of them carries the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)

SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
"""Variant to (width, depth) multipliers."""


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels before and after a side of that length, as TensorFlow's ``SAME`` pads: ``(112, 3, 2) -> (0,
    1)``.
    """
    total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A bias-free convolution with TensorFlow's ``SAME`` padding, which depends on the input's size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, input: Float[Tensor, "batch inputs y x"]) -> Float[Tensor, "batch outputs yy xx"]:
        """The convolution of the padded input: ``ceil(side / stride)`` pixels a side."""
        rows = same_padding(input.shape[-2], self.kernel_size[0], self.stride[0])
        columns = same_padding(input.shape[-1], self.kernel_size[1], self.stride[1])
        return super().forward(functional.pad(input, (*columns, *rows)))


class ConvNorm(nn.Sequential):
    """Convolution ``conv``, batch normalization ``norm`` and, unless ``linear``, the activation ``act``."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.add_module("conv", SameConv2d(inputs, outputs, kernel, stride=stride, groups=groups))
        self.add_module("norm", nn.BatchNorm2d(outputs, eps=BN_EPSILON))
        if not linear:
            self.add_module("act", nn.ReLU6())


class Block(nn.Module):
    """Inverted residual: ``expand`` (1x1), ``depthwise``, ``project`` (1x1, linear), plus the input if
    shapes agree.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = ConvNorm(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = ConvNorm(hidden, outputs, 1, linear=True)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "batch inputs y x"]) -> Float[Tensor, "batch outputs yy xx"]:
        """The block's output, ``ceil(side / stride)`` pixels a side."""
        projected = self.project(self.depthwise(self.expand(x)))
        return projected + x if self.residual else projected


class EfficientNetLite(nn.Module):
    """ImageNet class logits of pictures: ``[batch, 3, y, x] -> [batch, 1000]``; variant 0, 1 or 2."""

    def __init__(self, variant: int) -> None:
        super().__init__()
        width_scale, depth_scale = SCALES[variant]
        self.stem = ConvNorm(3, STEM_WIDTH, 3, stride=2)
        self.blocks = nn.Sequential()
        inputs = STEM_WIDTH
        for index, stage in enumerate(STAGES):
            outputs = _scaled_width(stage.width, width_scale)
            # The Lite variants keep the first and the last stage at their depth, like the stem and the head.
            ends = index in (0, len(STAGES) - 1)
            repeats = stage.repeats if ends else math.ceil(stage.repeats * depth_scale)
            for repeat in range(repeats):
                stride = stage.stride if repeat == 0 else 1
                block = Block(inputs, outputs, kernel=stage.kernel, stride=stride, expansion=stage.expansion)
                self.blocks.append(block)
                inputs = outputs
        self.head = ConvNorm(inputs, HEAD_WIDTH, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(HEAD_WIDTH, CLASSES)

    def forward(self, x: Float[Tensor, "batch 3 y x"]) -> Float[Tensor, "batch classes"]:
        """Class logits, before the softmax."""
        return self.classifier(self.pool(self.head(self.blocks(self.stem(x)))).flatten(1))


def _scaled_width(width: int, scale: float) -> int:
    """The nearest multiple of eight that is not more than a tenth below the scaled width."""
    scaled = width * scale
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded
