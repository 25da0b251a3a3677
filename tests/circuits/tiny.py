"""Tiny convolutional networks whose weights between sites are known by hand, or by brute force."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cutaway.networks import Network, wrap


def wrapped(module: nn.Module, channels: int = 2, size: int = 32) -> Network:
    """A module as a network of the generic family, with traced sites."""
    torch.manual_seed(0)
    return wrap(module.eval(), example=torch.zeros(1, channels, size, size))


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with weights from a seed; normalizations get statistics of their own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.copy_(torch.randn(part.num_features, generator=generator))  # type: ignore[union-attr]
                part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)  # type: ignore[union-attr]
    return module


def jacobian(module: nn.Module, channels: int, size: int, place: tuple[int, int]) -> Tensor:
    """The Jacobian of a whole module at one position of its output, one backward pass for each unit: [out in y x]."""
    x = torch.zeros(1, channels, size, size, requires_grad=True)
    out = module(x)[0, :, place[0], place[1]]
    return torch.stack([torch.autograd.grad(each, x, retain_graph=True)[0][0] for each in out])


class Functional(nn.Module):
    """Nothing but convolutions are modules: rectifiers, pools and the residual sum are functions, some in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu_()
        y = self.second(x)
        y += x
        return self.third(functional.max_pool2d(functional.relu(y, inplace=True), 2))


class Inverted(nn.Module):
    """An inverted residual block: expand, depthwise, linear projection, plus the input."""

    def __init__(self, width: int = 3, hidden: int = 6) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()
        )
        self.project = nn.Sequential(nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.depthwise(self.expand(x))) + x


class Branches(nn.Module):
    """A layer of four branches that are joined, as in InceptionV1: 1x1, 3x3, pool then 1x1, and a dilated 3x3."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 1)
        self.one = nn.Conv2d(3, 2, 1)
        self.three = nn.Conv2d(3, 2, 3, padding=1)
        self.pooled = nn.Conv2d(3, 2, 1)
        self.wide = nn.Conv2d(3, 2, 3, padding=2, dilation=2)
        self.joined = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        pooled = self.pooled(functional.max_pool2d(x, 3, stride=1, padding=1))
        return self.joined(torch.cat([self.one(x), self.three(x), pooled, self.wide(x)], 1))


class Arithmetic(nn.Module):
    """A linear network whose arithmetic is all outside of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 1)
        self.scale = nn.Parameter(torch.ones(2, 1, 1))
        self.end = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.end(2.0 * self.one(functional.pad(x, (1, 1, 1, 1))) - self.two(x) / self.scale)


class Hidden(nn.Module):
    """Part of its work is done by another library."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.end = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.end(x + torch.from_numpy(2 * x.detach().numpy()))
