"""What all commands share: their options, and how one becomes a part of the application."""

import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cutaway.cli.output import Output, Shared

DONE, FINDINGS, BAD_INPUT, NOT_TESTABLE, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 3, 130, 141

_PANEL = "Options of every command"
_SHARED: dict[str, tuple[Any, Any]] = {
    "as_json": (
        Annotated[bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=_PANEL)],
        False,
    ),
    "atlas": (
        Annotated[
            Path | None,
            typer.Option(
                "--atlas", metavar="DIR", help="The folder that keeps what is learned. [default: runs/NETWORK]",
                rich_help_panel=_PANEL, show_default=False, file_okay=False,
            ),
        ],
        None,
    ),
    "seed": (
        Annotated[
            int, typer.Option("--seed", metavar="N", help="Seed of every random choice.", rich_help_panel=_PANEL)
        ],
        0,
    ),
    "device": (
        Annotated[
            str | None,
            typer.Option(
                "--device", metavar="NAME", help="Where to compute: cpu, cuda, cuda:1, mps. [default: cpu]",
                rich_help_panel=_PANEL, show_default=False,
            ),
        ],
        None,
    ),
    "quiet": (
        Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.", rich_help_panel=_PANEL)],
        False,
    ),
    "debug": (
        Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_PANEL)],
        False,
    ),
}  # fmt: skip


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """A decorator: enters a function as a command that also takes the shared options.

    The function's first parameter receives an :class:`Output`; it returns an exit code, or None for 0.
    """

    def enter(function: Callable[..., int | None]) -> Callable[..., int | None]:
        @functools.wraps(function)
        def run(**values: Any) -> int:
            shared = Shared(**{key: values.pop(key) for key in _SHARED if key != "debug"})
            del values["debug"]  # read by main from the words themselves: an error may come before parsing ends
            with Output(name, shared) as out:
                return _run(function, out, values)

        _give_options(run, function)
        app.command(name, help=_flowing(function))(run)
        return function

    return enter


def _flowing(function: Callable[..., Any]) -> str:
    """The docstring with each paragraph on one line, for the terminal to break."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _run(function: Callable[..., int | None], out: Output, values: dict[str, Any]) -> int:
    try:
        code = function(out, **values) or DONE
        out.flush()
        return code
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        return CLOSED_PIPE


def _give_options(run: Callable[..., int], function: Callable[..., Any]) -> None:
    """Lets Typer see the function's own parameters and the shared options as those of ``run``."""
    own = list(inspect.signature(function).parameters.values())[1:]
    shared = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for key, (annotation, default) in _SHARED.items()
    ]
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
