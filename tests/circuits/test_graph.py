"""Circuits grown from a unit."""

import pytest
import torch
from torch import nn

from cutaway.circuits import grow, kernel
from cutaway.errors import BadInput
from tests.circuits.tiny import seeded, wrapped


def _net():
    return wrapped(seeded(nn.Sequential(
        nn.Conv2d(2, 5, 1), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(),
    )))  # fmt: skip


def test_each_unit_gets_its_strongest_inputs():
    net = _net()
    circuit = grow(net, "5:2", ["1", "3"], top=2)
    last = kernel(net, "3", "5")
    strongest = last.norms()[2].topk(2).indices.tolist()
    assert [node.address for node in circuit.nodes if node.column == 1] == [f"3:{unit}" for unit in strongest]
    into = [edge for edge in circuit.edges if edge.target == "5:2"]
    assert [edge.source for edge in into] == [f"3:{unit}" for unit in strongest]
    assert [edge.total for edge in into] == pytest.approx(last.sums()[2, strongest].tolist())
    assert all(sum(edge.target == node.address for edge in circuit.edges) == 2 for node in circuit.nodes if node.column)
    assert all(edge.exact for edge in circuit.edges)
    full = grow(net, "5:2", ["1", "3"], top=2, every_edge=True)
    columns = [sum(node.column == column for node in full.nodes) for column in range(3)]
    assert len(full.edges) == columns[0] * columns[1] + columns[1] * columns[2]
    assert full.to_json()["nodes"][0] == {"address": full.nodes[0].address, "column": 0}
    assert torch.is_tensor(last.values)


def test_bad_chains_are_refused():
    with pytest.raises(BadInput, match="at least one site"):
        grow(_net(), "5:2", [])
    with pytest.raises(BadInput, match="no path"):
        grow(_net(), "1:0", ["3"])
    with pytest.raises(BadInput, match="Unit 3 of 5"):
        grow(_net(), "5:3", ["3"])
