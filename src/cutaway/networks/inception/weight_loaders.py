"""From a file of InceptionV1 weights to a network: three layouts, told by their names, one sentence for each fault.

    graph         conv2d0_w [y x in out], conv2d0_b, mixed3a_3x3_bottleneck_w, ..., softmax2_w [in out], softmax2_b
    port          conv2d0_pre_relu_conv.weight [out in y x], ..., softmax2_pre_activation_matmul.weight [out in]
    torchvision   conv1.conv.weight, conv1.bn.*, inception3a.branch2.0.conv.weight, ..., fc.weight

Widths are read from the tensors, then everything is held against the plan that they make: a file whose layers do not
fit each other is refused. ``docs/inceptionv1.md`` describes the layouts and how to export them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.errors import BadFile
from cutaway.networks.files import read_tensors
from cutaway.networks.inception.architecture import (
    GRAPH,
    MIXED,
    STEM,
    TORCHVISION,
    InceptionV1,
    Plan,
    ResponseNorm,
    Widths,
)
from cutaway.networks.network import Network
from cutaway.networks.preprocess import ImagePreprocess

INNER = ("1x1", "3x3_bottleneck", "3x3", "5x5_bottleneck", "5x5", "pool_reduce")
CONVOLUTIONS = (*STEM, *(f"{layer}_{inner}" for layer in MIXED for inner in INNER))
"""The 57 convolutions under their names in the graph."""

PREPROCESS = {
    # Lucid shows the graph 0..255 minus 117; torchvision's transform_input=True comes to (x - 0.5) / 0.5 of 0..1.
    "graph": ImagePreprocess(size=224, mean=(117.0, 117.0, 117.0), scale=(1.0, 1.0, 1.0), interpolation="bilinear"),
    "torchvision": ImagePreprocess(
        size=224, resize=256, mean=(127.5, 127.5, 127.5), scale=(127.5, 127.5, 127.5), interpolation="bilinear"
    ),
}


@dataclass(frozen=True)
class Source:
    """Where one tensor of the module comes from: its name in the file, and the file's axes in torch's order."""

    name: str
    axes: tuple[int, ...] = ()  # none: the file has torch's order

    def turned(self, tensor: Tensor) -> Tensor:
        """The file's tensor in torch's order; one with another number of axes as it is, for the checks to refuse."""
        return tensor.permute(self.axes) if len(self.axes) == tensor.ndim else tensor

    def shape_in_file(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape that the file's tensor should have, from torch's."""
        order = self.axes or range(len(shape))
        return tuple(shape[order.index(axis)] for axis in range(len(shape)))


@dataclass(frozen=True)
class Layout:
    """A way to name and store the tensors: ``convolution`` and ``classifier`` give their weight's name in the file."""

    name: str
    published: Plan
    probe: str  # a tensor that no other layout has
    ignored: tuple[str, ...]  # beginnings of names that are no part of the network: auxiliary heads, counters
    sources: Callable[[str, str], dict[str, Source]]
    classifier: dict[str, Source]


_KERNEL, _MATRIX = (3, 2, 0, 1), (1, 0)  # [y x in out] and [in out], as TensorFlow stores them


def _graph_sources(name: str, path: str) -> dict[str, Source]:
    return {f"{path}.conv.weight": Source(f"{name}_w", _KERNEL), f"{path}.conv.bias": Source(f"{name}_b")}


def _port_sources(name: str, path: str) -> dict[str, Source]:
    return {f"{path}.conv.{kind}": Source(f"{name}_pre_relu_conv.{kind}") for kind in ("weight", "bias")}


_BRANCH_OF = {"1x1": "branch1", "3x3_bottleneck": "branch2.0", "3x3": "branch2.1", "5x5_bottleneck": "branch3.0"}
_BRANCH_OF |= {"5x5": "branch3.1", "pool_reduce": "branch4.1"}


