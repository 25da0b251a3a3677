"""Networks whose circuit is known, made ready for discovery."""

from functools import cache
from pathlib import Path

import numpy as np

from cutaway.circuits.discovery import Ranking, Setup, setup
from cutaway.circuits.edges import projection, wire
from cutaway.circuits.edges.tasks import random_pairs
from cutaway.evidence.metrics import edge_auroc
from cutaway.networks.compiled import Truth, compiled
from cutaway.networks.network import Network


@cache
def program(name: str) -> tuple[Network, Truth]:
    """A compiled program and its truth, shared: do not change its weights."""
    found = compiled(name)
    return found.network, found.truth


def asked(network: Network, count: int = 24, seed: int = 0, ablation: str = "resample") -> Setup:
    """Random words, the whole output."""
    pairs = random_pairs(network, count, seed=seed)
    return setup(wire(network), pairs, projection(network, pairs), ablation=ablation)


def auroc(ranking: Ranking, truth: Truth) -> float:
    """Area under the ROC curve of the edges that resampling can show."""
    edges = ranking.graph.edges()
    places = [ranking.graph.index(edge) for edge in edges]
    names = [(edge.source, edge.target) for edge in edges]
    true, shown = truth.true_pairs(), truth.true_pairs("resample")
    return edge_auroc(
        [float(ranking.importance[place]) for place in places],
        [name in true for name in names],
        showable=[name in shown for name in names],
    )


def named(ranking: Ranking, mask: np.ndarray) -> set[tuple[str, str]]:
    """A circuit's edges by name."""
    graph = ranking.graph
    return {(graph.sources[row], graph.targets[column].name) for row, column in np.argwhere(mask)}


def given(data_dir: Path) -> list[Path]:
    """Folders of networks compiled by an outside tool."""
    folder = data_dir / "compiled"
    return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
