"""The commands, put together."""

from typing import Annotated

import typer

from cutaway import __version__
from cutaway.cli import (
    audit,
    circuit,
    families,
    feature,
    heads,
    observe,
    show,
    trace,
    tune,
    unfold,
    visualize,
    weights,
    zoo,
)
from cutaway.cli.common import command

app = typer.Typer(
    name="cutaway",
    help="Look inside trained neural networks: what their parts do, how sure that is, and what an auditor should read.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        print(f"cutaway {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Look inside trained neural networks: what their parts do, how sure that is, and what an auditor should read."""


command(app, "zoo")(zoo.zoo)
command(app, "show")(show.show)
command(app, "observe")(observe.observe)
command(app, "feature")(feature.feature)
command(app, "visualize")(visualize.visualize)
command(app, "tune")(tune.tune)
command(app, "families")(families.families)
command(app, "heads")(heads.heads)
command(app, "weights")(weights.weights)
command(app, "circuit")(circuit.circuit)
command(app, "trace")(trace.trace)
command(app, "unfold")(unfold.unfold)
command(app, "audit")(audit.audit)