def _torchvision_sources(name: str, path: str) -> dict[str, Source]:
    if name in STEM:
        there = f"conv{STEM.index(name) + 1}"
    else:
        layer, inner = name.split("_", 1)
        there = f"{layer.replace('mixed', 'inception')}.{_BRANCH_OF[inner]}"
    sources = {f"{path}.conv.weight": Source(f"{there}.conv.weight")}
    for kind in ("weight", "bias", "running_mean", "running_var"):
        sources[f"{path}.norm.{kind}"] = Source(f"{there}.bn.{kind}")
    return sources


def _head(weight: str, bias: str, axes: tuple[int, ...] = ()) -> dict[str, Source]:
    return {"softmax2.weight": Source(weight, axes), "softmax2.bias": Source(bias)}


_HEADS = ("head0_", "head1_", "nn0_", "nn1_", "softmax0_", "softmax1_")
LAYOUTS = (
    Layout("graph", GRAPH, "conv2d0_w", _HEADS, _graph_sources, _head("softmax2_w", "softmax2_b", _MATRIX)),
    Layout(
        "port",
        GRAPH,
        "conv2d0_pre_relu_conv.weight",
        _HEADS,
        _port_sources,
        _head("softmax2_pre_activation_matmul.weight", "softmax2_pre_activation_matmul.bias"),
    ),
    Layout(
        "torchvision",
        TORCHVISION,
        "inception3a.branch1.conv.weight",
        ("aux1.", "aux2."),
        _torchvision_sources,
        _head("fc.weight", "fc.bias"),
    ),
)


def layout_of(names: Mapping[str, Any]) -> str | None:
    """The layout of InceptionV1 weights that these tensor names have (graph, port, torchvision); None for others."""
    return next((layout.name for layout in LAYOUTS if layout.probe in names), None)


def inception_v1(
    path: str | Path,
    *,
    preprocess: Callable[[Any], Tensor] | None = None,
    response_norm: ResponseNorm | None = None,
) -> Network:
    """InceptionV1 with the weights of a file (safetensors, npz or a PyTorch state dict), ready to run.

    The site names are those of the Circuits thread. Pictures are prepared as the published weights expect unless
    ``preprocess`` is given; ``response_norm`` replaces the graph's, which is inferred (docs/inceptionv1.md), and is of
    no use to a network without one. Weights are read as data only. Raises :class:`BadFile` for a file that is damaged,
    or that lacks, adds or misshapes a tensor.
    """
    path = Path(path)
    return from_tensors(read_tensors(path), path, preprocess=preprocess, response_norm=response_norm)


def from_tensors(
    tensors: Mapping[str, Tensor],
    path: Path,
    *,
    preprocess: Callable[[Any], Tensor] | None = None,
    response_norm: ResponseNorm | None = None,
) -> Network:
    """:func:`inception_v1` for tensors that were read before; ``path`` names their file in messages."""
    from cutaway.networks.families import inception  # noqa: F401  (enters the family)
    from cutaway.networks.load import wrap

    module, layout = module_from(tensors, path, response_norm)
    unusual = replace(module.plan, response_norm=layout.published.response_norm) != layout.published
    notes = (
        ("its widths are not those of the published weights, so their preprocessing may not fit",) if unusual else ()
    )
    return wrap(
        module,
        name=path.stem,
        family="inception",
        preprocess=preprocess or PREPROCESS[module.plan.style],
        description=f"InceptionV1 with weights of {path.name}, in the {layout.name} layout",
        source=str(path),
        notes=notes,
    )


