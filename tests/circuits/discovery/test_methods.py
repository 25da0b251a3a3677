"""Methods against each other and against the plain loop that they abbreviate."""

import numpy as np
import pytest
import torch

from cutaway.circuits.discovery import (
    METHODS,
    Options,
    Setup,
    Topology,
    divergence,
    metric_named,
    neuron_circuits,
    rank,
    setup,
)
from cutaway.circuits.edges import edge_effects, logit_difference, wire
from cutaway.errors import BadInput, NotTestable, UnknownName
from tests.circuits.edges.test_edges import network, pairs
from tests.circuits.known import asked, program


def question(name: str = "llama") -> tuple[Setup, Topology]:
    net = network(name)
    wired = wire(net)
    return setup(wired, pairs(6), logit_difference()), Topology.of(wired)


def test_the_setup_measures_both_ends() -> None:
    own, _ = question()
    net, shown, metric = own.wired.network, own.pairs, own.metric
    assert torch.allclose(own.network, metric.of(net, shown.clean, shown), atol=1e-5)
    assert torch.allclose(own.empty, metric.of(net, shown.corrupt, shown), atol=1e-5)
    everything = own.wired.graph.possible
    values = own.values([everything, torch.zeros_like(everything)])
    assert own.faithfulness(values).tolist() == pytest.approx([1, 0], abs=1e-5)
    part = own.part([1, 4])
    assert torch.allclose(part.values([everything])[0], own.network[[1, 4]], atol=1e-6)


def test_a_setup_in_which_nothing_happens_is_not_testable() -> None:
    net, shown = network("llama"), pairs()
    same = type(shown)(shown.clean, shown.clean, shown.target, shown.against)
    with pytest.raises(NotTestable, match="do not make it do anything"):
        setup(wire(net), same, logit_difference())


def test_exact_is_patching_and_estimates_come_close_or_say_that_they_are_estimates() -> None:
    own, _ = question()
    exact = rank(own, "exact")
    edges = own.wired.graph.edges()[::17]
    effects = edge_effects(own.wired, own.pairs, edges, own.metric).change.mean(1)
    found = torch.stack([exact.scores[own.wired.graph.index(edge)] for edge in edges])
    assert torch.allclose(found, effects, atol=1e-6)
    assert bool(exact.exact[own.wired.graph.possible].all())
    assert not bool(rank(own, "eap").exact.any())
    low, high = exact.intervals()
    assert bool((low <= exact.scores + 1e-9).all() and (exact.scores <= high + 1e-9).all())
    assert exact.cost.forward == own.wired.graph.count + 2


def test_intervals_are_students_t_over_entities() -> None:
    """By hand: pairs 1 and 2 belong together, so the entity sums are what vary."""
    own, _ = question()
    ranking = rank(own, "eap")
    assert ranking.per_pair is not None
    names = ("a", "a", "b", "c", "d", "e")
    low, high = ranking.intervals(names)
    place = own.wired.graph.index(own.wired.graph.edges()[-1])
    values = ranking.per_pair[(slice(None), *place)].double().numpy()
    apart = values - values.mean()
    sums = np.array([apart[0] + apart[1], *apart[2:]])
    reach = 2.7764451 * np.sqrt((sums**2).sum() * 5 / 4) / 6  # t of 4 degrees of freedom
    assert float(high[place] - low[place]) / 2 == pytest.approx(reach, rel=1e-4)


def test_orders() -> None:
    own, _ = question()
    ranking = rank(own, "eap-ig")
    helpful = np.sign(own.gap)
    absolute, signed = ranking.order("absolute"), ranking.order("signed", helpful=helpful)
    assert ranking.per_pair is not None
    strength = ranking.per_pair.abs().mean(0).flatten().numpy()
    assert strength[ranking.order()[0]] == strength.max()
    assert (np.diff(strength[ranking.order()]) <= 0).all()
    scores = ranking.scores.flatten().numpy()
    assert abs(scores[absolute[0]]) == np.abs(scores).max()
    assert (-helpful * scores)[signed[0]] == (-helpful * scores).max()
    assert len(set(absolute)) == len(absolute) == own.wired.graph.count
    with pytest.raises(UnknownName, match="absolute"):
        ranking.order("absolut")


