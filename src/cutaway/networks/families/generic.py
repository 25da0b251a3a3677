"""Any other module: each of its parts that returns a tensor is a site, named by its dotted path."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from cutaway.networks.sites import MAPS, POSITIONS, VECTOR, Site
from cutaway.registry import FAMILIES

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Softplus,
    nn.Tanh, nn.Sigmoid, nn.Hardsigmoid, nn.CELU,
)  # fmt: skip
NORMS = (nn.BatchNorm2d, nn.BatchNorm1d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


class GenericFamily:
    """Sites for convolutional and fully connected networks without a family of their own.

    A convolution or linear map is a site before the nonlinearity (kind ``conv.pre``, ``linear``), an activation
    module one after it (kind ``conv`` or ``activation``). What a functional call computes is not a module and so is
    not a site.
    """

    modality = "tensor"

    def matches(self, module: nn.Module) -> bool:
        """Always true."""
        return True

    def task(self, module: nn.Module) -> str:
        """Other: nothing is assumed about the output."""
        return "other"

    def sites(self, module: nn.Module) -> tuple[Site, ...]:
        """Leaf modules and named containers in order of registration; maps or vectors by what came before."""
        spatial = any(isinstance(part, nn.Conv2d) for part in module.modules())
        sites: list[Site] = []
        width: int | None = None
        flat = not spatial
        for path, part in module.named_modules():
            if not path or isinstance(part, (nn.ModuleList, nn.ModuleDict, nn.Dropout)):
                continue
            own = _width(part)
            if isinstance(part, (nn.Linear, nn.Flatten, nn.Embedding)):
                flat = True
            width = own if own is not None else width
            if any(True for _ in part.children()):
                continue
            layout = MAPS if not flat else VECTOR
            sites.append(Site(path, _kind(part, flat), layout, path, width=width, depth=len(sites)))
        return tuple(sites)


def _width(part: nn.Module) -> int | None:
    for attribute in ("out_channels", "out_features", "num_features", "embedding_dim"):
        if isinstance(getattr(part, attribute, None), int):
            return getattr(part, attribute)
    return None


def _kind(part: nn.Module, flat: bool) -> str:
    if isinstance(part, nn.Conv2d):
        return "conv.pre"
    if isinstance(part, nn.Linear):
        return "linear"
    if isinstance(part, ACTIVATIONS):
        return "activation" if flat else "conv"
    return "norm" if isinstance(part, NORMS) else "other"


def traced_sites(module: nn.Module, example: Any) -> tuple[Site, ...]:
    """Sites as one real pass meets them: true order, layouts and widths; a second use of a part is ``path#1``."""
    met: list[Site] = []
    handles = []
    calls: dict[str, int] = {}

    def remember(path: str, part: nn.Module) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, (tuple, list)) and output else output
            if isinstance(tensor, Tensor) and tensor.ndim >= 2:
                call = calls.get(path, 0)
                met.append(_traced(path, part, tensor, call))
            calls[path] = calls.get(path, 0) + 1

        return hook

    try:
        for path, part in module.named_modules():
            if path:
                handles.append(part.register_forward_hook(remember(path, part)))
        import torch

        with torch.no_grad():
            module(**example) if isinstance(example, dict) else module(example)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(replace(site, depth=depth) for depth, site in enumerate(met))


def _traced(path: str, part: nn.Module, tensor: Tensor, call: int) -> Site:
    layout = {2: VECTOR, 3: POSITIONS, 4: MAPS}.get(
        tensor.ndim, "batch unit " + " ".join(f"axis{i}" for i in range(tensor.ndim - 2))
    )
    name = f"{path}#{call}" if call else path
    axis = layout.split().index("unit")
    kind = _kind(part, flat=layout != MAPS)
    return Site(name, kind, layout, path, width=int(tensor.shape[axis]), call=call)


FAMILIES.register("generic")(GenericFamily())
