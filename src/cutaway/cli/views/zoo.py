"""The embedded networks as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.networks.zoo import ZooEntry, ZooStatus

_STATES = {"absent": ("not fetched", "dim"), "ready": ("cached", "green"), "damaged": ("damaged", "red")}


def facts(entry: ZooEntry, state: ZooStatus) -> dict[str, Any]:
    """One network as plain values; sizes in bytes."""
    return {
        "name": entry.name,
        "description": entry.description,
        "architecture": entry.architecture,
        "modality": entry.modality,
        "task": entry.task,
        "package": entry.package,
        "package_version": entry.version,
        "licence": entry.licence,
        "reference": entry.reference,
        "download_bytes": entry.wheel_bytes,
        "state": state.state,
        "folder": str(state.folder) if state.state != "absent" else None,
        "cached_bytes": state.disk_bytes,
        "damaged": list(state.damaged),
    }


def table(rows: Sequence[tuple[ZooEntry, ZooStatus]], cache: Path, *, detailed: bool) -> RenderableType:
    """One line for each network, or with ``detailed`` a paragraph."""
    if not rows:
        return Text(f"The cache {cache} holds no network; fetch one: cutaway zoo fetch vgg16-hed")
    if detailed:
        return Group(*(_paragraph(entry, state) for entry, state in rows))
    lines = Table(box=None, pad_edge=False, header_style="bold")
    lines.add_column("name", no_wrap=True)
    lines.add_column("what it is")
    lines.add_column("download", justify="right", no_wrap=True)
    lines.add_column("here", no_wrap=True)
    for entry, state in rows:
        lines.add_row(entry.name, entry.description, _megabytes(entry.wheel_bytes), _state(state))
    return Group(lines, Text(f"\nCache: {cache}", style="dim"))


def _paragraph(entry: ZooEntry, state: ZooStatus) -> RenderableType:
    lines = Table(box=None, show_header=False, pad_edge=False)
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column()
    lines.add_row("name", Text(entry.name, style="bold"))
    lines.add_row("what it is", entry.description)
    lines.add_row("architecture", f"{entry.architecture}, {entry.modality}, {entry.task}")
    lines.add_row("from", f"{entry.package} {entry.version} ({_megabytes(entry.wheel_bytes)}), {entry.licence}")
    lines.add_row("reference", entry.reference)
    lines.add_row("here", _state(state))
    if state.state != "absent":
        lines.add_row("folder", f"{state.folder} ({_megabytes(state.disk_bytes)})")
    if state.damaged:
        lines.add_row("damaged", f"{', '.join(state.damaged)}; mend with: cutaway zoo fetch {entry.name}")
    return lines


def _state(state: ZooStatus) -> Text:
    return Text(*_STATES[state.state])


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
