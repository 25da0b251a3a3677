"""Is it so? Every kept edge is cut alone and the network run again; the kept nodes are run with all others replaced.

Cutting u -> v exchanges what u writes for the baseline in what v reads at u's position, and nowhere else: v's output is
computed anew from there (its norm, its value map or its neurons, with the attention of this prompt, since queries and
keys still read u), and everything after v follows. The prediction for the same cut is the edge itself: both are held
against the same baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.edges.nodes import neuron_site
from cutaway.circuits.edges.wiring import FINAL_STREAM, heads_site
from cutaway.circuits.tracing.features.codes import codes_at, decoded
from cutaway.circuits.tracing.features.exchange import adding
from cutaway.circuits.tracing.frozen import Body, Pass, normed, outputs
from cutaway.circuits.tracing.ledger import placed
from cutaway.circuits.tracing.links import Links, members
from cutaway.circuits.tracing.neurons import Mlp
from cutaway.circuits.tracing.nodes import (
    ABSENT,
    CODED,
    EMBED,
    HEAD,
    HEADS,
    OUTPUT,
    PARTS,
    RESIDUE,
    SKIP,
    Node,
)
from cutaway.circuits.tracing.question import Question
from cutaway.networks.edits import Edit, Replace
from cutaway.networks.folded import inverse_scale

TOKENS = 512  # of one pass with copies
Progress = Callable[[int, int], None]


def can_cut(source: Node) -> bool:
    """True for sources that write something that can be exchanged: not for what slopes leave out, nor constants."""
    return source.kind in (EMBED, RESIDUE, ABSENT, *PARTS)


def cut_edges(
    body: Body,
    seen: Pass,
    question: Question,
    links: Links,
    edges: Sequence[tuple[int, int]],
    *,
    progress: Progress | None = None,
) -> Float[np.ndarray, " edge"]:
    """What each (target, source) edge alone adds to the metric: the metric as it is minus with that edge cut."""
    return cut_together(
        body, seen, question, links, [(target, (source,)) for target, source in edges], progress=progress
    )  # fmt: skip


def cut_together(
    body: Body,
    seen: Pass,
    question: Question,
    links: Links,
    groups: Sequence[tuple[int, Sequence[int]]],
    *,
    progress: Progress | None = None,
) -> Float[np.ndarray, " group"]:
    """The same for several edges into one target, cut at once: (target, sources)."""
    cutter = _Cutter(body, seen, links)
    size = max(1, TOKENS // seen.length)
    whole = float(question.read(outputs(body, question.batch, 1, question.position))[0])
    found = []
    for at in range(0, len(groups), size):
        group = groups[at : at + size]
        edits = changes_made([cutter.changes(target, sources) for target, sources in group], seen.length)
        values = question.read(outputs(body, question.batch, len(group), question.position, edits))
        found += [whole - value for value in values.tolist()]
        if progress is not None:
            progress(min(at + size, len(groups)), len(groups))
    return np.array(found)


@dataclass(frozen=True, eq=False)
class Change:
    """What is added at one site and position."""

    site: str
    position: int
    value: Tensor


class _Cutter:
    """What a cut edge changes in its target's output."""

    def __init__(self, body: Body, seen: Pass, links: Links) -> None:
        self.body, self.seen, self.links, self.pool = body, seen, links, links.pool

    def changes(self, target: int, sources: Sequence[int]) -> list[Change]:
        """How the target's output changes when the shares of these sources in its input are exchanged."""
        moved: dict[int, Tensor] = {}
        for source in sources:
            place = placed(self.pool.nodes[source])
            change = self.links.bases[source] - self.links.outs[source]
            moved[place] = moved[place] + change if place in moved else change
        return [self._change(self.pool.nodes[target], place, change) for place, change in moved.items()]

    def _change(self, node: Node, place: int, moved: Tensor) -> Change:
        if node.kind == OUTPUT:
            return Change(FINAL_STREAM, place, moved)
        assert node.layer is not None and node.position is not None
        if node.kind in (HEAD, HEADS):
            return Change(heads_site(node.layer), node.position, self._heads(node, place, moved))
        if node.kind in CODED:
            return Change(node.site.split("@")[0], node.position, self._coded(node, moved))
        return Change(neuron_site(node.layer), node.position, self._neurons(node, moved))

    def _coded(self, node: Node, moved: Tensor) -> Tensor:
        """What features (or a by-pass) write more when what their basis reads is another."""
        assert node.layer is not None and node.position is not None
        coded = self.pool.through[node.site].coded
        before, after = coded.given[node.position], coded.given[node.position] + moved
        if coded.place.transcodes:
            stream, norm = self.seen.mids[node.layer], self.body.norm(self.body.wired.parts.layers[node.layer].mlp_norm)
            assert stream is not None
            before, after = (normed(norm, stream[node.position] + x) for x in (torch.zeros_like(moved), moved))
        rows = torch.stack([before, after])
        if node.kind == SKIP:
            by_codes, whole = decoded(coded.place.basis, rows)
            return (whole - by_codes)[1] - (whole - by_codes)[0]
        entries = self.pool.entries(node)
        both = torch.arange(2).repeat_interleave(len(entries))
        codes = codes_at(coded.place.basis, rows, both, coded.latent[entries].repeat(2)).view(2, -1)
        return coded.written(entries, codes[1] - codes[0])

    def _heads(self, node: Node, key: int, moved: Tensor) -> Tensor:
        assert node.layer is not None and node.position is not None
        weights, stream = self.body.heads(node.layer), self.seen.streams[node.layer][key]
        # The maps have the norm's gain in them, so that only its scale is left to be computed anew.
        before, after = (x * inverse_scale(weights.norm, x) for x in (stream, stream + moved))
        change = torch.zeros(len(weights.value), weights.value.shape[1], dtype=torch.float64)
        chosen = members(self.pool, node)
        attention = self.seen.patterns[node.layer][chosen, node.position, key]
        change[chosen] = attention[:, None] * (weights.value[chosen] @ (after - before))
        return change.flatten()

    def _neurons(self, node: Node, moved: Tensor) -> Tensor:
        assert node.layer is not None and node.position is not None
        stream = self.seen.mids[node.layer]
        assert stream is not None
        mlp, here = Mlp.of(self.body, node.layer), stream[node.position]
        before, after = mlp.at(torch.stack([here, here + moved]))
        change, chosen = torch.zeros_like(before), members(self.pool, node)
        change[chosen] = (after - before)[chosen]
        return change


def changes_made(changes: Sequence[Sequence[Change]], length: int) -> list[Edit]:
    """Edits that make the changes of list k in copy k of the prompt."""
    sites: dict[str, Tensor] = {}
    for row, own in enumerate(changes):
        for change in own:
            if change.site not in sites:
                sites[change.site] = torch.zeros(len(changes), length, len(change.value), dtype=torch.float64)
            sites[change.site][row, change.position] += change.value
    return [Replace(site, adding(added)) for site, added in sites.items()]


__all__ = ["Change", "can_cut", "changes_made", "cut_edges", "cut_together"]
