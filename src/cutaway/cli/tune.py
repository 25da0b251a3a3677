"""``cutaway tune``: what units prefer among synthetic drawings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cutaway.cli.output import Output
from cutaway.cli.show import Net

Place = Annotated[
    str, typer.Argument(metavar="SITE|ADDRESS", help="A feature map, or one unit of it.", show_default=False)
]
Kind = Annotated[
    str,
    typer.Option(
        "--stimuli",
        metavar="KIND",
        help="curves, lines, corners, gratings, frequency-pairs, boundaries, circles, centre-surround, colours, "
        "colour-contrast, bw-versus-colour or textures.",
    ),
]
Nulls = Annotated[
    int,
    typer.Option("--nulls", metavar="N", min=0, help="Seeds of untrained twin and shuffled weights asked the same."),
]
Natural = Annotated[
    Path | None,
    typer.Option(
        "--natural", metavar="FOLDER", show_default=False,
        help="Natural pictures that set the scale of responses. [default: the embedded photographs]",
    ),
]  # fmt: skip
Radial = Annotated[
    bool, typer.Option("--radial", help="For one unit or those that pass: its preferred curve in steps of a degree.")
]
Every = Annotated[bool, typer.Option("--all", help="Every unit, also those that no null network falls short of.")]


def tune(
    out: Output,
    net: Net,
    place: Place,
    kind: Kind = "curves",
    nulls: Nulls = 1,
    natural: Natural = None,
    radial: Radial = False,
    every: Every = False,
) -> None:
    """What every unit of a feature map prefers among drawings whose properties are known.

    Responses are in standard deviations of the unit's activations on natural pictures. The same drawings are shown to
    networks in which preference means nothing, and p says how many of their units prefer as much.
    """
    from cutaway import stimuli
    from cutaway.cli.views.tuning import view
    from cutaway.features.tuning import tune as tuned
    from cutaway.networks import load

    network = load(net, device=out.shared.device, progress=out.say)
    site, units = _place(network, place)
    shown = None if natural is None else stimuli.image_folder(natural)
    result = tuned(
        network, site, kind, units=units, nulls=nulls, stimuli=shown, seed=out.shared.seed, progress=out.progress
    )
    fine = _fine(network, site, result, shown, out.shared.seed) if radial else ()
    facts = {**result.to_json(), "radial": [one.to_json() for one in fine]}
    out.result(facts, lambda: view(result, fine, every=every or units is not None), network=network)


def _fine(network: Any, site: str, result: Any, shown: Any, seed: int) -> Any:
    """The radial tuning of the units asked for, or of those that pass."""
    from cutaway.errors import BadInput
    from cutaway.features.tuning import radial_tuning

    if result.kind != "curves":
        raise BadInput(f"Radial tuning of {result.kind} was asked for; it turns a curve: leave --stimuli at curves.")
    rows = [row for row in result.rows if row.passes or len(result.rows) == 1]
    return radial_tuning(network, site, rows, stimuli=shown, seed=seed)


def _place(network: Any, place: str) -> tuple[str, list[int] | None]:
    """A site with all units, or an address as its site and one unit."""
    if ":" not in place:
        return network.site(place).name, None
    address = network.address(place)
    return address.site, [address.unit]
