"""Features and groups of them set to something else, and the rest of the network really run.

Setting a latent from its value a to b adds (b - a) times its direction at its site and position. The graph's prediction
for the metric is what flows through it, in proportion: value (a - b) / (a - baseline), and for a group the sum (in a
graph of held patterns effects add up). Everything that a graph holds fixed answers here: attention, norms, gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.tracing.causal import TOKENS, Change, changes_made
from cutaway.circuits.tracing.features.codes import codes_at
from cutaway.circuits.tracing.frozen import Body, Pass, outputs, outputs_and
from cutaway.circuits.tracing.ledger import placed
from cutaway.circuits.tracing.links import Links
from cutaway.circuits.tracing.nodes import FEATURE, FEATURES
from cutaway.circuits.tracing.question import Question
from cutaway.errors import BadInput


@dataclass(frozen=True, eq=False)
class Answers:
    """Of each group: what its change was ``predicted`` to take from the metric and what it took; and by how much the
    activation of each watched feature fell, [group feature].
    """

    predicted: Float[np.ndarray, " group"]
    measured: Float[np.ndarray, " group"]
    fallen: Float[np.ndarray, "group feature"]


def set_features(
    body: Body, seen: Pass, question: Question, links: Links, groups: Sequence[Sequence[int]], *,
    factor: float | int | None = None, watch: Sequence[int] = (),
) -> Answers:  # fmt: skip
    """Sets the features of each group to ``factor`` times what they are (0: off), or to their baseline (None).

    ``watch``: nodes of single features. Raises ``BadInput`` for nodes that are no features.
    """
    size = max(1, TOKENS // seen.length)
    sites = list(dict.fromkeys(links.pool.through[links.pool.nodes[n].site].coded.place.reads for n in watch))
    before = float(question.read(outputs(body, question.batch, 1, question.position))[0])
    made = [[_set(links, number, factor) for number in group] for group in groups]
    measured, fallen = [], [torch.zeros(0, len(watch), dtype=torch.float64)]
    for at in range(0, len(groups), size):
        part = [[change for change, _ in group] for group in made[at : at + size]]
        edits = changes_made(part, seen.length)
        logits, caught = outputs_and(body, question.batch, len(part), question.position, edits, sites)
        measured += [before - value for value in question.read(logits).tolist()]
        fallen.append(_fallen(links, watch, caught, len(part)))
    predicted = [sum(value for _, value in group) for group in made]
    return Answers(np.array(predicted, dtype=np.float64), np.array(measured), torch.cat(fallen).numpy())


def _set(links: Links, number: int, factor: float | int | None) -> tuple[Change, float]:
    """What is added for one node, and what that is predicted to take from the metric."""
    pool, node = links.pool, links.pool.nodes[number]
    if node.kind not in (FEATURE, FEATURES):
        raise BadInput(f"The node {node.name} was to be set as a feature; name features of a basis.")
    through, entries = pool.through[node.site], pool.entries(node)
    coded = through.coded
    now = coded.value[entries]
    change = (coded.base[entries] if factor is None else factor * now) - now
    predicted = -float((through.along[entries] * change).sum())
    return Change(coded.place.writes, placed(node), coded.written(entries, change)), predicted


def _fallen(links: Links, watch: Sequence[int], caught: dict[str, Tensor], rows: int) -> Float[Tensor, "group feature"]:
    found = torch.zeros(rows, len(watch), dtype=torch.float64)
    for column, number in enumerate(watch):
        node = links.pool.nodes[number]
        coded = links.pool.through[node.site].coded
        (entry,) = links.pool.entries(node).tolist()
        here = caught[coded.place.reads][:, placed(node)].detach().double().cpu()
        latents = torch.full((rows,), int(coded.latent[entry]))
        found[:, column] = coded.value[entry] - codes_at(coded.place.basis, here, torch.arange(rows), latents)
    return found