def module_from(
    tensors: Mapping[str, Tensor], path: Path, response_norm: ResponseNorm | None = None
) -> tuple[InceptionV1, Layout]:
    """The module that these tensors fill, in evaluation mode, and their layout; raises :class:`BadFile`."""
    layout = next((layout for layout in LAYOUTS if layout.probe in tensors), None)
    if layout is None:
        names = " nor ".join(layout.probe for layout in LAYOUTS)
        raise BadFile(
            f"{path} was given for InceptionV1 and holds neither {names}; docs/inceptionv1.md has the layouts."
        )
    sources = _sources(layout)
    _check_names(tensors, layout, sources, path)
    plan = _plan(tensors, layout, path)
    if response_norm is not None and plan.response_norm is not None:
        plan = replace(plan, response_norm=response_norm)
    with torch.device("meta"):
        module = InceptionV1(plan)
    state = _filled(module, tensors, sources, path)
    counters = {key: torch.zeros((), dtype=torch.long) for key in module.state_dict() if key.endswith("_tracked")}
    module.load_state_dict(state | counters, strict=True, assign=True)
    return module.eval(), layout


def _sources(layout: Layout) -> dict[str, Source]:
    """Where every tensor of the module's state comes from."""
    found: dict[str, Source] = {}
    for name in CONVOLUTIONS:
        found |= layout.sources(name, name if name in STEM else name.replace("_", ".", 1))
    return found | layout.classifier


def _check_names(tensors: Mapping[str, Tensor], layout: Layout, sources: dict[str, Source], path: Path) -> None:
    wanted = {source.name for source in sources.values()}
    missing = sorted(wanted - tensors.keys())
    extra = sorted(name for name in tensors.keys() - wanted if not _ignored(name, layout))
    if missing:
        raise BadFile(
            f"{path} has InceptionV1's {layout.name} layout and lacks {_listed(missing)}; export it again with all "
            f"{len(wanted)} tensors."
        )
    if extra:
        raise BadFile(
            f"{path} has InceptionV1's {layout.name} layout and holds {_listed(extra)} besides, which is no part of "
            "it; remove that, or load the network with code of your own."
        )


def _ignored(name: str, layout: Layout) -> bool:
    return name.startswith(layout.ignored) or name.endswith("num_batches_tracked")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _plan(tensors: Mapping[str, Tensor], layout: Layout, path: Path) -> Plan:
    """The sizes that the convolutions' own kernels say."""
    kernels = dict(_kernels(tensors, layout, path))
    out = {name: int(kernel.shape[0]) for name, kernel in kernels.items()}
    mixed = tuple(Widths(*(out[f"{layer}_{inner}"] for inner in INNER)) for layer in MIXED)
    head = layout.classifier["softmax2.bias"].name
    return replace(
        layout.published,
        stem=(out["conv2d0"], out["conv2d1"], out["conv2d2"]),
        mixed=mixed,
        five_kernel=int(kernels["mixed3a_5x5"].shape[2]),
        classes=tensors[head].numel(),
    )


def _kernels(tensors: Mapping[str, Tensor], layout: Layout, path: Path) -> Iterator[tuple[str, Tensor]]:
    for name in CONVOLUTIONS:
        source = next(iter(layout.sources(name, "").values()))  # a convolution's first tensor is its kernel
        kernel = source.turned(tensors[source.name])
        if kernel.ndim != 4 or 0 in kernel.shape:
            shape = tuple(tensors[source.name].shape)
            raise BadFile(f"{path} holds {source.name} of shape {shape}, expected the four axes of a kernel; {_AGAIN}.")
        yield name, kernel


_AGAIN = "export it again from the network that it belongs to"


def _filled(
    module: InceptionV1, tensors: Mapping[str, Tensor], sources: dict[str, Source], path: Path
) -> dict[str, Tensor]:
    """The module's state from the file's tensors, float32, every shape held against the module."""
    state: dict[str, Tensor] = {}
    expected = module.state_dict()
    for key, source in sources.items():
        given = tensors[source.name]
        turned, shape = source.turned(given), expected[key].shape
        if turned.shape != shape:
            raise BadFile(
                f"{path} holds {source.name} of shape {tuple(given.shape)}, expected {source.shape_in_file(shape)} "
                f"beside the other layers; {_AGAIN}."
            )
        if not given.is_floating_point():
            raise BadFile(f"{path} holds {source.name} of type {given.dtype}; export it as floating point.")
        state[key] = turned.to(torch.float32).contiguous()
    return state
