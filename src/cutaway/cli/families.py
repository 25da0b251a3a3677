"""``cutaway families``: units that are one unit up to a transformation, and the parameters that this saves."""

from typing import Annotated, Any

import typer

from cutaway.cli.output import Output
from cutaway.cli.show import Net
from cutaway.cli.stimuli import Stimuli, chosen

Site = Annotated[str, typer.Argument(metavar="SITE", help="A feature map.", show_default=False)]
Under = Annotated[
    str, typer.Option("--group", metavar="GROUP", help="rotation (24 of 15°), scale (9 quarter octaves) or hue (12).")
]
Crops = Annotated[int, typer.Option("--crops", metavar="N", min=8, help="Natural crops that are shown in every way.")]
Twins = Annotated[int, typer.Option("--twins", metavar="N", min=0, help="Seeds of the two null networks.")]
Source = Annotated[
    str | None,
    typer.Option(
        "--source", metavar="SITE", show_default=False,
        help="Also tie the weights from this site (or 'input') by both sites' families and measure what that costs.",
    ),
]  # fmt: skip
Loss = Annotated[float, typer.Option("--loss", min=0.0, help="How much behaviour the tied weights may change.")]


def families(
    out: Output,
    net: Net,
    site: Site,
    under: Under = "rotation",
    crops: Crops = 96,
    twins: Twins = 1,
    stimuli: Stimuli = None,
    source: Source = None,
    loss: Loss = 0.05,
) -> None:
    """Equivariance families of a feature map, found from answers alone, and the compression that they give.

    Two units belong together if one answers to a turned picture as the other does to the picture itself, more than no
    pair in a thousand of null networks.
    """
    from cutaway.cli.views.families import facts, view
    from cutaway.networks import load
    from cutaway.structure.families import compression
    from cutaway.structure.families import families as found_in

    network = load(net, device=out.shared.device, progress=out.say)
    shown = chosen(network, stimuli)
    settings: dict[str, Any] = {
        "under": under, "stimuli": shown, "count": crops, "twins": twins, "seed": out.shared.seed,
        "progress": out.progress,
    }  # fmt: skip
    network.site(site)
    found = found_in(network, site, **settings)
    saved = None
    if source is not None:
        sources = None if source == "input" else found_in(network, source, **settings)
        saved = compression(network, found, sources, most_loss=loss, stimuli=shown, seed=out.shared.seed)
    out.result(facts(found, saved), lambda: view(network, found, saved), network=network)
