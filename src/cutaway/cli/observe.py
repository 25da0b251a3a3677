"""``cutaway observe``: activations into an atlas."""

from typing import Annotated

import typer

from cutaway.cli.output import Output
from cutaway.cli.show import Net
from cutaway.cli.stimuli import Limit, Stimuli, chosen
from cutaway.cli.workplace import atlas_for

Sites = Annotated[
    list[str] | None,
    typer.Option(
        "--sites",
        metavar="SITE",
        help="A site to observe; repeat for more. [default: all after a nonlinearity]",
        show_default=False,
    ),
]  # fmt: skip


def observe(out: Output, net: Net, stimuli: Stimuli = None, sites: Sites = None, limit: Limit = None) -> None:
    """Show stimuli to a network and keep what its units did in an atlas.

    It can be interrupted at any moment: the same command goes on where it was.
    """
    from cutaway import pipeline
    from cutaway.cli.views.observation import facts, view
    from cutaway.networks import load

    network = load(net, device=out.shared.device, progress=out.say)
    shown = chosen(network, stimuli, limit=limit, seed=out.shared.seed)
    with atlas_for(out, network) as atlas:
        observation = pipeline.observe(
            network, shown, sites=sites, atlas=atlas, seed=out.shared.seed, progress=out.progress
        )
        out.result(facts(observation), lambda: view(observation), network=network)
