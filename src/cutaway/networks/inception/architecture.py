"""InceptionV1 (Szegedy et al. 2014, arXiv:1409.4842), the network of the Circuits thread, as a plain torch module.

    conv2d0 7x7/2 ─ maxpool0 ─ norm ─ conv2d1 1x1 ─ conv2d2 3x3 ─ norm ─ maxpool1
    mixed3a mixed3b ─ maxpool4 ─ mixed4a ... mixed4e ─ maxpool10 ─ mixed5a mixed5b ─ mean over the map ─ softmax2

A mixed layer concatenates four branches (1x1, 3x3, 5x5, pool_reduce, in this order) and rectifies them at once, so
that the concatenation has a value before and one after the rectifier. Two styles differ in more than their weights:

                 graph (the thread's)                   torchvision (a later port, trained with batch norm)
    a convolution has      a bias                       batch normalization
    contrast               local response norms         none
    padding                TensorFlow's SAME            symmetric; poolings round their size up
    5x5 branch             5x5                          3x3
    maxpool10              3x3/2                        2x2/2

Every part is a module of its own and works out of place, so that each has a name and keeps its input.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cutaway.errors import UnknownName
from cutaway.networks.zoo.lite import same_padding

Style = Literal["graph", "torchvision"]

MIXED = ("mixed3a", "mixed3b", "mixed4a", "mixed4b", "mixed4c", "mixed4d", "mixed4e", "mixed5a", "mixed5b")
STEM = ("conv2d0", "conv2d1", "conv2d2")
BRANCHES = ("1x1", "3x3", "5x5", "pool_reduce")
"""The order in which a mixed layer concatenates its branches."""

BN_EPSILON = 1e-3


@dataclass(frozen=True)
class Widths:
    """Channels of the six convolutions of a mixed layer, in the order of the paper's Table 1."""

    one: int
    three_bottleneck: int
    three: int
    five_bottleneck: int
    five: int
    pool_reduce: int

    @property
    def branches(self) -> tuple[int, int, int, int]:
        """Channels of the branches in the order of :data:`BRANCHES`."""
        return self.one, self.three, self.five, self.pool_reduce

    @property
    def total(self) -> int:
        """Channels of the concatenation."""
        return sum(self.branches)


@dataclass(frozen=True)
class ResponseNorm:
    """Local response normalization as TensorFlow defines it: ``x / (bias + alpha * sum of squares) ** beta``.

    The sum runs over the channels at most ``radius`` away; it is not divided by their number.
    """

    radius: int = 5
    alpha: float = 1e-4
    beta: float = 0.5
    bias: float = 1.0


@dataclass(frozen=True)
class Plan:
    """All sizes of an InceptionV1: which style, how many channels, which kernel in the ``5x5`` branch."""

    style: Style
    stem: tuple[int, int, int]
    mixed: tuple[Widths, ...]
    five_kernel: int
    classes: int
    response_norm: ResponseNorm | None = None


_TABLE_1 = {
    "mixed3a": Widths(64, 96, 128, 16, 32, 32),
    "mixed3b": Widths(128, 128, 192, 32, 96, 64),
    "mixed4a": Widths(192, 96, 208, 16, 48, 64),
    "mixed4b": Widths(160, 112, 224, 24, 64, 64),
    "mixed4c": Widths(128, 128, 256, 24, 64, 64),
    "mixed4d": Widths(112, 144, 288, 32, 64, 64),
    "mixed4e": Widths(256, 160, 320, 32, 128, 128),
    "mixed5a": Widths(256, 160, 320, 32, 128, 128),
    "mixed5b": Widths(384, 192, 384, 48, 128, 128),
}
# The trained graph departs from the paper's table in two places.
_GRAPH = _TABLE_1 | {"mixed4a": Widths(192, 96, 204, 16, 48, 64), "mixed5a": Widths(256, 160, 320, 48, 128, 128)}

GRAPH = Plan("graph", (64, 64, 192), tuple(_GRAPH.values()), 5, 1008, ResponseNorm())
"""The network of the thread: 1008 outputs, of which 1000 are classes."""

TORCHVISION = Plan("torchvision", (64, 64, 192), tuple(_TABLE_1.values()), 3, 1000)
"""The network of ``torchvision.models.googlenet``."""


class SameConv2d(nn.Conv2d):
    """A convolution with bias and TensorFlow's ``SAME`` padding, which depends on the input's size."""

    def forward(self, input: Float[Tensor, "batch inputs y x"]) -> Float[Tensor, "batch outputs yy xx"]:
        """The convolution of the padded input: ``ceil(side / stride)`` pixels a side."""
        return super().forward(functional.pad(input, _same(input, self.kernel_size[0], self.stride[0])))


