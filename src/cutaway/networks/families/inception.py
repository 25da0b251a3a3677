"""InceptionV1 with the site names of the Circuits thread: ``conv2d0``, ``mixed3b``, ``mixed4b_3x3_bottleneck``."""

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from cutaway.networks.sites import MAPS, VECTOR, Site
from cutaway.registry import FAMILIES


class InceptionFamily:
    """``mixed3b`` is the rectified concatenation of four branches, ``mixed3b.pre`` the same before the rectifier.

    Inside a mixed layer, ``mixed3b_3x3_bottleneck`` is after its rectifier and ``mixed3b_5x5.pre`` before it (after
    it, the branch is a range of the units of ``mixed3b``: :func:`cutaway.networks.inception.branch_units`).
    """

    modality = "image"

    def matches(self, module: nn.Module) -> bool:
        """True for :class:`cutaway.networks.inception.InceptionV1`, told by its parts."""
        return {"conv2d0", "mixed3a", "mixed5b", "softmax2"} <= dict(module.named_children()).keys()

    def task(self, module: nn.Module) -> str:
        """Classifier."""
        return "classifier"

    def sites(self, module: nn.Module) -> tuple[Site, ...]:
        """Convolutions, mixed layers, poolings and norms in the order of the forward pass, then the logits."""
        found: list[Site] = []
        width: int | None = 3
        for name, part in module.named_children():
            found += _sites(name, part, width)
            width = found[-1].width if found else width
        return tuple(replace(site, depth=depth) for depth, site in enumerate(found))


def _sites(name: str, part: nn.Module, width: int | None) -> Iterator[Site]:
    if hasattr(part, "concat"):
        yield from _mixed(name, part, width)
    elif hasattr(part, "before"):
        yield from _conv(name, name, part)
    elif isinstance(part, nn.Linear):
        yield Site(f"{name}_pre_activation", "output", VECTOR, name, width=part.out_features)
    elif isinstance(part, nn.Flatten):
        yield Site("avgpool0", "pool", VECTOR, name, width=width)
    elif not isinstance(part, (nn.Identity, nn.AdaptiveAvgPool2d)):
        yield Site(name, "norm" if "norm" in name else "pool", MAPS, name, width=width)


def _mixed(name: str, layer: nn.Module, inputs: int | None) -> Iterator[Site]:
    """The inside of a mixed layer, then the layer itself."""
    branches = 0
    for inner, part in layer.named_children():
        if hasattr(part, "before"):
            yield from _conv(f"{name}_{inner}", f"{name}.{inner}", part)
            branches += 0 if hasattr(part, "relu") else int(part.width)  # type: ignore[arg-type]
        elif inner == "pool":
            yield Site(f"{name}_pool", "pool", MAPS, f"{name}.pool", width=inputs)
    yield Site(f"{name}.pre", "conv.pre", MAPS, f"{name}.concat", width=branches)
    yield Site(name, "conv", MAPS, f"{name}.relu", width=branches)


def _conv(site: str, path: str, part: nn.Module) -> Iterator[Site]:
    width = int(part.width)  # type: ignore[arg-type]
    yield Site(f"{site}.pre", "conv.pre", MAPS, f"{path}.{part.before}", width=width)
    if hasattr(part, "relu"):
        yield Site(site, "conv", MAPS, f"{path}.relu", width=width)


FAMILIES.register("inception")(InceptionFamily())
