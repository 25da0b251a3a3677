"""What circuits are held against: a network, pairs, a metric, and what cut edges carry."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.circuits.edges.pairs import Metric, Pairs
from cutaway.circuits.edges.references import reference
from cutaway.circuits.edges.runtime import Sources, run_edges
from cutaway.circuits.edges.tasks import check_finite
from cutaway.circuits.edges.wiring import Wired
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.network import Batch

TOKENS = 2048  # of one pass with copies
BYTES = 5e8  # of what all sources write in one pass
PAIRS = 64  # of one pass
SAME = 1e-4  # of the output: a smaller gap between clean and cut is rounding

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Setup:
    """The question that a circuit answers.

    ``network`` [pair] and ``empty`` [pair] are the metric with every edge kept and with every edge cut. ``entities``
    name what pairs have in common (a name, a country): statistics resample these.
    """

    wired: Wired
    pairs: Pairs
    metric: Metric
    reference: Sources
    ablation: str
    network: Float[Tensor, " pair"]
    empty: Float[Tensor, " pair"]
    entities: tuple[Hashable, ...] = field(default=())

    @property
    def gap(self) -> float:
        """Mean metric of the network minus that with every edge cut: what a circuit has to restore."""
        return float((self.network - self.empty).mean())

    @property
    def whole_output(self) -> bool:
        """True where no answer is named, so that the output as a whole counts."""
        return self.pairs.target is None

    def copies(self) -> int:
        """How many circuits share one pass."""
        heads = self.reference.heads[0]
        rows = min(len(self.pairs), PAIRS)
        bytes_a_token = 4 * len(self.wired.graph.sources) * self.wired.width
        return max(1, int(min(TOKENS, BYTES / bytes_a_token)) // (rows * heads.shape[1]))

    def outputs(self, keeps: Bool[Tensor, "circuit source target"]) -> Float[Tensor, "circuit pair pos out"]:
        """What the network says under each circuit, several circuits to a pass."""
        rows = []
        for first in range(0, len(self.pairs), PAIRS):
            part = self.pairs.part(range(first, min(first + PAIRS, len(self.pairs))))
            known = self.reference.rows(first, first + len(part), part.length)
            made = run_edges(self.wired, part, keeps, known, logits=self.metric.logits).float()
            rows.append(made.unflatten(0, (len(keeps), len(part))))
        if len(rows) == 1:
            return rows[0]
        width = max(row.shape[2] for row in rows)
        return torch.cat([torch.nn.functional.pad(row, (0, 0, 0, width - row.shape[2])) for row in rows], 1)

    def values(
        self, keeps: Sequence[Bool[Tensor, "source target"]], progress: Progress | None = None
    ) -> Float[Tensor, "circuit pair"]:
        """The metric of every pair under each circuit."""
        found = [torch.zeros(0, len(self.pairs))]
        size = self.copies()
        for first in range(0, len(keeps), size):
            group = torch.stack(list(keeps[first : first + size]))
            found.append(self.read(self.outputs(group)).cpu())
            if progress is not None:
                progress(min(first + size, len(keeps)), len(keeps))
        return torch.cat(found)

    def read(self, outputs: Float[Tensor, "circuit pair pos out"]) -> Float[Tensor, "circuit pair"]:
        """The metric of outputs that :meth:`outputs` gave."""
        repeated = self.pairs if len(outputs) == 1 else self.pairs.times(len(outputs))
        return self.metric.read(outputs.flatten(0, 1), repeated).unflatten(0, (len(outputs), -1))

    def faithfulness(self, values: Float[Tensor, "circuit pair"]) -> Float[np.ndarray, " circuit"]:
        """(m(C) - m(empty)) / (m(N) - m(empty)) of the means over pairs."""
        return ((values.mean(1) - float(self.empty.mean())) / self.gap).double().numpy()

    def part(self, rows: Sequence[int]) -> Setup:
        """The same question on some of the pairs."""
        kept = list(rows)
        index = torch.tensor(kept)
        return replace(
            self, pairs=self.pairs.part(kept), reference=self.reference.map(lambda value: value[index]),
            network=self.network[index], empty=self.empty[index],
            entities=tuple(self.entities[row] for row in kept) if self.entities else (),
        )  # fmt: skip


def setup(
    wired: Wired,
    pairs: Pairs,
    metric: Metric,
    *,
    ablation: str = "resample",
    over: Batch | None = None,
    entities: Sequence[Hashable] = (),
    seed: int = 0,
) -> Setup:
    """Measures the whole network and the network with every edge cut.

    Raises ``NotTestable`` where both give the same metric: then no circuit can be told from another.
    """
    if entities and len(entities) != len(pairs):
        raise BadInput(f"{len(entities)} entities were named for {len(pairs)} pairs; name one for each.")
    check_finite(wired.network, pairs, metric)
    known = reference(wired, pairs, ablation, over=over, seed=seed)
    nothing = torch.zeros(len(pairs))
    made = Setup(wired, pairs, metric, known, ablation, nothing, nothing, tuple(entities))
    everything = wired.graph.possible
    both = made.values([everything, torch.zeros_like(everything)])
    return with_ends(made, both)


def with_ends(made: Setup, ends: Float[Tensor, "2 pair"]) -> Setup:
    """The setup with its metric with every edge kept and with every edge cut; ``NotTestable`` where they agree."""
    made = replace(made, network=ends[0], empty=ends[1])
    scale = max(float(ends.abs().mean()), 1e-6)
    if abs(made.gap) < SAME * scale:
        raise NotTestable(
            f"{made.wired.network.name} gives the same {made.metric.name} with every edge cut ({made.ablation}) as "
            "with none: these pairs do not make it do anything, so no circuit can be found; use other pairs or another "
            "ablation."
        )
    return made