def plain_acdc(own: Setup, tau: float) -> torch.Tensor:
    """One edge at a time, as published."""
    kept = own.wired.graph.possible.clone()
    clean = own.outputs(kept[None])[0]
    value = 0.0
    for column in range(kept.shape[1] - 1, -1, -1):
        for row in range(kept.shape[0] - 1, -1, -1):
            if not kept[row, column]:
                continue
            trial = kept.clone()
            trial[row, column] = False
            now = float(divergence(own.outputs(trial[None]), clean, own.pairs)[0])
            if now - value < tau:
                kept, value = trial, now
    return kept


def test_acdc_in_batches_decides_as_the_plain_loop() -> None:
    own = asked(program("induction")[0], 6)
    found = rank(own, "acdc", Options(tau=0.01))
    assert found.chosen is not None
    assert torch.equal(found.chosen, plain_acdc(own, 0.01))
    assert 3 < int(found.chosen.sum()) < own.wired.graph.count


def test_masks_find_the_path_of_a_program_and_repeat() -> None:
    net, truth = program("copy_first")
    own = asked(net, 12)
    asking = [parameter.requires_grad for parameter in net.module.parameters()]
    found = rank(own, "mask", Options(epochs=40))
    assert found.chosen is not None
    names = {(found.graph.sources[s], found.graph.targets[t].name) for s, t in found.chosen.nonzero().tolist()}
    assert truth.true_pairs("resample") <= names
    again = rank(own, "mask", Options(epochs=40))
    assert torch.equal(found.scores, again.scores)
    nodes = rank(own, "mask", Options(epochs=5, grain="nodes"))
    assert len({float(each) for each in nodes.scores[1][nodes.graph.possible[1]]}) == 1  # one gate for a source
    assert [parameter.requires_grad for parameter in net.module.parameters()] == asking


def test_divergence_by_hand() -> None:
    """KL of (1/2, 1/2) to (1/4, 3/4) is log 2 - (log 3) / 2, and 0 of itself."""
    own, _ = question()
    clean = torch.log(torch.tensor([0.5, 0.5])).expand(1, 1, 2)
    other = torch.log(torch.tensor([0.25, 0.75])).expand(1, 1, 2)
    found = divergence(torch.stack([clean, other]), clean, own.pairs.part([0]))
    assert found.tolist() == pytest.approx([0, np.log(2) - np.log(3) / 2], abs=1e-6)


def test_probabilities_by_hand() -> None:
    shown = pairs(1)
    logits = torch.zeros(1, 1, 50)
    logits[0, 0, int(shown.target[0])] = np.log(51.0)  # type: ignore[index]
    assert float(metric_named("probability").read(logits, shown)) == pytest.approx(0.51)
    assert float(metric_named("log probability").read(logits, shown)) == pytest.approx(np.log(0.51), abs=1e-6)
    with pytest.raises(UnknownName, match="logit difference"):
        metric_named("logit diff")


def test_neurons_are_a_baseline_of_nested_circuits() -> None:
    own, _ = question("gpt2")
    found = neuron_circuits(network("gpt2"), own)
    assert len(found.nodes) == 2 * (4 + 64)
    assert found.faithfulness[-1] == pytest.approx(1, abs=1e-5)
    assert found.counts[-1] == len(found.nodes)
    assert found.order[0] == int(np.abs(found.scores).argmax())
    assert abs(found.faithfulness[0] - 1) > 0.05


def test_what_cannot_be_asked_is_refused() -> None:
    own, _ = question()
    assert list(METHODS)[:6] == ["exact", "verified", "eap", "eap-ig", "acdc", "mask"]
    with pytest.raises(UnknownName, match="eap-ig"):
        rank(own, "eap_ig")
    with pytest.raises(UnknownName, match="edges"):
        rank(own, "mask", Options(grain="edge"))
    with pytest.raises(BadInput, match="one for each"):
        setup(own.wired, own.pairs, own.metric, entities=("a",))
