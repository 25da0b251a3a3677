"""``cutaway zoo``: the embedded networks."""

from typing import Annotated

import typer

from cutaway.cli.common import BAD_INPUT, DONE
from cutaway.cli.completion import ZOO_ACTIONS, zoo_words
from cutaway.cli.output import Output


def zoo(
    out: Output,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD",
            help="NAME...; or fetch NAME...; or verify [NAME...]; or list.",
            autocompletion=zoo_words,
            show_default=False,
        ),
    ] = None,
) -> int:
    """Embedded networks that need no model hub: list, fetch, verify.

    Without words, or with names, it says what they are and whether the cache holds them. [b]fetch[/b] downloads
    and prepares the named ones. [b]verify[/b] hashes every cached file again; exit code 2 if one is damaged.
    """
    from cutaway.cli.views.zoo import facts, table
    from cutaway.errors import BadInput
    from cutaway.networks import zoo as library

    action, names = _split(words or [])
    if action == "fetch" and not names:
        raise BadInput(f"fetch was given no name; name one or more of {', '.join(library.ZOO)}.")
    entries = [library.entry(name) for name in names or library.ZOO]
    if action == "fetch":
        for entry in entries:
            library.fetch(entry.name, progress=out.say)
    look = library.verify if action == "verify" else library.status
    states = [look(entry.name) for entry in entries]
    if action == "verify" and not names:
        states = [state for state in states if state.state != "absent"]
    rows = [(library.entry(state.name), state) for state in states]
    out.result(
        {"action": action, "cache": str(library.cache_folder()), "networks": [facts(*row) for row in rows]},
        lambda: table(rows, library.cache_folder(), detailed=bool(names)),
    )
    return BAD_INPUT if action == "verify" and any(state.state != "ready" for state in states) else DONE


def _split(words: list[str]) -> tuple[str, list[str]]:
    return (words[0], words[1:]) if words and words[0] in ZOO_ACTIONS else ("list", words)
