"""Families as a table."""

import math
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.structure.families import Compression, Families

UNIT_OF = {"rotation": "°", "hue": "°", "scale": " oct"}


def facts(found: Families, saved: Compression | None) -> dict[str, Any]:
    """Families, invariant units and thresholds as JSON values."""
    return {
        "site": found.site,
        "group": found.group.name,
        "threshold": found.threshold,
        "null_threshold": found.null_threshold,
        "twin_threshold": found.twin_threshold,
        "invariant": list(found.invariant),
        "families": [
            {
                "units": list(family.units),
                "poses": list(family.poses),
                "symmetry": family.symmetry,
                "similarity": family.similarity,
                "cocycle_steps": family.cocycle,
            }
            for family in found.families
        ],
        "compression": None if saved is None else saved.to_json(),
    }


def view(network: Any, found: Families, saved: Compression | None) -> RenderableType:
    """A head line, one row for each family, and what tying the weights costs."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("family", "members", "alike", "cocycle", "unit at pose"):
        table.add_column(name, justify="left" if name == "unit at pose" else "right")
    sign = UNIT_OF.get(found.group.name, "")
    for index, family in enumerate(found.families):
        order = sorted(range(len(family.units)), key=lambda member: family.poses[member])
        placed = "  ".join(f"{family.units[m]}@{family.poses[m]:.3g}{sign}" for m in order)
        table.add_row(
            str(index), str(len(family.units)), f"{family.similarity:.2f}", f"{family.cocycle:.2f}", placed
        )  # fmt: skip
    width = network.site(found.site).width
    members = sum(len(family.units) for family in found.families)
    head = Text(
        f"{network.name} {found.site}: {len(found.families)} families under {found.group.name} hold {members} of "
        f"{width} units; {len(found.invariant)} are invariant. A pair counts from {found.threshold:.2f} on (null "
        f"networks {found.twin_threshold:.2f}, mismatched crops {found.null_threshold:.2f})."
    )
    return Group(head, Text(""), table, *([] if saved is None else [_saved(saved)]))


def _saved(saved: Compression) -> Text:
    twin = f"untrained twin {saved.r2_twin:.3g}"
    fit = "" if math.isnan(saved.r2.value) else f" Weights respect the poses with R2 {saved.r2} ({twin})."
    return Text(
        f"\n{saved.source} -> {saved.target}: {saved.factor:.2f} times fewer parameters ({saved.tied:.0%} tied) at a "
        f"{saved.loss_name} of {saved.loss:.3f}.{fit}"
    )
