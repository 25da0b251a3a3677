"""``cutaway weights``: the weights between two sites, two units, or a site and a unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.cli.output import Output
from cutaway.cli.show import Net
from cutaway.cli.stimuli import Limit, Stimuli

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from cutaway.circuits import Contribution, Factors
    from cutaway.networks import Network

_MOST_CHANNELS = 64  # per side, of a matrix picture


class Version(StrEnum):
    """What nonlinearities between the sites are taken for."""

    average = "average"
    smoothed = "smoothed"
    best = "best"


From = Annotated[
    str,
    typer.Argument(metavar="FROM", help="A site or SITE:UNIT, for example conv3_2 or conv3_2:64.", show_default=False),
]
To = Annotated[
    str, typer.Argument(metavar="TO", help="A later site or SITE:UNIT, for example conv3_3:81.", show_default=False)
]
Expanded = Annotated[
    Version | None,
    typer.Option("--expanded", help="Weights across several layers; TO must be a unit.", show_default=False),
]
FactorCount = Annotated[
    int | None,
    typer.Option(
        "--factors", metavar="K", min=1, help="Also split the weights into K groups of channels.", show_default=False
    ),
]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="Also draw them: FILE.svg or FILE.png.", show_default=False, dir_okay=False
    ),
]
Top = Annotated[int, typer.Option("--top", metavar="N", min=1, help="How many of the strongest to show.")]


def weights(
    out: Output,
    net: Net,
    source: From,
    target: To,
    expanded: Expanded = None,
    factors: FactorCount = None,
    picture: Picture = None,
    top: Top = 12,
    stimuli: Stimuli = None,
    limit: Limit = None,
) -> None:
    """Weights between features: the strongest inputs or outputs of a unit, or the kernel between two.

    Normalization is folded in, and a kernel is compared with the Jacobian of its path before it is shown. With
    --expanded the two sites may be several layers apart; the smoothed version is shown --stimuli.
    """
    from cutaway.circuits.drawing import save
    from cutaway.circuits.drawing.style import check_suffix
    from cutaway.networks import load

    if picture is not None:
        check_suffix(picture)  # a wrong name is told before any work
    network = load(net, device=out.shared.device, progress=out.say)
    ends = _end(network, source), _end(network, target)
    found = _found(out, network, ends, expanded, stimuli, limit)
    split = _factors(found, factors, out.shared.seed) if factors else None
    shown = _shown(found, top)
    if picture is not None:
        out.say(f"Picture: {save(_figure(found, shown, split), picture)}")
    facts = {**found.facts, **shown.facts, "factors": _factor_facts(split) if split is not None else None}
    facts["picture"] = None if picture is None else str(picture)
    out.result(facts, lambda: Group(*_view(found, shown, split)), network=network)


# -- what was asked for ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _End:
    """One end of the weights: a site and, if a unit was named, that."""

    site: str
    unit: int | None

    def __str__(self) -> str:
        return self.site if self.unit is None else f"{self.site}:{self.unit}"


@dataclass(frozen=True, eq=False)
class _Found:
    """The weights ``[target source y x]`` of the units that were asked for, and what is known of them."""

    source: _End
    target: _End
    values: "Tensor"
    facts: dict[str, Any]
    note: str


@dataclass(frozen=True, eq=False)
class _Shown:
    """The rows to show: contributions of a unit's other end, or one kernel."""

    title: str
    rows: "tuple[Contribution, ...]"
    tiles: "Tensor"
    facts: dict[str, Any]


def _end(network: "Network", text: str) -> _End:
    if ":" not in text:
        return _End(network.site(text).name, None)
    address = network.address(text)
    return _End(address.site, address.unit)


