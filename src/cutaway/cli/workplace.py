"""Where results go: the atlas and the folders of a command."""

import shlex
from pathlib import Path
from typing import Any

from cutaway.cli.output import Output

RUNS = Path("runs")  # the default home of atlases and reports, below the current folder


def folder_of(network: Any) -> str:
    """A folder name for a network, whatever its own name holds."""
    safe = "".join(letter if letter.isalnum() or letter in "-_.+" else "_" for letter in network.name)
    return safe.strip(".") or "network"


def atlas_for(out: Output, network: Any) -> Any:
    """The atlas that ``--atlas`` names, else the one in ``runs/NETWORK``; said once, so that it can be found."""
    from cutaway.atlas import Atlas

    path = out.shared.atlas or RUNS / folder_of(network)
    out.say(f"Atlas: {path}")
    return Atlas(path)


def command_line(*words: object, **options: object) -> str:
    """A command that can be typed again; options that are None, False or empty are left out."""
    line = ["cutaway", *(str(word) for word in words)]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            line.append(flag)
        elif isinstance(value, (list, tuple)):
            line += [word for each in value for word in (flag, str(each))]
        elif value is not None and value is not False:
            line += [flag, str(value)]
    return shlex.join(line)
