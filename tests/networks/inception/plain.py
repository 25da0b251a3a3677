"""InceptionV1 once more, in plain functions over a file's tensors, and random weights in each layout."""

import torch
from torch import Tensor
from torch.nn import functional

from cutaway.networks.inception import MIXED, Plan, Widths

Tensors = dict[str, Tensor]
INNER = ("1x1", "3x3_bottleneck", "3x3", "5x5_bottleneck", "5x5", "pool_reduce")


def little(style: str) -> Plan:
    """A plan of the same shape with a handful of channels, each number of them different from its neighbours'."""
    mixed = tuple(Widths(6 + i % 2, 7, 8, 9, 5 + i % 3, 6) for i in range(len(MIXED)))
    return Plan(style, (7, 8, 9), mixed, 5 if style == "graph" else 3, 7)  # type: ignore[arg-type]


def shapes(plan: Plan) -> dict[str, tuple[int, int, int]]:
    """Outputs, inputs and kernel of every convolution, under the graph's names."""
    a, b, c = plan.stem
    found = {"conv2d0": (a, 3, 7), "conv2d1": (b, a, 1), "conv2d2": (c, b, 3)}
    inputs = c
    for layer, w in zip(MIXED, plan.mixed, strict=True):
        sizes = ((w.one, inputs, 1), (w.three_bottleneck, inputs, 1), (w.three, w.three_bottleneck, 3),
                 (w.five_bottleneck, inputs, 1), (w.five, w.five_bottleneck, plan.five_kernel),
                 (w.pool_reduce, inputs, 1))  # fmt: skip
        found |= {f"{layer}_{inner}": size for inner, size in zip(INNER, sizes, strict=True)}
        inputs = w.one + w.three + w.five + w.pool_reduce
    return found | {"softmax2": (plan.classes, inputs, 0)}


