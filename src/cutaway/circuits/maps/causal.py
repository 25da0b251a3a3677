"""Is it so? Every kept edge is cut alone and the network run again; every kept part is set to zero.

Cutting u -> v takes what u writes out of what v reads, with all other opened sites before v held at what they were;
v is computed anew from that, and everything after v from v's change, with all gates free to turn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.maps.links import Links
from cutaway.circuits.maps.nodes import ERROR, ERRORS, INPUT, OUTPUT, PARTS, MapNode
from cutaway.circuits.maps.opened import Change, Opened, rows_at_once, run_copies
from cutaway.circuits.tracing.causal import Progress


def can_cut(source: MapNode) -> bool:
    """True for what writes something that can be taken away: not for constants."""
    return source.kind in (INPUT, ERROR, ERRORS, *PARTS)


def cut_edges(
    opened: Opened, links: Links, edges: Sequence[tuple[int, int]], *, progress: Progress | None = None
) -> Float[np.ndarray, " edge"]:
    """What each (target, source) edge alone adds to the target: as it is minus with that edge cut."""
    found = np.zeros(len(edges))
    by_site: dict[str | None, list[int]] = {}
    for place, (target, _) in enumerate(edges):
        node = links.pool.nodes[target]
        by_site.setdefault(None if node.kind == OUTPUT else _site(node), []).append(place)
    done, size = 0, rows_at_once(opened)
    for site, places in by_site.items():
        for at in range(0, len(places), size):
            group = places[at : at + size]
            found[group] = opened.metric - _cut(opened, links, [edges[place] for place in group], site).numpy()
            done += len(group)
            if progress is not None:
                progress(done, len(edges))
    return found


def set_to_zero(opened: Opened, links: Links, numbers: Sequence[int]) -> Float[np.ndarray, " node"]:
    """What is lost of the target when each part alone is set to zero."""
    size = rows_at_once(opened)
    found = [torch.zeros(0, dtype=torch.float64)]
    for at in range(0, len(numbers), size):
        changes = [_removed(opened, links, number) for number in numbers[at : at + size]]
        found.append(opened.metric - run_copies(opened, changes).double().cpu())
    return torch.cat(found).numpy()


def _cut(opened: Opened, links: Links, edges: Sequence[tuple[int, int]], site: str | None) -> Tensor:
    """The target with each of these edges into one site (None: the target) cut."""
    removed = [_removed(opened, links, source) for _, source in edges]
    made = run_copies(opened, removed, pinned=opened.behind(site), until=site)
    if site is None:
        return made.double().cpu()
    changes = [_answer(links, target, site, value[None]) for (target, _), value in zip(edges, made)]
    return run_copies(opened, changes).double().cpu()


def _removed(opened: Opened, links: Links, number: int) -> Change:
    """Takes away what a node writes."""
    node, pool = links.pool.nodes[number], links.pool
    if node.kind == INPUT:
        marks = (pool.patches == number).view(opened.shown.shape[2:])
        return "", -opened.shown.detach()[0] * marks.to(opened.shown.device)
    name = _site(node)
    coded = links.sites[name]
    if node.kind in (ERROR, ERRORS):
        assert coded.error is not None
        rows = torch.where((pool.errors[name] == number)[:, None], -coded.error, torch.zeros_like(coded.error))
        return name, coded.like(rows)[0]
    members = (pool.entries[name] == number).nonzero()[:, 0]
    return name, coded.written(members, -coded.value[members])


def _answer(links: Links, target: int, site: str, value: Tensor) -> Change:
    """How a target's own part of its site changes when what it reads has."""
    coded = links.sites[site]
    members = (links.pool.entries[site] == target).nonzero()[:, 0]
    return site, coded.written(members, coded.now(value, members) - coded.value[members])


def _site(node: MapNode) -> str:
    return node.site.split("@")[0]
