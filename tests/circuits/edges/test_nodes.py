"""Nodes: patching by hand, estimates that are exact where the network is linear, and queries behind a softmax."""

from typing import Any, cast

import pytest
import torch

from cutaway.circuits.edges import Edge, edge_effects, logit_difference, wire
from cutaway.circuits.edges.atp import attribute_queries_and_keys, drop_gradients
from cutaway.circuits.edges.nodes import (
    GRAINS,
    Keep,
    attribute_nodes,
    node_effects,
    node_reference,
    nodes_of,
    opened,
    run_nodes,
)
from cutaway.errors import BadInput, UnknownName
from cutaway.networks.edits import Patch
from tests.circuits.edges.test_edges import linear, network, pairs


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_cutting_every_query_key_and_value_at_once_gives_the_corrupted_attention(name: str) -> None:
    """By another way: all heads' outputs of layer 0 exchanged is the same as its queries, keys and values exchanged."""
    net, shown, metric = network(name), pairs(), logit_difference()
    wired = opened(net)
    values = []
    for grains in (["heads"], ["queries", "keys", "values"]):
        nodes = nodes_of(wired, grains)
        kept = torch.tensor([layer != 0 for layer in nodes.layer])
        values.append(run_nodes(wired, shown, metric, [Keep(nodes, kept)], node_reference(wired, shown, nodes))[0])
    assert torch.allclose(values[0], values[1], atol=1e-5)
    assert (values[0] - metric.of(net, shown.clean, shown)).abs().max() > 1e-3


def test_a_query_node_is_the_edges_into_it() -> None:
    """In the first layer the embedding alone feeds a query, so that cutting that edge exchanges the node."""
    net, shown, metric = network("llama"), pairs(), logit_difference()
    nodes = nodes_of(opened(net), ["queries", "keys"])
    effects = node_effects(net, shown, metric, nodes)
    for name in ("L0H3.q", "L0G1.k"):
        expected = edge_effects(wire(net), shown, [Edge("embed", name)], metric).change[0]
        assert torch.allclose(effects.per_pair[:, nodes.names.index(name)], expected, atol=1e-6)


def test_estimates_are_exact_on_a_linear_network() -> None:
    net, shown, metric = linear(), pairs(), logit_difference()
    nodes = nodes_of(opened(net), ["heads", "mlps", "values"])
    exact = node_effects(net, shown, metric, nodes).per_pair
    assert exact.abs().max() > 0.1
    for steps in (1, 3):
        estimate = attribute_nodes(net, shown, metric, nodes, steps=steps).per_pair
        assert torch.allclose(estimate, exact, atol=2e-4 * float(exact.abs().max()))


def test_positions_add_up_and_say_where() -> None:
    net, shown, metric = linear(), pairs(), logit_difference()
    nodes = nodes_of(opened(net), ["values"])
    by_place = attribute_nodes(net, shown, metric, nodes, positions=True)
    together = attribute_nodes(net, shown, metric, nodes)
    assert torch.allclose(by_place.per_pair.sum(2), together.per_pair, atol=1e-5)
    exact = node_effects(net, shown, metric, nodes, chosen=[0, 3], positions=True).per_pair
    assert torch.allclose(exact[:, [0, 3]], by_place.per_pair[:, [0, 3]], atol=1e-4)
    assert by_place.per_pair[:, 0, [0, 1]].abs().max() == 0  # only the third token and what follows may differ


def test_neurons_are_hidden_units() -> None:
    net, shown, metric = network("gpt2"), pairs(), logit_difference()
    wired = opened(net)
    nodes = nodes_of(wired, ["neurons"])
    assert len(nodes) == 2 * 64
    exact = node_effects(net, shown, metric, nodes, chosen=range(8)).per_pair[:, :8]
    captured = net.run(shown.corrupt, capture=["layers.0.mlp"])["layers.0.mlp"]
    one = net.run(shown.clean, edits=[Patch("layers.0.mlp", captured[..., 5:6], units=[5])], logits="last").logits
    assert torch.allclose(exact[:, 5], metric.read(one, shown) - metric.of(net, shown.clean, shown), atol=1e-6)