def _found(
    out: Output,
    network: "Network",
    ends: tuple[_End, _End],
    version: Version | None,
    stimuli: Path | None,
    limit: int | None,
) -> _Found:
    from cutaway import circuits
    from cutaway.cli.stimuli import chosen
    from cutaway.errors import BadInput

    source, target = ends
    if version is None:
        kernel = circuits.kernel(network, source.site, target.site)
        values = kernel.values if target.unit is None else kernel.values[target.unit : target.unit + 1]
        return _Found(source, target, values, _kernel_facts(kernel), _kernel_note(kernel))
    if target.unit is None:
        raise BadInput(f"Expanded weights of all units of {target} were asked for; name one, such as {target}:0.")
    shown = chosen(network, stimuli, limit=limit, seed=out.shared.seed) if version == Version.smoothed else None
    values = circuits.expanded_weights(
        network, source.site, str(target), version=version.value, stimuli=shown, count=limit or 16, seed=out.shared.seed
    )
    facts = {"how": f"expanded-{version.value}", "exact": False, "through": [], "left_out": [], "check": None}
    return _Found(
        source, target, values, {**facts, "window": list(values.shape[-2:])}, f"expanded weights, {version.value}"
    )


def _kernel_facts(kernel: Any) -> dict[str, Any]:
    return {
        "how": kernel.how, "exact": kernel.exact, "through": list(kernel.through), "left_out": list(kernel.left_out),
        "check": kernel.check, "window": list(kernel.values.shape[-2:]), "stride": list(kernel.stride),
        "offset": list(kernel.offset),
    }  # fmt: skip


def _kernel_note(kernel: Any) -> str:
    exact = "exact" if kernel.exact else "not exact: a nonlinearity lies between"
    through = f"; through {', '.join(kernel.through)}" if kernel.through else ""
    others = f"; other paths, left out, run through {', '.join(kernel.left_out)}" if kernel.left_out else ""
    return f"{kernel.how} weights ({exact}){through}{others}"


# -- what is shown -----------------------------------------------------------------------------------------------


def _shown(found: _Found, top: int) -> _Shown:
    from cutaway.circuits import ranked

    source, target = found.source, found.target
    ends = {"source": str(source), "target": str(target)}
    if source.unit is not None and target.unit is not None:
        (pair,) = ranked(found.values[:, source.unit], source.site)
        facts = {**ends, "kernel": found.values[0, source.unit].tolist(), "norm": pair.norm, "sum": pair.total}
        return _Shown(f"{source} to {target}", (), found.values[:, source.unit], facts)
    if source.unit is not None:
        rows, kernels, word = (
            ranked(found.values[:, source.unit], target.site, top=top),
            found.values[:, source.unit],
            "outputs",
        )
    elif target.unit is not None:
        rows, kernels, word = ranked(found.values[0], source.site, top=top), found.values[0], "inputs"
    else:
        return _strongest_pairs(found, top, ends)
    title = f"strongest {word} of {source if source.unit is not None else target}"
    return _Shown(title, rows, kernels[[row.unit for row in rows]], {**ends, word: [row.to_json() for row in rows]})


def _strongest_pairs(found: _Found, top: int, ends: dict[str, str]) -> _Shown:
    """The strongest of all pairs of two sites, as rows whose address names both ends."""
    import dataclasses

    from cutaway.circuits import ranked

    flat, width = found.values.flatten(0, 1), found.values.shape[1]
    rows = tuple(
        dataclasses.replace(
            row, address=f"{found.source.site}:{row.unit % width} to {found.target.site}:{row.unit // width}"
        )
        for row in ranked(flat, "", top=top)
    )
    facts = {**ends, "pairs": [row.to_json() for row in rows]}
    return _Shown("strongest pairs", rows, flat[[row.unit for row in rows]], facts)


def _view(found: _Found, shown: _Shown, split: "Factors | None") -> Sequence[RenderableType]:
    parts: list[RenderableType] = [Text(f"{found.source} to {found.target}", style="bold"), Text(found.note), Text()]
    parts.append(_table(shown) if shown.rows else _numbers(shown.tiles[0]))
    if split is not None:
        parts += [Text(), _factor_table(split)]
    return parts


