"""Cutting: exact on linear networks, the same as edge patching elsewhere, nothing left behind."""

import numpy as np
import pytest
import torch

from cutaway.circuits.edges import Edge, Pairs, edge_effects, logit_difference, wire
from cutaway.circuits.tracing import sign_agreement, trace
from cutaway.circuits.tracing.causal import can_cut, cut_edges
from cutaway.circuits.tracing.nodes import EMBED, HEAD
from cutaway.circuits.tracing.sets import run_kept
from cutaway.networks.network import Batch
from tests.circuits.tracing.worlds import IDS, OTHER, World, plain_network, random_network, world

LAST = torch.tensor([[5, 9, 11, 30, 44]])


def all_edges(found: World) -> list[tuple[int, int]]:
    places = [(int(t), int(s)) for t, s in np.argwhere(found.links.values)]
    return [(target, source) for target, source in places if can_cut(found.pool.nodes[source])]


def cut(found: World, edges: list[tuple[int, int]]) -> np.ndarray:
    return cut_edges(found.body, found.seen, found.question, found.links, edges)


@pytest.mark.parametrize("baseline", ["text", "zero"])
def test_a_linear_network_does_what_every_edge_predicts(baseline: str) -> None:
    found = world(plain_network(layers=3, heads=2), torch.tensor([[4, 0, 2, 1]]), 1, 3, baseline=baseline, size=100)
    edges = all_edges(found)
    predicted = np.array([found.links.values[edge] for edge in edges])
    assert np.allclose(cut(found, edges), predicted, atol=2e-5 * np.abs(predicted).max() + 1e-6)
    assert len(edges) > 60 and np.abs(predicted).max() > 0.1


@pytest.mark.parametrize(
    ("ours", "theirs", "other"),
    [
        (("embed@2", "L1H3@4"), Edge("embed", "L1H3.v"), OTHER),  # the other prompt differs at position 2 alone
        (("embed@4", "output"), Edge("embed", "unembed"), LAST),  # ... at the last
        (("embed@4", "L1MLP@4"), Edge("embed", "L1MLP"), LAST),
        (("L0H1@4", "L1MLP@4"), Edge("L0H1", "L1MLP"), LAST),
        (("L0MLP@4", "L1H2@4"), Edge("L0MLP", "L1H2.v"), LAST),
    ],
)
def test_cutting_is_patching_the_same_edge(ours: tuple[str, str], theirs: Edge, other: torch.Tensor) -> None:
    network = random_network("gpt2")
    found = world(network, IDS, baseline="corrupt", size=40, neurons=0, other=other)  # heads alone, MLPs whole
    measured = cut(found, [(found.index(ours[1]), found.index(ours[0]))])[0]
    batches = [Batch({"input_ids": ids}, ("x",)) for ids in (IDS, other)]
    pairs = Pairs(*batches, torch.tensor([4]), torch.tensor([20]))
    change = edge_effects(wire(network), pairs, [theirs], logit_difference()).change
    assert measured == pytest.approx(-float(change), abs=1e-5)
    assert abs(measured) > 3e-4


def test_keeping_everything_or_nothing() -> None:
    network = random_network("llama")
    found = world(network, IDS, baseline="corrupt", size=8)
    everything = [number for number, node in enumerate(found.pool.nodes) if can_cut(node)]

    def run(kept: list[int]):
        return run_kept(found.body, found.seen, found.question, found.pool, found.held.written, kept, draws=2)

    whole, nothing = run(everything), run([])
    corrupt = network.run(network.prepare(OTHER)).logits[0, -1].double()
    assert whole.network == pytest.approx(found.metric, abs=1e-5)
    assert whole.kept == pytest.approx(found.metric, abs=1e-5)
    assert whole.empty == pytest.approx(float(corrupt[4] - corrupt[20]), abs=1e-5)
    assert nothing.kept == pytest.approx(whole.empty, abs=1e-6)
    assert nothing.without == pytest.approx(found.metric, abs=1e-5)
    assert abs(whole.without - found.metric) > 1e-3  # heads and neurons exchanged, tokens not
    heads = [number for number in everything if found.pool.nodes[number].kind in (HEAD, EMBED)]
    some = run(heads)
    assert len(set(some.random_kept)) == 2 and some.random_kept[0] != some.kept


def test_sign_agreement_by_hand() -> None:
    found = sign_agreement(np.array([1.0, 2.0, -1.0, 3.0]), np.array([0.5, -1.0, -2.0, 0.0]))
    assert (found.value, found.n) == (0.5, 4)
    # Measured signs +, -, -, 0; of four predictions one is negative: in the mean 1 * 3/4 + 2 * 1/4 agree.
    assert found.null_mean == pytest.approx((0.75 + 0.5) / 4, abs=0.02)


def test_a_trace_says_how_its_edges_fared() -> None:
    found = trace(plain_network(layers=2, heads=2), torch.tensor([[4, 0, 2, 1]]), 1, 3)
    assert found.tested is not None and found.tested.signs is not None
    assert found.tested.signs.value == 1.0 and found.tested.checked + found.tested.unchecked == len(found.edges)
    for edge in found.edges:
        cuttable = edge.source.startswith(("embed", "L")) and "attention" not in edge.source
        assert (edge.check is not None) == cuttable
        if edge.check is not None:
            assert edge.check.predicted == edge.value
    assert found.tested.lost is not None and found.tested.lost.value == pytest.approx(
        1 - (found.tested.metric_without - found.tested.metric_empty) / (found.metric - found.tested.metric_empty)
    )
    untested = trace(plain_network(layers=2, heads=2), torch.tensor([[4, 0, 2, 1]]), 1, 3, test=False)
    assert untested.tested is None and all(edge.check is None for edge in untested.edges)
