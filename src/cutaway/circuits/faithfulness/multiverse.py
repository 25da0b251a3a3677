"""The same circuit under every defensible way to ask: metric x ablation x wording x size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.discovery.metrics import METRICS, metric_named
from cutaway.circuits.discovery.selection import Mask, Topology
from cutaway.circuits.discovery.setup import Setup, with_ends
from cutaway.circuits.edges.pairs import Pairs
from cutaway.circuits.edges.references import ABLATIONS, reference
from cutaway.circuits.edges.wiring import Wired
from cutaway.circuits.faithfulness.curve import faithfulness_of
from cutaway.circuits.faithfulness.null import random_circuit
from cutaway.evidence import (
    Measurement,
    Multiverse,
    Specification,
    measure_against_null,
    run_multiverse,
    specifications,
)
from cutaway.evidence.multiverse import SpecResult

NULLS = 19


def faithfulness_multiverse(
    wired: Wired,
    topology: Topology,
    circuits: Mapping[int, Mask],
    pairs: Mapping[str, Pairs],
    *,
    metrics: Sequence[str] = METRICS,
    ablations: Sequence[str] = ABLATIONS,
    nulls: int = NULLS,
    minimum: int = 24,
    seed: int = 0,
    on_result: Callable[[SpecResult], None] | None = None,
) -> Multiverse:
    """f of circuits (by number of edges) under all combinations; the null are random circuits of the same size.

    ``pairs`` by wording. Raises ``BadInput`` for fewer than ``minimum`` combinations; a combination under which the
    network does nothing counts as failed.
    """
    specs = specifications(
        minimum=minimum, metric=list(metrics), ablation=list(ablations), wording=list(pairs), size=list(circuits)
    )
    rng = np.random.default_rng(seed)
    masks = [topology.possible, np.zeros_like(topology.possible)]
    first = {}  # where each size's circuit is; its rivals follow
    for size, mask in circuits.items():
        first[size] = len(masks)
        masks += [mask, *(random_circuit(topology, size, rng) for _ in range(nulls))]
    keeps = torch.stack([topology.tensor(mask) for mask in masks])

    @cache
    def ran(wording: str, ablation: str) -> tuple[Setup, Tensor]:
        """Outputs under every mask: metrics and sizes read the same passes."""
        shown, nothing = pairs[wording], torch.zeros(len(pairs[wording]))
        known = reference(wired, shown, ablation, seed=seed)
        base = Setup(wired, shown, metric_named(metrics[0]), known, ablation, nothing, nothing)
        size = base.copies()
        return base, torch.cat([base.outputs(keeps[at : at + size]) for at in range(0, len(keeps), size)])

    def question(spec: Specification) -> Measurement:
        base, outputs = ran(str(spec["wording"]), str(spec["ablation"]))
        base = replace(base, metric=metric_named(str(spec["metric"])))
        values = base.read(outputs).cpu()
        at = first[int(str(spec["size"]))]
        return _measured(with_ends(base, values[:2]), values[at : at + 1 + nulls], seed)

    return run_multiverse(question, specs, on_result=on_result)


def _measured(asked: Setup, values: Float[Tensor, "circuit pair"], seed: int) -> Measurement:
    """f of the first circuit against the others."""
    own = faithfulness_of(asked, values[0], seed=seed)
    null = asked.faithfulness(values[1:])
    against = measure_against_null(own.value, null, n=own.n, alternative="greater", seed=seed)
    return Measurement(own.value, own.low, own.high, against.null_mean, against.null_std, against.p, own.n, seed)
