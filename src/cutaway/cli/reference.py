"""The reference of the command line, written from the commands themselves.

python -m cutaway.cli.reference > docs/cli.md
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from cutaway.cli.app import app

_HEAD = """\
# The command line

Written by `python -m cutaway.cli.reference` from the commands themselves; a test keeps it current.

Exit codes: 0 done; 1 findings at or above `--fail-on`; 2 bad usage or input (one sentence on stderr says what is wrong
and what to do); 3 the question has no answer on this network; 130 interrupted.

With `--json`, stdout holds one JSON document and nothing else. It names `command`, `version`, `network` and
`fingerprint`; a measurement is an object with `value`, `low`, `high`, `null_mean`, `null_std`, `p`, `n` and `seed`,
where `null` stands for what was not measured. An error is `{"error": {"kind", "message", "exit_code"}}` beside the
same names.

Shell completion: `cutaway --install-completion`.
"""


def commands() -> dict[str, Any]:
    """The commands by name, in the order in which help lists them."""
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def reference() -> str:
    """The whole page as Markdown."""
    found = commands()
    shared = [p for p in next(iter(found.values())).params if getattr(p, "rich_help_panel", None)]
    parts = [_HEAD, "## Options of every command\n", *_rows(shared), ""]
    for name, command in found.items():
        own = [parameter for parameter in command.params if parameter.name not in {p.name for p in shared}]
        arguments = [_usage(p) for p in own if p.param_type_name == "argument"]
        parts += [f"## cutaway {name}\n", f"```\ncutaway {' '.join([name, *arguments])} [OPTIONS]\n```\n"]
        parts += [_prose(command.help or ""), "", *_rows(own), ""]
    return "\n".join(parts).rstrip() + "\n"


def _rows(parameters: list[Any]) -> Iterator[str]:
    yield "| name | meaning |\n|---|---|"
    for parameter in parameters:
        yield f"| {_cell(_names(parameter))} | {_cell(_meaning(parameter))} |"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    value = "" if parameter.is_flag else f" {_metavar(parameter)}"
    return ", ".join(f"`{flag}{value}`" for flag in parameter.opts)


def _usage(argument: Any) -> str:
    word = _metavar(argument) if argument.required else f"[{_metavar(argument)}]"
    return f"{word}..." if argument.nargs == -1 else word


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _metavar(parameter: Any) -> str:
    return parameter.metavar or parameter.name.upper()


def _meaning(parameter: Any) -> str:
    default = parameter.default
    shown = default is not None and not parameter.required and parameter.show_default and default is not False
    return f"{_prose(parameter.help or '')}{f' [default: {default}]' if shown else ''}"


def _prose(text: str) -> str:
    return re.sub(r"\[/?b\]", "**", inspect.cleandoc(text))


if __name__ == "__main__":
    print(reference(), end="")