def random_graph(plan: Plan, seed: int = 0) -> Tensors:
    """Random tensors in the layout of the graph: kernels [y x in out]."""
    generator = torch.Generator().manual_seed(seed)
    tensors: Tensors = {}
    for name, (out, inputs, kernel) in shapes(plan).items():
        shape = (kernel, kernel, inputs, out) if kernel else (inputs, out)
        fan_in = inputs * max(kernel, 1) ** 2
        tensors[f"{name}_w"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        tensors[f"{name}_b"] = 0.3 * torch.randn(out, generator=generator)
    return tensors


def as_port(graph: Tensors) -> Tensors:
    """The same weights under the names and in the order of the torch ports."""
    turned = {}
    for name, tensor in graph.items():
        layer, kind = name.rsplit("_", 1)
        middle = "pre_activation_matmul" if layer == "softmax2" else "pre_relu_conv"
        order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[tensor.ndim]
        turned[f"{layer}_{middle}.{'weight' if kind == 'w' else 'bias'}"] = tensor.permute(order).contiguous()
    return turned


TORCHVISION_NAMES = {
    "1x1": "branch1", "3x3_bottleneck": "branch2.0", "3x3": "branch2.1", "5x5_bottleneck": "branch3.0",
    "5x5": "branch3.1", "pool_reduce": "branch4.1",
}  # fmt: skip


def torchvision_name(name: str) -> str:
    """``mixed3a_5x5`` as ``inception3a.branch3.1``, ``conv2d2`` as ``conv3``."""
    if name.startswith("conv2d"):
        return f"conv{int(name[-1]) + 1}"
    layer, inner = name.split("_", 1)
    return f"inception{layer[5:]}.{TORCHVISION_NAMES[inner]}"


def random_torchvision(plan: Plan, seed: int = 0) -> Tensors:
    """Random tensors in the layout of torchvision's state dict, auxiliary heads and counters included."""
    generator = torch.Generator().manual_seed(seed)
    tensors: Tensors = {"aux1.fc1.weight": torch.zeros(2, 2), "aux2.conv.bn.bias": torch.zeros(2)}
    for name, (out, inputs, kernel) in shapes(plan).items():
        if name == "softmax2":
            tensors["fc.weight"] = torch.randn(out, inputs, generator=generator)
            tensors["fc.bias"] = torch.randn(out, generator=generator)
            continue
        there = torchvision_name(name)
        fan_in = inputs * kernel**2
        tensors[f"{there}.conv.weight"] = (2 / fan_in) ** 0.5 * torch.randn(
            out, inputs, kernel, kernel, generator=generator
        )
        tensors[f"{there}.bn.weight"] = 0.5 + torch.rand(out, generator=generator)
        tensors[f"{there}.bn.bias"] = 0.3 * torch.randn(out, generator=generator)
        tensors[f"{there}.bn.running_mean"] = 0.3 * torch.randn(out, generator=generator)
        tensors[f"{there}.bn.running_var"] = 0.5 + torch.rand(out, generator=generator)
        tensors[f"{there}.bn.num_batches_tracked"] = torch.tensor(5)
    return tensors


# -- the graph -----------------------------------------------------------------------------------------------------


def padded(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    """TensorFlow's SAME, by the definition of its documentation."""
    amounts = []
    for side in (x.shape[3], x.shape[2]):
        needed = max(kernel - (stride if side % stride == 0 else side % stride), 0)
        amounts += [needed // 2, needed - needed // 2]
    return functional.pad(x, amounts, value=value)


def graph_conv(t: Tensors, name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = t[f"{name}_w"]
    x = padded(x, kernel.shape[0], stride, 0.0)
    return functional.conv2d(x, kernel.permute(3, 2, 0, 1), t[f"{name}_b"], stride)


def graph_pool(x: Tensor, stride: int) -> Tensor:
    return functional.max_pool2d(padded(x, 3, stride, float("-inf")), 3, stride)


def response_norm(x: Tensor) -> Tensor:
    """Radius 5, alpha 1e-4, beta 0.5, bias 1, channel by channel."""
    out = torch.empty_like(x)
    for channel in range(x.shape[1]):
        near = x[:, max(channel - 5, 0) : channel + 6]
        out[:, channel] = x[:, channel] / torch.sqrt(1 + 1e-4 * (near**2).sum(1))
    return out


def graph_forward(t: Tensors, x: Tensor) -> Tensors:
    """Every site of the graph for a batch of pictures."""
    seen: Tensors = {}

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        seen[f"{name}.pre"] = graph_conv(t, name, x, stride)
        seen[name] = seen[f"{name}.pre"].relu()
        return seen[name]

    x = response_norm(graph_pool(conv("conv2d0", x, 2), 2))
    x = graph_pool(response_norm(conv("conv2d2", conv("conv2d1", x))), 2)
    for layer in MIXED:
        x = graph_pool(x, 2) if layer in ("mixed4a", "mixed5a") else x
        one, pool = conv(f"{layer}_1x1", x), conv(f"{layer}_pool_reduce", graph_pool(x, 1))
        three = conv(f"{layer}_3x3", conv(f"{layer}_3x3_bottleneck", x))
        five = conv(f"{layer}_5x5", conv(f"{layer}_5x5_bottleneck", x))
        x = seen[layer] = torch.cat([one, three, five, pool], 1)
    seen["avgpool0"] = x.mean((2, 3))
    return seen | {"softmax2_pre_activation": seen["avgpool0"] @ t["softmax2_w"] + t["softmax2_b"]}


# -- torchvision ---------------------------------------------------------------------------------------------------


def torchvision_conv(t: Tensors, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Convolution and batch normalization, written out."""
    there = torchvision_name(name)
    kernel = t[f"{there}.conv.weight"]
    x = functional.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2)
    mean, variance, gain, shift = (
        t[f"{there}.bn.{kind}"][:, None, None] for kind in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 0.001) * gain + shift


def torchvision_forward(t: Tensors, x: Tensor) -> Tensors:
    """Every site of torchvision's googlenet for a batch of pictures."""
    seen: Tensors = {}

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        seen[f"{name}.pre"] = torchvision_conv(t, name, x, stride)
        seen[name] = seen[f"{name}.pre"].relu()
        return seen[name]

    pool = functional.max_pool2d
    x = pool(conv("conv2d0", x, 2), 3, 2, ceil_mode=True)
    x = pool(conv("conv2d2", conv("conv2d1", x)), 3, 2, ceil_mode=True)
    for layer in MIXED:
        if layer in ("mixed4a", "mixed5a"):
            x = pool(x, 3 if layer == "mixed4a" else 2, 2, ceil_mode=True)
        one, last = conv(f"{layer}_1x1", x), conv(f"{layer}_pool_reduce", pool(x, 3, 1, 1, ceil_mode=True))
        three = conv(f"{layer}_3x3", conv(f"{layer}_3x3_bottleneck", x))
        five = conv(f"{layer}_5x5", conv(f"{layer}_5x5_bottleneck", x))
        x = seen[layer] = torch.cat([one, three, five, last], 1)
    seen["avgpool0"] = x.mean((2, 3))
    return seen | {"softmax2_pre_activation": seen["avgpool0"] @ t["fc.weight"].T + t["fc.bias"]}
