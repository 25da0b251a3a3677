"""``--stimuli`` and ``--limit``: what a network is shown."""

from pathlib import Path
from typing import Annotated, Any

import typer

Stimuli = Annotated[
    Path | None,
    typer.Option(
        "--stimuli",
        metavar="FOLDER|FILE",
        help="Images for an image network, texts for a language model. [default: the embedded ones]",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, help="Show at most N of them, drawn with --seed.", show_default=False),
]


def chosen(network: Any, path: Path | None, *, limit: int | None = None, seed: int = 0) -> Any:
    """The stimulus set that was asked for; None where the workflow's own choice is meant."""
    from cutaway import stimuli
    from cutaway.errors import BadInput

    if path is None and limit is None:
        return None
    if network.modality == "image":
        found = stimuli.image_folder(path) if path else stimuli.builtin_photographs()
    elif network.modality == "text":
        found = _texts(path) if path else stimuli.builtin_text()
    else:
        raise BadInput(
            f"{network.name} takes tensors, not images or texts; show it something with cutaway.observe() in Python."
        )
    return found if limit is None else found.take(limit, seed=seed)


def _texts(path: Path) -> Any:
    from cutaway import stimuli

    return stimuli.text_folder(path) if path.is_dir() else stimuli.text_file(path)
