"""Sets of edges in which none hangs loose, by hand on a two-layer network."""

import numpy as np
import pytest
import torch

from cutaway.circuits.discovery import Topology
from cutaway.circuits.edges import Edge, record, run_edges, wire
from cutaway.errors import BadInput
from tests.circuits.edges.test_edges import network, pairs


def topology(name: str = "llama") -> Topology:
    return Topology.of(wire(network(name)))


def mask(of: Topology, *edges: str) -> np.ndarray:
    return of.graph.mask([Edge(*text.split(">")) for text in edges]).numpy()


PATH = ("embed>L0H1.q", "L0H1>L1G0.k", "L1H1>unembed")


def test_an_edge_counts_if_a_path_runs_through_it() -> None:
    of = topology()
    whole = mask(of, *PATH)
    assert (of.connected(whole) == whole).all()  # a group's key feeds every head of the group
    for loose in ("embed>L0H2.q", "L0H3>unembed", "L0H1>L1G1.v", "L0MLP>L1H1.q"):
        assert (of.connected(whole | mask(of, loose)) == whole).all(), loose
    assert not of.connected(mask(of, *PATH[:2])).any()
    assert not of.connected(mask(of, "embed>L0H1.q", "L0H1>L1G0.k", "L1H2>unembed")).any()  # a head of the other group


def test_top_takes_what_fits_and_nothing_loose() -> None:
    of = topology()
    order = [of.graph.index(Edge(*text.split(">"))) for text in (PATH[1], "L0H3>unembed", PATH[0], PATH[2])]
    width = of.shape[1]
    first = [row * width + column for row, column in order]
    rest = [flat for flat in np.flatnonzero(of.possible.ravel()) if flat not in first]
    full = np.array([*first, *rest])
    assert of.top(full, 2).sum() == 0
    assert (of.top(full, 3) == mask(of, *PATH)).all()
    sizes = [int(of.top(full, count).sum()) for count in range(1, of.graph.count + 1, 7)]
    assert sizes == sorted(sizes)
    assert of.top(full, of.graph.count).sum() == of.graph.count
    with pytest.raises(BadInput, match="this network has"):
        of.top(full, 0)


def test_greedy_grows_backwards_from_the_output() -> None:
    of = topology()
    key = np.zeros(of.shape)
    for value, text in ((9, PATH[0]), (8, PATH[1]), (1, PATH[2]), (7, "L0H3>L1MLP")):
        key[of.graph.index(Edge(*text.split(">")))] = value
    assert (of.greedy(key, 3) == mask(of, *PATH)).all()  # the strongest first would have begun elsewhere
    assert of.greedy(key, of.graph.count).sum() == of.graph.count


def test_the_connected_part_is_what_matters() -> None:
    """Under resample ablation, loose edges change nothing: outputs of a random set and of its connected part agree."""
    for name in ("llama", "gpt_neox"):
        net, shown = network(name), pairs()
        wired, of = wire(net), topology(name)
        rng = np.random.default_rng(0)
        random = of.possible & (rng.random(of.shape) < 0.3)
        part = of.connected(random)
        assert 0 < part.sum() < random.sum()
        one, other = (
            run_edges(wired, shown, torch.from_numpy(each), record(wired, shown.corrupt)) for each in (random, part)
        )
        assert torch.allclose(one, other, atol=1e-5)
