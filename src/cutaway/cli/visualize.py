"""``cutaway visualize``: images made for features, as PNG files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Group, RenderableType

from cutaway.cli.output import Output
from cutaway.cli.show import Net
from cutaway.cli.stimuli import Limit, Stimuli, chosen
from cutaway.cli.workplace import RUNS, folder_of

NATURAL = 48  # images that ranks are taken among, by default
PEERS = 24  # other units whose natural images are the baseline of "likeness"
SMALLEST_FILE = 224  # pixels of the longer side of a PNG; smaller canvases are enlarged

Addresses = Annotated[
    list[str],
    typer.Argument(
        metavar="ADDRESS",
        help="SITE:UNIT, a range SITE:0-63, or with --all a SITE.",
        show_default=False,
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Where the PNG files go. [default: runs/NETWORK/visualizations]",
        show_default=False, file_okay=False,
    ),
]  # fmt: skip


Every = Annotated[bool, typer.Option("--all", help="All units of the sites that are named alone.")]
Steps = Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Steps of gradient ascent.")]
Size = Annotated[
    int | None,
    typer.Option(
        "--size", metavar="PIXELS", min=4, help="A side of the canvas. [default: the receptive field and a margin]",
        show_default=False,
    ),
]  # fmt: skip
Wanted = Annotated[
    Literal["channel", "neuron"], typer.Option("--objective", help="Mean over positions, or the centre alone.")
]
Varied = Annotated[
    Literal["fourier", "phase", "pixels"],
    typer.Option("--parametrization", help="Fourier coefficients, phases under natural magnitudes, or pixels."),
]
Minimum = Annotated[bool, typer.Option("--min", help="Images that make units weak.")]
Gray = Annotated[bool, typer.Option("--gray", help="Without colours.")]
Alpha = Annotated[bool, typer.Option("--alpha", help="Transparent where nothing matters.")]
Rank = Annotated[bool, typer.Option("--rank/--no-rank", help="Compare with natural images.")]


def visualize(
    out: Output, net: Net, addresses: Addresses, every: Every = False, folder: Folder = None, steps: Steps = 64,
    size: Size = None, objective: Wanted = "channel", parametrization: Varied = "fourier", minimum: Minimum = False,
    gray: Gray = False, alpha: Alpha = False, rank: Rank = True, stimuli: Stimuli = None, limit: Limit = None,
) -> None:  # fmt: skip
    """Make images that features answer to, one PNG each and a contact sheet, and check them on natural images.

    The rank of an image is the share of natural images whose best position it exceeds.
    """
    from cutaway.features.visualize import visualize as make
    from cutaway.networks import load

    network = load(net, device=out.shared.device, progress=out.say)
    wanted = spelled_out(network, addresses, every=every)
    shown = _natural(network, stimuli, limit, out) if rank else None
    images = make(
        network, wanted, steps=steps, size=size, objective=objective, parametrization=parametrization,
        minimum=minimum, gray=gray, alpha=alpha, seed=out.shared.seed, progress=out.progress,
    )  # fmt: skip
    checks = [None] * len(images) if shown is None else _checked(out, network, images, shown)
    place = folder or RUNS / folder_of(network) / "visualizations"
    files, sheet = _written(place, images, minimum=minimum)
    rows = [_row(each, file, check) for each, file, check in zip(images, files, checks)]
    natural = None if shown is None else {"name": shown.name, "fingerprint": shown.fingerprint, "count": len(shown)}
    facts = {"visualizations": rows, "sheet": None if sheet is None else str(sheet), "natural": natural}
    out.result(facts, lambda: _view(rows, sheet), network=network)


def spelled_out(network: Any, addresses: Sequence[str], *, every: bool = False) -> list[str]:
    """Addresses with ranges (``conv3_3:0-63``) and, with ``every``, whole sites written out; no address twice."""
    from cutaway.errors import BadInput

    found: list[str] = []
    for text in addresses:
        span = re.fullmatch(r"(?P<site>[^:\s]+):(?P<first>\d+)-(?P<last>\d+)", text)
        if span:
            first, last = int(span["first"]), int(span["last"])
            if first > last:
                raise BadInput(f"The range {text!r} ends before it begins; write SITE:{last}-{first}.")
            network.address(f"{span['site']}:{last}")  # a wrong end is told before a long list is made
            found += [f"{span['site']}:{unit}" for unit in range(first, last + 1)]
        elif ":" not in text:
            found += _whole(network, text, every)
        else:
            found.append(str(network.address(text)))
    return list(dict.fromkeys(found))


def _whole(network: Any, name: str, every: bool) -> list[str]:
    from cutaway.errors import BadInput

    site = network.site(name)
    if not every:
        raise BadInput(f"{name!r} names a site, not a unit; write {name}:0, {name}:0-15, or add --all.")
    if site.width is None:
        raise BadInput(f"Nothing says how many units {name} has; name them: {name}:0-15.")
    return [f"{name}:{unit}" for unit in range(site.width)]


def _natural(network: Any, stimuli: Path | None, limit: int | None, out: Output) -> Any:
    """What ranks are taken among; None for a network that cannot be shown pictures."""
    from cutaway.stimuli import builtin_photographs

    if network.modality != "image" or network.preprocess is None:
        if stimuli is not None:
            chosen(network, stimuli)  # says in one sentence why it cannot be
        out.say(f"No ranks among natural images: {network.name} has no image preprocessing.")
        return None
    if stimuli is not None or limit is not None:
        return chosen(network, stimuli, limit=limit, seed=out.shared.seed)
    return builtin_photographs().take(NATURAL, seed=out.shared.seed)


def _checked(out: Output, network: Any, images: Sequence[Any], shown: Any) -> list[Any]:
    """The sanity of every image, site by site, in the order of the images."""
    from cutaway.features.collect import peers
    from cutaway.features.visualize import natural_activity, sanity
    from cutaway.networks.sites import parse_address

    found: dict[str, Any] = {}
    sites = dict.fromkeys(parse_address(each.address).site for each in images)
    for site in sites:
        own = [each for each in images if parse_address(each.address).site == site]
        units = [parse_address(each.address).unit for each in own]
        others = peers(network.site(site), units, PEERS, out.shared.seed)
        natural = natural_activity(network, site, [*units, *others], shown, progress=out.progress)
        found.update((check.address, check) for check in sanity(network, own, natural, seed=out.shared.seed))
    return [found[each.address] for each in images]


def _written(place: Path, images: Sequence[Any], *, minimum: bool) -> tuple[list[Path], Path | None]:
    """One PNG for each image and, for more than one, the sheet; names are safe in any file system."""
    from cutaway.features.visualize import contact_sheet

    ending = "-min.png" if minimum else ".png"
    files = [
        each.save(place / f"{re.sub(r'[^A-Za-z0-9._-]', '-', each.address)}{ending}", least=SMALLEST_FILE)
        for each in images
    ]
    if len(images) < 2:
        return files, None
    sheet = place / "sheet.png"
    contact_sheet(images).save(sheet)
    return files, sheet


def _row(image: Any, file: Path, check: Any) -> dict[str, Any]:
    checks = None if check is None else check.to_json()
    return {**image.to_json(), "file": str(file), "natural_rank": None if checks is None else checks.pop("rank"),
            "sanity": checks}  # fmt: skip


def _view(rows: Sequence[dict[str, Any]], sheet: Path | None) -> RenderableType:
    from rich.table import Table

    lines = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("address", "activation", "natural rank", "sigma", "others", "file"):
        lines.add_column(title, justify="left" if title in ("address", "file") else "right", no_wrap=title != "file")
    for row in rows:
        checks = row["sanity"] or {}
        rank = (row["natural_rank"] or {}).get("value")
        numbers = [_number(row["activation"], 1), _number(rank, 2)]
        numbers += [_number(checks.get(key), 1) for key in ("sigma", "others_sigma")]
        lines.add_row(row["address"], *numbers, row["file"])
    return lines if sheet is None else Group(lines, f"\nContact sheet: {sheet}")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