class SameMaxPool2d(nn.Module):
    """A maximum over ``kernel`` by ``kernel`` pixels with TensorFlow's ``SAME`` padding: the border never wins."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel yy xx"]:
        """The maxima: ``ceil(side / stride)`` pixels a side."""
        padded = functional.pad(x, _same(x, self.kernel, self.stride), value=-torch.inf)
        return functional.max_pool2d(padded, self.kernel, self.stride)


def _same(x: Tensor, kernel: int, stride: int) -> tuple[int, int, int, int]:
    """Padding in the order of ``functional.pad``: columns before and after, rows before and after."""
    rows, columns = (same_padding(side, kernel, stride) for side in x.shape[-2:])
    return *columns, *rows


class LocalResponseNorm(nn.Module):
    """:class:`ResponseNorm` as a module."""

    def __init__(self, numbers: ResponseNorm) -> None:
        super().__init__()
        self.numbers = numbers

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
        """The normalized map, of the same shape."""
        own, size = self.numbers, 2 * self.numbers.radius + 1
        # torch divides the sum by the size of the window, channels beyond the ends counted.
        return functional.local_response_norm(x, size, alpha=own.alpha * size, beta=own.beta, k=own.bias)


class Conv(nn.Sequential):
    """Convolution ``conv``, in torchvision's style batch normalization ``norm``, and the rectifier ``relu`` if any.

    :attr:`before` names the module whose output is the value before the rectifier.
    """

    def __init__(
        self, style: Style, inputs: int, outputs: int, *, kernel: int, stride: int = 1, rectified: bool = True
    ) -> None:
        super().__init__()
        if style == "graph":
            self.add_module("conv", SameConv2d(inputs, outputs, kernel, stride))
        else:
            self.add_module("conv", nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False))
            self.add_module("norm", nn.BatchNorm2d(outputs, eps=BN_EPSILON))
        self.before = "conv" if style == "graph" else "norm"
        self.width = outputs
        if rectified:
            self.add_module("relu", nn.ReLU())


class Concat(nn.Module):
    """Joins maps along their channels."""

    def forward(self, maps: list[Tensor]) -> Float[Tensor, "batch channel y x"]:
        """The maps one after the other."""
        return torch.cat(maps, dim=1)


class Mixed(nn.Module):
    """A mixed layer: four branches over one input, concatenated in the order of :data:`BRANCHES` and rectified."""

    def __init__(self, style: Style, inputs: int, widths: Widths, *, five_kernel: int) -> None:
        super().__init__()
        w = widths
        self.add_module("1x1", Conv(style, inputs, w.one, kernel=1, rectified=False))
        self.add_module("3x3_bottleneck", Conv(style, inputs, w.three_bottleneck, kernel=1))
        self.add_module("3x3", Conv(style, w.three_bottleneck, w.three, kernel=3, rectified=False))
        self.add_module("5x5_bottleneck", Conv(style, inputs, w.five_bottleneck, kernel=1))
        self.add_module("5x5", Conv(style, w.five_bottleneck, w.five, kernel=five_kernel, rectified=False))
        self.add_module("pool", _pool(style, 3, stride=1))
        self.add_module("pool_reduce", Conv(style, inputs, w.pool_reduce, kernel=1, rectified=False))
        self.concat, self.relu = Concat(), nn.ReLU()
        self.widths = widths

    def forward(self, x: Float[Tensor, "batch inputs y x"]) -> Float[Tensor, "batch outputs y x"]:
        """The rectified concatenation, at the resolution of the input."""
        part = self.get_submodule
        before = [
            part("1x1")(x),
            part("3x3")(part("3x3_bottleneck")(x)),
            part("5x5")(part("5x5_bottleneck")(x)),
            part("pool_reduce")(part("pool")(x)),
        ]
        return self.relu(self.concat(before))


class InceptionV1(nn.Module):
    """Class logits of pictures: ``[batch, 3, y, x] -> [batch, classes]``, RGB; the range depends on the weights.

    The published weights of the graph take 0..255 minus 117 at 224 x 224 pixels; other sizes run too, because the
    mean before the last layer is over the whole map.
    """

    def __init__(self, plan: Plan = GRAPH) -> None:
        super().__init__()
        self.plan = plan
        style, (first, second, third) = plan.style, plan.stem
        self.conv2d0 = Conv(style, 3, first, kernel=7, stride=2)
        self.maxpool0 = _pool(style, 3, stride=2)
        self.localresponsenorm0 = _norm(plan)
        self.conv2d1 = Conv(style, first, second, kernel=1)
        self.conv2d2 = Conv(style, second, third, kernel=3)
        self.localresponsenorm1 = _norm(plan)
        self.maxpool1 = _pool(style, 3, stride=2)
        inputs = third
        for name, widths in zip(MIXED, plan.mixed, strict=True):
            if name == "mixed4a":
                self.maxpool4 = _pool(style, 3, stride=2)
            if name == "mixed5a":
                self.maxpool10 = _pool(style, 3 if style == "graph" else 2, stride=2)
            self.add_module(name, Mixed(style, inputs, widths, five_kernel=plan.five_kernel))
            inputs = widths.total
        self.avgpool0 = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.softmax2 = nn.Linear(inputs, plan.classes)

    def forward(self, x: Float[Tensor, "batch 3 y x"]) -> Float[Tensor, "batch classes"]:
        """Class logits, before the softmax."""
        for part in self.children():  # registered in the order in which they run
            x = part(x)
        return x


def _pool(style: Style, kernel: int, *, stride: int) -> nn.Module:
    if style == "graph":
        return SameMaxPool2d(kernel, stride)
    return nn.MaxPool2d(kernel, stride, padding=1 if stride == 1 else 0, ceil_mode=True)


def _norm(plan: Plan) -> nn.Module:
    return nn.Identity() if plan.response_norm is None else LocalResponseNorm(plan.response_norm)


def branch_units(module: InceptionV1, site: str) -> Mapping[str, range]:
    """Which units of a mixed layer belong to which branch: ``branch_units(net.module, "mixed3b")["5x5"]``.

    Raises ``UnknownName`` for a site that is not one of :data:`MIXED`.
    """
    if site not in MIXED:
        raise UnknownName("mixed layer", site, MIXED)
    widths = module.plan.mixed[MIXED.index(site)].branches
    ends = list(itertools.accumulate(widths))
    return {name: range(end - width, end) for name, width, end in zip(BRANCHES, widths, ends, strict=True)}
