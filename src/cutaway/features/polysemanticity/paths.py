"""By which paths is a unit excited? The same unit may be reached from different units upstream: kinds seen from inside.

The contribution of upstream unit j to the unit's activation on an example is gradient x activation, summed over the
upstream positions (for a linear path: weight x activation). Examples whose contributions come from other upstream units
than those of the rest are excited by another path. Contributions are computed by the network under study, so path modes
say how the unit is wired; whether the inputs differ is for another representation to say (:mod:`.modes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import Measurement, measure_against_null
from cutaway.features.activity import Activity
from cutaway.features.collect import MAX_TOKENS, prepared
from cutaway.features.polysemanticity.choice import EXAMPLES, FEWEST_EXAMPLES, Chosen, choose
from cutaway.features.polysemanticity.gaps import count_modes
from cutaway.features.polysemanticity.modes import KEPT, Mode, check_units, modes_of
from cutaway.networks.network import Network
from cutaway.networks.sites import HEAD_STREAM, PATTERN, Site

SHUFFLES = 199
Contributions = Float[np.ndarray, "example source"]


@dataclass(frozen=True, eq=False)
class PathModes:
    """The paths found: modes of the directions of contributions, and how many sources share the work.

    ``gap_p`` tests more than one mode against a continuum. ``participation`` is (sum of eigenvalues)^2 / sum of their
    squares of the contributions' second moments: 1 where all examples come by one path in fixed proportions, k for k
    equal paths that share no source. Its interval is from subsamples of 80 %; its null gives every source's
    contributions to random examples (the same sources, not together), and p is two-sided.
    """

    address: str
    source: str
    modes: tuple[Mode, ...]
    gap_p: float
    participation: Measurement
    contributions: Contributions
    examples: Chosen

    @property
    def count(self) -> int:
        """Number of paths."""
        return len(self.modes)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the strongest sources of each path (upstream unit, mean contribution)."""
        return {
            "address": self.address,
            "source": self.source,
            "gap_p": self.gap_p,
            "participation": self.participation.to_json(),
            "paths": [
                {"share": mode.share, "top_share": mode.top_share, "sources": self.strongest(row)}
                for row, mode in enumerate(self.modes)
            ],
        }

    def strongest(self, mode: int, count: int = 5) -> list[tuple[int, float]]:
        """The upstream units that contribute most to a mode's examples, by size of their mean contribution."""
        mean = self.contributions[list(self.modes[mode].members)].mean(axis=0)
        return [(int(unit), float(mean[unit])) for unit in np.argsort(-np.abs(mean), kind="stable")[:count]]


def paths(
    network: Network,
    activity: Activity,
    unit: int,
    source: str,
    *,
    count: int = EXAMPLES,
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
) -> PathModes:
    """The paths by which ``unit`` is excited from the units of ``source``, a site upstream of it.

    Raises ``BadInput`` for a source that is not upstream, ``NotTestable`` for too few examples or no contribution.
    """
    check_units(activity, [unit])
    chosen = choose(activity, unit, count, seed=seed)
    if len(chosen) < FEWEST_EXAMPLES:
        raise NotTestable(
            f"{activity.site.name}:{unit} is active in {len(chosen)} stimuli of different origins, and paths need "
            f"{FEWEST_EXAMPLES}; show it more stimuli."
        )
    found = contributions(network, activity, unit, source, chosen, max_tokens=max_tokens)
    size = np.linalg.norm(found, axis=1, keepdims=True)
    if not (size > 0).all():
        raise NotTestable(
            f"{int((size == 0).sum())} examples of {activity.site.name}:{unit} get nothing from {source}."
        )
    partition = count_modes(found / size)
    return PathModes(
        f"{activity.site.name}:{unit}", source, modes_of(partition, chosen), partition.p,
        measured_participation(found, seed=seed), found, chosen,
    )  # fmt: skip


def contributions(
    network: Network,
    activity: Activity,
    unit: int,
    source: str,
    chosen: Chosen,
    *,
    batch_size: int = 8,
    max_tokens: int = MAX_TOKENS,
) -> Contributions:
    """Gradient x activation of every upstream unit, for each example's activation at its own place."""
    upstream, site = network.site(source), network.site(activity.site.name)
    if upstream.depth >= site.depth or site.layout in (PATTERN, HEAD_STREAM):
        raise BadInput(f"Paths from {source} to {site.name} were asked for; name a site upstream of a site of vectors.")
    parts = []
    for start in range(0, len(chosen), batch_size):
        rows = range(start, min(start + batch_size, len(chosen)))
        batch = prepared(network, [activity.stimuli[int(chosen.rows[row])].loaded() for row in rows], max_tokens)
        run = network.run(batch, capture=[source, site.name], stop_at=True, grad=True)
        places = [activity.position(int(chosen.places[row])) for row in rows]
        parts.append(_by_unit(upstream, run[source], _summed(site, run[site.name], unit, places)))
    return np.concatenate(parts)


def _summed(site: Site, value: Tensor, unit: int, places: list[tuple[int, ...]]) -> Tensor:
    """The unit's activations at one place of each stimulus, summed: stimuli share no gradient."""
    mine = value.select(site.unit_axis, unit)
    mine = torch.linalg.vector_norm(mine, dim=-1) if site.layout.endswith("d_head") else mine
    return torch.stack([mine[(row, *place)] for row, place in enumerate(places)]).sum()


def _by_unit(upstream: Site, value: Tensor, target: Tensor) -> Contributions:
    (gradient,) = torch.autograd.grad(target, value, allow_unused=True)
    if gradient is None:
        raise BadInput(f"{upstream.name} has no path to the unit; name a site that lies before it on the way.")
    product = (gradient * value).detach().double()
    keep = (0, upstream.unit_axis)
    over = [axis for axis in range(product.ndim) if axis not in keep]
    return (product.sum(over) if over else product).cpu().numpy()


def participation_ratio(rows: Contributions) -> float:
    """(sum of eigenvalues)^2 / sum of squared eigenvalues of the rows' second moments (no mean removed)."""
    power = np.square(np.linalg.svd(rows, compute_uv=False))
    return float(power.sum() ** 2 / np.square(power).sum()) if power.any() else float("nan")


def measured_participation(rows: Contributions, *, seed: int = 0) -> Measurement:
    """:func:`participation_ratio` with its interval and null (see :class:`PathModes`)."""
    rng = np.random.default_rng(seed)
    kept = max(2, round(KEPT * len(rows)))
    subsets = [participation_ratio(rows[rng.permutation(len(rows))[:kept]]) for _ in range(SHUFFLES)]
    null = [participation_ratio(rng.permuted(rows, axis=0)) for _ in range(SHUFFLES)]
    return measure_against_null(participation_ratio(rows), null, bootstrap=subsets, n=len(rows), seed=seed)
