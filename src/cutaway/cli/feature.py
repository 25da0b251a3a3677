"""``cutaway feature``: everything about single features."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group

from cutaway.cli.output import Output
from cutaway.cli.show import Net
from cutaway.cli.stimuli import Limit, Stimuli, chosen
from cutaway.cli.workplace import atlas_for

Addresses = Annotated[
    list[str], typer.Argument(metavar="ADDRESS", help="SITE:UNIT, for example conv3_3:81.", show_default=False)
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE", help="Also write the cards, with pictures, to this file.", show_default=False
    ),
]  # fmt: skip

Picture = Annotated[
    bool, typer.Option("--visualize", help="Also make a picture that the feature answers to, and rank it.")
]
Steps = Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Steps of gradient ascent for the picture.")]
Kind = Annotated[
    str | None,
    typer.Option(
        "--tune", metavar="KIND", help="Also its tuning to drawings of this kind: see cutaway tune --stimuli.",
        show_default=False,
    ),
]  # fmt: skip


def feature(
    out: Output, net: Net, addresses: Addresses, stimuli: Stimuli = None, limit: Limit = None,
    picture: Picture = False, steps: Steps = 64, kind: Kind = None, html: Html = None,
) -> None:  # fmt: skip
    """The cards of features: what excites them, how often they fire, what they do, how pure they are.

    The stimuli are shown to the network once for each address, and the cards are kept in the atlas. --visualize and
    --tune are for units of feature maps and take from seconds to minutes.
    """
    from cutaway import pipeline
    from cutaway.features import page_of
    from cutaway.features.portray import check_wish
    from cutaway.networks import load

    network = load(net, device=out.shared.device, progress=out.say)
    for address in addresses:
        site = network.address(address).site  # a wrong one is told before any work
        check_wish(network, site, visualize=picture, tune=kind)
    shown = chosen(network, stimuli, limit=limit, seed=out.shared.seed)
    with atlas_for(out, network) as atlas:
        cards = [
            pipeline.feature(
                network, address, atlas=atlas, stimuli=shown, visualize=picture, steps=steps, tune=kind,
                seed=out.shared.seed, progress=out.progress,
            )
            for address in addresses
        ]  # fmt: skip
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(page_of(cards), encoding="utf-8")
        out.say(f"Cards: {html}")
    out.result({"cards": [card.to_json() for card in cards]}, lambda: Group(*cards), network=network)
