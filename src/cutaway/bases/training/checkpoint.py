"""What a run needs to go on, in one file that is whole or not there."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from cutaway.errors import BadFile, BadInput

FILE = "checkpoint.pt"
FORMAT = 1


def save(folder: Path, state: dict[str, Any]) -> None:
    """Written beside, flushed to the disk, then renamed: a kill at any moment leaves the old file or the new one.

    Raises ``BadInput`` where it cannot be written; the old file then is as it was.
    """
    beside = folder / f".{FILE}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(folder / FILE)
    except OSError as error:
        raise BadInput(f"No checkpoint could be written to {folder} ({error.strerror}); mend that, go on.") from error


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The state in a folder, None where there is none; raises ``BadFile`` for what is no checkpoint of this kind."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise BadFile(f"{path} is damaged and cannot be read; remove it to train from the start.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise BadFile(f"{path} is no checkpoint of format {FORMAT}; remove it to train from the start.")
    return state
