"""Holistically-nested edge detection: VGG16 convolutions with five side readouts and a fusion (Xie and Tu, 2015)."""

import re
from dataclasses import replace

from torch import nn

from cutaway.networks.sites import MAPS, Site
from cutaway.registry import FAMILIES

_CONV = re.compile(r"conv\d_\d")
_SIDE = re.compile(r"side\d")


class HedFamily:
    """``conv3_3`` is after the ReLU, ``conv3_3.pre`` before it; ``side3`` a 1x1 readout, ``edges`` the fused logit."""

    modality = "image"

    def matches(self, module: nn.Module) -> bool:
        """True for a module with VGG convolutions named ``convX_Y`` and ``reluX_Y``, side readouts and a fusion."""
        children = dict(module.named_children())
        return {"conv1_1", "relu1_1", "side1", "fuse"} <= children.keys()

    def task(self, module: nn.Module) -> str:
        """Edges."""
        return "edges"

    def sites(self, module: nn.Module) -> tuple[Site, ...]:
        """Convolutions before and after the nonlinearity, side readouts, the fused edge logit."""
        sites: list[Site] = []
        for name, part in module.named_children():
            if _CONV.fullmatch(name) and isinstance(part, nn.Conv2d):
                relu = name.replace("conv", "relu")
                sites.append(Site(f"{name}.pre", "conv.pre", MAPS, name, width=part.out_channels))
                sites.append(Site(name, "conv", MAPS, relu, width=part.out_channels))
            elif _SIDE.fullmatch(name):
                sites.append(Site(name, "readout", MAPS, name, width=1))
        sites.append(Site("edges", "output", MAPS, "fuse", width=1))
        return tuple(replace(site, depth=depth) for depth, site in enumerate(sites))


FAMILIES.register("hed")(HedFamily())