def _table(shown: _Shown) -> Table:
    lines = Table(box=None, pad_edge=False, header_style="bold")
    lines.add_column(shown.title, no_wrap=True)
    for title in ("L2 norm", "sum", "share of energy", "negative share"):
        lines.add_column(title, justify="right")
    for row in shown.rows:
        lines.add_row(row.address, f"{row.norm:.3g}", f"{row.total:+.3g}", f"{row.share:.1%}", f"{row.negative:.0%}")
    return lines


def _numbers(kernel: "Tensor") -> Table:
    lines = Table(box=None, pad_edge=False, show_header=False)
    for row in kernel.tolist():
        lines.add_row(*(f"{value:+.3g}" for value in row))
    return lines


# -- factors and pictures ----------------------------------------------------------------------------------------


def _factors(found: _Found, count: int, seed: int) -> "Factors":
    from cutaway.circuits import factorize
    from cutaway.errors import BadInput

    if found.source.unit is not None:
        raise BadInput(
            f"Factors group the channels of a site, and one unit, {found.source}, was named; name {found.source.site}."
        )
    return factorize(found.values, count, source=found.source.site, seed=seed)


def _factor_facts(split: "Factors") -> dict[str, Any]:
    return {
        "explained": split.explained.to_json(),
        "shares": list(split.shares),
        "channels": [
            [{"unit": unit, "loading": load} for unit, load in split.top_channels(k, 12)] for k in _each(split)
        ],
        "space": split.space.transpose(0, 1).tolist(),
    }


def _each(split: "Factors") -> range:
    return range(split.channels.shape[1])


def _factor_table(split: "Factors") -> Table:
    lines = Table(
        box=None, pad_edge=False, header_style="bold", caption=f"explained {split.explained}", caption_justify="left"
    )
    lines.add_column("factor")
    lines.add_column("explains", justify="right")
    lines.add_column("channels (loading)")
    for k in _each(split):
        channels = ", ".join(f"{unit} ({load:.2f})" for unit, load in split.top_channels(k, 6))
        lines.add_row(str(k + 1), f"{split.shares[k]:.1%}", channels)
    return lines


def _figure(found: _Found, shown: _Shown, split: "Factors | None") -> "Figure":
    from cutaway.circuits.drawing import factor_panels, kernel_tiles

    title = f"{found.source} → {found.target}"
    if split is not None:
        return factor_panels(split, title=title)
    if shown.rows and (found.source.unit is not None or found.target.unit is not None):
        labels, notes = [row.address for row in shown.rows], [f"{row.share:.1%} of energy" for row in shown.rows]
        return kernel_tiles(shown.tiles, labels, notes=notes, title=title)
    if shown.rows:
        return _matrix(found, title)
    return kernel_tiles(shown.tiles, [str(found.source)], title=title)


def _matrix(found: _Found, title: str) -> "Figure":
    """The channels with most weight on both sides, each side in the order of its first principal component."""
    from cutaway.circuits import principal_order, reduced
    from cutaway.circuits.drawing import weight_matrix

    matrix = reduced(found.values)
    rows, columns = (_largest(matrix.norm(dim=axis)) for axis in (1, 0))
    matrix = matrix[rows][:, columns]
    down, across = principal_order(matrix), principal_order(matrix.T)
    return weight_matrix(
        matrix[down][:, across],
        source=found.source.site, target=found.target.site,
        source_labels=[str(columns[index]) for index in across], target_labels=[str(rows[index]) for index in down],
        title=title, note=_note(found.values.shape[:2], matrix.shape), saturate=0.99,
    )  # fmt: skip


def _note(every: "Sequence[int]", drawn: "Sequence[int]") -> str:
    """What a matrix shows of a kernel, in words."""
    some = f"{drawn[0]} of {every[0]} rows, {drawn[1]} of {every[1]} columns (most weight)"
    which = "all units" if tuple(every) == tuple(drawn) else some
    return f"sums of kernels; {which}, sorted by principal component"


def _largest(sizes: "Tensor") -> list[int]:
    return sorted(sizes.topk(min(_MOST_CHANNELS, len(sizes))).indices.tolist())
