"""A network as two tables: where one can look, and where its parameters are."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.networks import Network, Site
from cutaway.report.text import visible

SHOWN_DEPTH = 4  # levels of modules, unless all are asked for
T = TypeVar("T")
_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # a whole part of a dotted path


@dataclass(frozen=True)
class ModuleParameters:
    """The parameters inside one module, those of its parts included; a tied parameter counts where it is first."""

    path: str
    kind: str
    count: int


def facts(network: Network) -> dict[str, Any]:
    """What ``show`` knows, as plain values."""
    return {
        "description": network.description,
        "family": network.family,
        "modality": network.modality,
        "task": network.task,
        "notes": list(network.notes),
        "parameters": network.parameter_count(),
        "sites": [
            {
                "name": site.name,
                "kind": site.kind,
                "units": site.width,
                "layout": site.layout,
                "module": site.module,
                "port": site.port,
                "depth": site.depth,
            }
            for site in network.sites()
        ],
        "modules": [
            {"path": module.path, "kind": module.kind, "parameters": module.count} for module in modules(network)
        ],
    }


def modules(network: Network) -> list[ModuleParameters]:
    """The modules that hold parameters, outer before inner."""
    counts: Counter[str] = Counter()
    seen: set[int] = set()
    for path, parameter in network.module.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        parts = path.split(".")
        counts.update({".".join(parts[:depth]): parameter.numel() for depth in range(1, len(parts))})
    named = network.module.named_modules()
    return [ModuleParameters(path, type(module).__name__, counts[path]) for path, module in named if counts[path]]


def view(network: Network, *, every: bool) -> RenderableType:
    """The network for a reader; with ``every`` nothing is folded together."""
    return Group(_head(network), Text(), _sites(network.sites(), every), Text(), _modules(modules(network), every))


def _head(network: Network) -> RenderableType:
    lines = Table(box=None, show_header=False, pad_edge=False)
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column()
    lines.add_row("network", Text(visible(network.name), style="bold"))
    lines.add_row("what it is", visible(network.description))
    lines.add_row("family", f"{network.family}, {network.modality}, {network.task}")
    lines.add_row("parameters", f"{network.parameter_count():,}")
    lines.add_row("fingerprint", network.fingerprint)
    for note in network.notes:
        lines.add_row("note", visible(note))
    return lines


def _sites(sites: Sequence[Site], every: bool) -> RenderableType:
    rows = [Fold(site.name, 1, site) for site in sites]
    if not every:
        rows = fold(sites, lambda site: (site.name, site.kind, site.width, site.layout))
    lines = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("site", "kind"):
        lines.add_column(title, no_wrap=True)
    lines.add_column("units", justify="right")
    lines.add_column("layout", style="dim")
    for row in rows:
        units = "?" if row.first.width is None else f"{row.first.width:,}"
        lines.add_row(visible(row.label), row.first.kind, units, row.first.layout)
    return lines


def _modules(found: Sequence[ModuleParameters], every: bool) -> RenderableType:
    rows = [Fold(module.path, 1, module) for module in found]
    if not every:
        shallow = [module for module in found if module.path.count(".") < SHOWN_DEPTH]
        rows = fold(shallow, lambda module: (module.path, module.kind, module.count))
    lines = Table(box=None, pad_edge=False, header_style="bold")
    lines.add_column("module", no_wrap=True)
    lines.add_column("parameters", justify="right", no_wrap=True)
    lines.add_column("what", style="dim")
    for row in rows:
        indent = "  " * row.first.path.count(".")
        times = f"{row.count} x " if row.count > 1 else ""
        lines.add_row(indent + visible(row.label), f"{times}{row.first.count:,}", row.first.kind)
    return lines


@dataclass(frozen=True)
class Fold(Generic[T]):
    """``count`` alike things under one label, and the first of them."""

    label: str
    count: int
    first: T


def fold(things: Sequence[T], describe: Callable[[T], tuple[str, *tuple[Any, ...]]]) -> list[Fold[T]]:
    """Things as rows; those whose descriptions differ in the first number of their name only are one row.

    ``describe`` gives a dotted name and whatever else must be equal: ``layers.0.mlp`` to ``layers.29.mlp`` become
    ``layers.{0-29}.mlp``.
    """
    groups: dict[tuple[Any, ...], list[tuple[int, T]]] = {}
    for thing in things:
        name, *rest = describe(thing)
        match = _NUMBER.search(name)
        key = (name[: match.start()], name[match.end() :]) if match else (name, None)
        groups.setdefault((key, *rest), []).append((int(match[0]) if match else 0, thing))
    return [
        Fold(_label(before, after, [number for number, _ in members]), len(members), members[0][1])
        for ((before, after), *_), members in groups.items()
    ]


def _label(before: str, after: str | None, numbers: Sequence[int]) -> str:
    if after is None:
        return before
    return f"{before}{numbers[0] if len(numbers) == 1 else '{' + ranges(numbers) + '}'}{after}"


def ranges(numbers: Sequence[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0-2,5``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
