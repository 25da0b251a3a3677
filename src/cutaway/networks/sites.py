"""Sites and addresses: the names of places in a forward pass and of single features there."""

import re
from dataclasses import dataclass

from torch import Tensor

from cutaway.errors import BadInput

#: What a site's tensor looks like: one name for each axis. ``unit`` is the axis that addresses count along.
MAPS = "batch unit y x"
POSITIONS = "batch pos unit"
HEADS = "batch pos unit d_head"
PATTERN = "batch unit query key"
HEAD_STREAM = "batch unit pos d_head"
VECTOR = "batch unit"


@dataclass(frozen=True)
class Site:
    """A named place in the forward pass where a tensor lives.

    ``module`` is the dotted path of the module that is hooked and ``port`` says which of its tensors is meant:
    its ``output`` or ``input``, or, inside an attention function, ``pattern``, ``query``, ``key`` or ``value``.
    ``call`` counts how often the module has run before in the same pass (a module may be used twice).
    """

    name: str
    kind: str
    layout: str
    module: str
    port: str = "output"
    width: int | None = None  # number of units; None until a forward pass has shown it
    heads: int | None = None  # split the last axis into so many heads
    call: int = 0
    depth: int = 0  # order in the forward pass

    @property
    def unit_axis(self) -> int:
        """The axis of the captured tensor along which units are counted."""
        return self.layout.split().index("unit")

    @property
    def spatial(self) -> bool:
        """True for feature maps with a y and an x axis."""
        return self.layout == MAPS

    def view(self, tensor: Tensor) -> Tensor:
        """The module's tensor in this site's layout (a view: heads are split from the last axis)."""
        return tensor.unflatten(-1, (self.heads, -1)) if self.heads else tensor

    def unview(self, tensor: Tensor) -> Tensor:
        """The inverse of :meth:`view`."""
        return tensor.flatten(-2) if self.heads else tensor


@dataclass(frozen=True)
class Address:
    """The name of a feature: ``site:unit``, or ``site@basis:unit`` in another basis than the neurons."""

    site: str
    unit: int
    basis: str | None = None

    def __str__(self) -> str:
        return f"{self.site}{f'@{self.basis}' if self.basis else ''}:{self.unit}"


_ADDRESS = re.compile(r"(?P<site>[^@:\s]+)(?:@(?P<basis>[^:\s]+))?:(?P<unit>\d+)")


def parse_address(text: str | Address) -> Address:
    """``"layers.5.mlp@sae-topk32:5021"`` as an :class:`Address`."""
    if isinstance(text, Address):
        return text
    match = _ADDRESS.fullmatch(text.strip())
    if not match:
        raise BadInput(f"{text!r} is not an address; write SITE:UNIT, for example conv3_3:81.")
    return Address(match["site"], int(match["unit"]), match["basis"])
