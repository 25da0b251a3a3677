"""``cutaway show``: what a network consists of."""

from typing import Annotated

import typer

from cutaway.cli.completion import networks
from cutaway.cli.output import Output

Net = Annotated[
    str,
    typer.Argument(
        metavar="NET",
        help="An embedded network, a folder, a weights file, a hub id, or module:FILE.py:FUNCTION.",
        autocompletion=networks,
        show_default=False,
    ),
]


def show(
    out: Output,
    net: Net,
    every: Annotated[bool, typer.Option("--all", help="One line per site, also where layers are alike.")] = False,
) -> None:
    """Sites, units and parameters of a network.

    A site is a named place in the forward pass; its units are what addresses such as conv3_3:81 count.
    """
    from cutaway.cli.views.network import facts, view
    from cutaway.networks import load

    network = load(net, device=out.shared.device, progress=out.say)
    out.result(facts(network), lambda: view(network, every=every), network=network)
