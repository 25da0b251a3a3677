"""One pass cut apart at sites: what each later part takes from each earlier one, all others held.

At every chosen site the pass goes on with a copy that has no history. Gradients with respect to these copies then run
between neighbouring sites (and past sites, along residual connections) but never through one: they are direct edges.
On the way every rectifier, pooling switch and norm is as it was on this picture, for that is what a gradient is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.circuits.edges.wiring import frozen
from cutaway.circuits.maps.target import MapTarget
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.edits import Edit, Replace
from cutaway.networks.network import Batch, Network

BATCH = 8  # pictures of one pass with copies
PIXELS = 1 << 18  # of all of them together


@dataclass(frozen=True, eq=False)
class Opened:
    """A picture's pass: ``raw`` is what each site computes, ``leaves`` the copy that goes on; sites in the order met.

    ``shown`` is the input, a leaf as well; ``target`` the number that is explained, with its history.
    """

    network: Network
    batch: Batch
    question: MapTarget
    shown: Tensor
    raw: dict[str, Tensor]
    leaves: dict[str, Tensor]
    target: Tensor

    @property
    def sites(self) -> list[str]:
        """In the order of the pass."""
        return list(self.leaves)

    @property
    def metric(self) -> float:
        """What is explained."""
        return float(self.target.detach())

    def behind(self, site: str | None) -> list[str]:
        """Sites before a site; all for the target."""
        return self.sites if site is None else self.sites[: self.sites.index(site)]

    def gradients(self, value: Tensor, site: str | None) -> dict[str, Tensor]:
        """d value / d what can be read before ``site`` (None: the target), the input under the name ``""``."""
        names = self.behind(site)
        asked = [self.shown, *(self.leaves[name] for name in names)]
        found = torch.autograd.grad(value, asked, retain_graph=True, allow_unused=True)
        return {
            name: torch.zeros_like(leaf) if each is None else each
            for name, leaf, each in zip(("", *names), asked, found)
        }


def open_up(network: Network, batch: Batch, question: MapTarget, sites: Sequence[str]) -> Opened:
    """Runs once; raises ``BadInput`` for sites that the target does not depend on, and more than one picture."""
    key, shown = _shown(network, batch)
    leaf = shown.detach().clone().requires_grad_()
    raw, leaves = dict[str, Tensor](), dict[str, Tensor]()

    def cut(name: str) -> Edit:
        def apart(value: Tensor) -> Tensor:
            raw[name], leaves[name] = value, value.detach().clone().requires_grad_()
            return leaves[name].clone()  # what comes next may work in place

        return Replace(name, apart)

    opened = Batch({**batch.inputs, key: leaf.clone()}, batch.ids, batch.mask)
    capture = [question.site] if question.site else []
    with frozen(network.module), torch.enable_grad():
        value, output = _target_of(network, opened, question, [cut(name) for name in sites], grad=True)
        target = question.read(network, output, value)[0]
    if not bool(torch.isfinite(target)):
        raise BadInput("What is to be explained is not a number; mend the checkpoint or the picture.")
    found = Opened(network, batch, question, leaf, raw, leaves, target)
    _check_reached(found, [name for name in sites if name not in capture])
    return found


def _target_of(
    network: Network, batch: Batch, question: MapTarget, edits: Sequence[Edit], *, grad: bool = False
) -> tuple[Tensor | None, Tensor | None]:
    """What lies at the target's site, or the output."""
    caught: list[Tensor] = []

    def look(value: Tensor) -> Tensor:
        caught.append(value)
        return value.clone()

    if question.site is None:
        return None, network.run(batch, edits=edits, grad=grad).logits
    network.run(batch, edits=[*edits, Replace(question.site, look)], stop_at=question.site, grad=grad)
    return caught[0], None


def _shown(network: Network, batch: Batch) -> tuple[str, Tensor]:
    own = [(key, value) for key, value in batch.inputs.items() if value.is_floating_point()]
    if len(own) != 1 or own[0][1].ndim != 4:
        raise NotTestable(f"{network.name} is not shown one picture, so that there are no maps to trace through.")
    if len(batch) != 1:
        raise BadInput(f"{len(batch)} pictures were given; a graph is of one.")
    return own[0]


def _check_reached(opened: Opened, sites: Sequence[str]) -> None:
    missing = [name for name in sites if name not in opened.leaves]
    if missing:
        raise BadInput(f"The site {missing[0]} is not met on the way to the target; choose sites before it.")
    if not opened.target.requires_grad:
        raise BadInput("The target does not depend on any of the sites; choose sites before it.")


# -- copies --------------------------------------------------------------------------------------------------------

Change = tuple[str, Tensor]  # what is added at a site ("": the input), [unit y x]


def rows_at_once(opened: Opened) -> int:
    """How many copies of the picture are run together."""
    return max(1, min(BATCH, PIXELS // max(1, opened.shown.shape[2] * opened.shown.shape[3])))


def run_copies(
    opened: Opened, changes: Sequence[Change], *, pinned: Sequence[str] = (), until: str | None = None
) -> Tensor:
    """Runs one copy of the picture for each change; sites in ``pinned`` give on what they held, but for the change.

    Returns what lies at ``until`` [copy unit y x], or the target's values [copy].
    """
    network, (key, shown) = opened.network, _shown(opened.network, opened.batch)
    copies = shown.detach().expand(len(changes), *shown.shape[1:]).clone()
    for row, (name, added) in enumerate(changes):
        if name == "":
            copies[row] += added.to(copies)
    batch = Batch({key: copies}, tuple(f"copy{row}" for row in range(len(changes))))
    touched = {name for name, _ in changes if name} | set(pinned)
    edits = [
        Replace(name, _given(opened, name, changes, held=name in pinned)) for name in opened.sites if name in touched
    ]
    with torch.no_grad():
        if until is not None:
            return network.run(batch, capture=[until], edits=edits, stop_at=until)[until]
        value, output = _target_of(network, batch, opened.question, edits)
        return opened.question.read(network, output, value)


def _given(opened: Opened, name: str, changes: Sequence[Change], *, held: bool) -> Callable[[Tensor], Tensor]:
    def give(value: Tensor) -> Tensor:
        value = opened.leaves[name].detach().expand_as(value).clone() if held else value.clone()
        for row, (site, added) in enumerate(changes):
            if site == name:
                value[row] += added.to(value)
        return value

    return give
