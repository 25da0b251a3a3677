"""An observation as a table: one line for each site."""

from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.observe import Observation
from cutaway.report.text import visible


@dataclass(frozen=True)
class SiteSummary:
    """What a site's units did, over all of them: shares are between 0 and 1, activations in the network's own unit."""

    site: str
    units: int
    positions: int  # of every unit, over all stimuli
    silent: int  # units that were never above 0
    firing: float  # share of positions at which a unit is above 0, averaged over units
    lowest: float
    highest: float


def summaries(observation: Observation) -> list[SiteSummary]:
    """One summary for each observed site, from its moments and firing rates."""
    found = []
    for site in observation.sites:
        moments, firing = observation.result(site, "moments"), observation.result(site, "firing")
        found.append(
            SiteSummary(
                site=site,
                units=len(moments.mean),
                positions=moments.count,
                silent=int((firing.active == 0).sum()),
                firing=float(firing.active.mean()),
                lowest=float(moments.min.min()),
                highest=float(moments.max.max()),
            )
        )
    return found


def facts(observation: Observation) -> dict[str, Any]:
    """The observation as plain values."""
    return {
        "observation": observation.id,
        "atlas": str(observation.atlas.path),
        "stimulus_set_fingerprint": observation.stimulus_set_fingerprint,
        "seen": observation.seen,
        "skipped": observation.skipped,
        "batches_run": observation.batches_run,
        "recomputed": list(observation.recomputed),
        "seed": observation.seed,
        "reducers": list(observation.reducers),
        "sites": [vars(summary) for summary in summaries(observation)],
    }


def view(observation: Observation) -> RenderableType:
    """The observation for a reader."""
    lines = Table(box=None, pad_edge=False, header_style="bold")
    lines.add_column("site", no_wrap=True)
    for title in ("units", "positions", "never above 0", "above 0", "lowest", "highest"):
        lines.add_column(title, justify="right")
    for row in summaries(observation):
        lines.add_row(
            visible(row.site), f"{row.units:,}", f"{row.positions:,}", f"{row.silent:,}", f"{row.firing:.1%}",
            f"{row.lowest:.3g}", f"{row.highest:.3g}",
        )  # fmt: skip
    return Group(lines, Text(), Text(_closing(observation)))


def _closing(observation: Observation) -> str:
    skipped = f" ({observation.skipped} could not be used)" if observation.skipped else ""
    batches = observation.batches_run
    ran = f"{batches} batches were run" if batches else "nothing had to be run again"
    repaired = f"; {len(observation.recomputed)} damaged files were made again" if observation.recomputed else ""
    return f"{observation.seen} stimuli seen{skipped}; {ran}{repaired}. Atlas: {observation.atlas.path}"