def saturated(spread: float) -> Any:
    """Queries so long that every head looks at one place only, and a rest that is linear."""
    net = linear()
    with torch.no_grad():
        for layer in cast(Any, net.module).model.layers:
            torch.nn.init.normal_(layer.self_attn.q_proj.weight, 0, spread)
    return net


def test_recomputing_the_softmax_finds_what_gradients_do_not() -> None:
    net, shown, metric = saturated(300.0), pairs(count=8), logit_difference()
    nodes = nodes_of(opened(net), ["queries", "keys"])
    last = [number for number, layer in enumerate(nodes.layer) if layer == 1]
    exact = node_effects(net, shown, metric, nodes, chosen=last).per_pair[:, last]
    plain = attribute_nodes(net, shown, metric, nodes).per_pair[:, last]
    fixed = attribute_queries_and_keys(net, shown, metric)
    assert exact.abs().max() > 0.5
    assert plain.abs().mean() < 0.1 * float(exact.abs().mean())
    assert torch.allclose(torch.stack([fixed[nodes.names[number]] for number in last], 1), exact, atol=1e-3)


def test_with_a_linear_rest_the_softmax_estimate_is_exact() -> None:
    """Queries of the last layer, no norm behind: the pattern's change is all there is to first and every order."""
    net, shown, metric = saturated(3.0), pairs(), logit_difference()
    nodes = nodes_of(opened(net), ["queries", "keys"])
    last = [number for number, layer in enumerate(nodes.layer) if layer == 1]
    exact = node_effects(net, shown, metric, nodes, chosen=last).per_pair
    fixed = attribute_queries_and_keys(net, shown, metric)
    for number in last:
        assert torch.allclose(fixed[nodes.names[number]], exact[:, number], atol=1e-4)
    assert exact[:, last].abs().max() > 0.1
    by_place = attribute_queries_and_keys(net, shown, metric, positions=True)
    some = [last[0], last[-1]]
    placed = node_effects(net, shown, metric, nodes, chosen=some, positions=True).per_pair
    for number in some:
        assert torch.allclose(by_place[nodes.names[number]], placed[:, number], atol=1e-4)


def test_dropping_a_layer_undoes_cancellation() -> None:
    """A head whose direct effect the next layer's MLP takes back scores nothing, unless that layer is dropped."""
    net, shown, metric = linear(), pairs(), logit_difference()
    nodes = nodes_of(opened(net), ["values"])
    plain = attribute_nodes(net, shown, metric, nodes).per_pair
    dropped = drop_gradients(net, shown, metric, nodes)
    first = [number for number, layer in enumerate(nodes.layer) if layer == 0]
    assert bool((dropped.per_pair >= 0).all())
    # Two layers: for nodes of the first, the mean has one term, the effect that does not pass the second layer.
    wired = opened(net)
    unembed = cast(Any, net.module).lm_head.weight
    assert shown.target is not None
    assert shown.against is not None
    direction = unembed[shown.target] - unembed[shown.against]
    known = node_reference(wired, shown, nodes)
    clean = node_reference(wired, type(shown)(shown.clean, shown.clean, shown.target, shown.against), nodes)
    site = nodes.sites[0]
    change = (known[site] - clean[site]).mean(1)  # even attention at the last place
    group = change.unflatten(1, (2, -1))
    weight = wired.weights[0].write
    for head in range(2):
        moved = torch.stack([weight[2 * head + each] @ group[:, head].T for each in range(2)]).sum(0)
        expected = (direction * moved.T).sum(1).abs()
        assert torch.allclose(dropped.per_pair[:, first[head]], expected, atol=1e-4)
    assert not torch.allclose(dropped.per_pair[:, first], plain[:, first].abs(), atol=1e-3)


def test_what_cannot_be_asked_is_refused() -> None:
    net, shown, metric = network("llama"), pairs(), logit_difference()
    with pytest.raises(UnknownName, match="neurons"):
        nodes_of(opened(net), ["neuron"])
    with pytest.raises(BadInput, match="at least 1"):
        attribute_nodes(net, shown, metric, nodes_of(opened(net), ["heads"]), steps=0)
    assert set(GRAINS) >= {"heads", "neurons"}
