"""A trace in a file: the name's end says as what."""

from __future__ import annotations

import json
from pathlib import Path

from cutaway.circuits.tracing.graph import Trace
from cutaway.errors import BadInput

SUFFIXES = (".json", ".dot", ".svg", ".html")


def check_file(path: str | Path) -> Path:
    """The path, if its name ends in .json, .dot, .svg or .html; ``BadInput`` for another."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise BadInput(f"A trace was to be written to {target.name}; end the name in {', '.join(SUFFIXES)}.")
    return target


def save(trace: Trace, path: str | Path) -> Path:
    """Writes the trace, making its folder; returns the path."""
    from cutaway.circuits.tracing.page import FORMS

    target = check_file(path)
    suffix = target.suffix.lower()
    text = (
        json.dumps(trace.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        if suffix == ".json"
        else FORMS[suffix](trace)
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target
