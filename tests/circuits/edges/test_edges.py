"""Edges: masks of them change what they should and nothing else, and estimates are gradients of that."""

import copy
from typing import Any, cast

import pytest
import torch
from torch import nn

import cutaway
from cutaway.circuits.edges import (
    Edge,
    Pairs,
    attribute,
    edge_effects,
    logit_difference,
    measure,
    owners,
    projection,
    record,
    run_edges,
    verified,
    wire,
)
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.edits import Patch
from cutaway.networks.network import Batch, Network
from tests.networks.tiny import transformer

PRE_NORM = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gpt2", "gpt_neox")


def network(name: str, spread: float = 0.2) -> Network:
    module = transformer(name)
    torch.manual_seed(1)
    for parameter in module.parameters():
        # Norms' gains and biases, too, so that folding them wrongly shows.
        nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, spread)
    return cutaway.wrap(module)


def batch(ids: torch.Tensor) -> Batch:
    return Batch({"input_ids": ids}, tuple(f"{row}" for row in range(len(ids))))


def pairs(count: int = 3, length: int = 6) -> Pairs:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(3, 50, (count, length), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 2] = 3 + (clean[:, 2] + 7) % 47
    return Pairs(batch(clean), batch(corrupt), torch.arange(count) + 4, torch.arange(count) + 20)


@pytest.mark.parametrize("name", PRE_NORM)
def test_keeping_every_edge_changes_no_bit_and_cutting_every_edge_gives_the_corrupted_output(name: str) -> None:
    net, shown = network(name), pairs()
    wired = wire(net)
    reference = record(wired, shown.corrupt)
    everything = wired.graph.possible
    clean, corrupt = (net.run(b, logits="last").logits for b in (shown.clean, shown.corrupt))
    assert torch.equal(run_edges(wired, shown, everything, reference), clean)
    assert torch.allclose(run_edges(wired, shown, ~everything & False, reference), corrupt, atol=2e-5)
    assert (clean - corrupt).abs().max() > 0.05
    assert torch.equal(net.run(shown.clean, logits="last").logits, clean)  # nothing was left behind


@pytest.mark.parametrize("name", PRE_NORM)
def test_eap_is_the_gradient_of_the_mask(name: str) -> None:
    net, shown, metric = network(name), pairs(), logit_difference()
    wired = wire(net)
    keep = torch.ones(wired.graph.possible.shape, requires_grad=True)
    total = metric.read(run_edges(wired, shown, keep, record(wired, shown.corrupt), grad=True), shown).sum()
    (slope,) = torch.autograd.grad(total, keep)
    scores = attribute(wired, shown, metric, steps=1, size=2)
    assert torch.allclose(scores.per_pair.sum(0), -slope * wired.graph.possible, atol=3e-5)
    assert scores.per_pair.abs().max() > 0.01
    assert all(parameter.requires_grad for parameter in net.module.parameters())


def test_one_edge_into_the_output_by_hand() -> None:
    net, shown = network("llama"), pairs()
    wired, metric = wire(net), logit_difference()
    model = cast(Any, net.module)
    captured = net.run(shown.clean, capture=["layers.1.resid", "embed"])
    other = net.run(shown.corrupt, capture=["embed"])
    stream = captured["layers.1.resid"] + other["embed"] - captured["embed"]
    with torch.no_grad():
        logits = model.lm_head(model.model.norm(stream))[:, -1:]
    effect = edge_effects(wired, shown, [Edge("embed", "unembed")], metric)
    base = metric.of(net, shown.clean, shown)
    assert torch.allclose(effect.change[0], metric.read(logits, shown) - base, atol=1e-6)


def test_one_edge_into_a_query_by_hand() -> None:
    """The query of head 3 alone reads the other embedding; keys, values and other heads do not."""
    net, shown = network("gpt2"), pairs()
    wired, metric = wire(net), logit_difference()
    embeds = [net.run(b, capture=["embed"])["embed"] for b in (shown.clean, shown.corrupt)]
    block = cast(Any, net.module).transformer.h[0]
    attention, normed = block.attn, block.ln_1(embeds[1])

    def exchange(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        changed[..., 12:16] = (normed @ attention.c_attn.weight + attention.c_attn.bias)[..., 12:16]
        return changed

    handle = attention.c_attn.register_forward_hook(exchange)
    with torch.no_grad():
        expected = metric.of(net, shown.clean, shown)
    handle.remove()
    effect = edge_effects(wired, shown, [Edge("embed", "L0H3.q")], metric)
    assert torch.allclose(effect.change[0] + metric.of(net, shown.clean, shown), expected, atol=1e-6)


def test_half_precision_gives_nearly_the_same_scores() -> None:
    net, shown, metric = network("llama"), pairs(), logit_difference()
    exact = attribute(wire(net), shown, metric, steps=2).mean
    half = cutaway.wrap(copy.deepcopy(net.module).bfloat16())
    wired = wire(half)
    clean = half.run(shown.clean, logits="last").logits
    assert torch.equal(run_edges(wired, shown, wired.graph.possible, record(wired, shown.corrupt)), clean)
    found = attribute(wired, shown, metric, steps=2).mean
    together = torch.corrcoef(torch.stack([exact[wired.graph.possible], found[wired.graph.possible]]))[0, 1]
    assert together > 0.99


def test_several_cuts_share_a_pass() -> None:
    net, shown = network("qwen2"), pairs()
    wired, metric = wire(net), logit_difference()
    edges = [Edge("embed", "L0G0.k"), Edge("L0H1", "L1G1.v"), Edge("L0MLP", "L1H2.q")]
    together = edge_effects(wired, shown, edges, metric).change
    apart = torch.cat([edge_effects(wired, shown, [edge], metric).change for edge in edges])
    assert torch.allclose(together, apart, atol=1e-5)
    masks = torch.stack([~wired.graph.mask([edge]) for edge in edges])
    values = measure(wired, shown, masks, record(wired, shown.corrupt), metric)
    assert torch.allclose(values - metric.of(net, shown.clean, shown), together, atol=1e-5)


def linear() -> Network:
    """Attention that looks everywhere alike, no MLP's nonlinearity at work: outputs are linear in every source."""
    module = transformer("llama")
    torch.manual_seed(2)
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, 0, 0.3)
        if "q_proj" in name or "down_proj" in name:
            nn.init.zeros_(parameter)
    for part in list(module.modules()):
        for name in ("input_layernorm", "post_attention_layernorm", "norm"):
            if hasattr(part, name):
                setattr(part, name, nn.Identity())
    return cutaway.wrap(module)


def test_estimates_are_exact_on_a_linear_network() -> None:
    net, shown = linear(), pairs()
    wired = wire(net)
    metric = logit_difference()
    edges = wired.graph.edges()
    exact = edge_effects(wired, shown, edges, metric).change
    places = [wired.graph.index(edge) for edge in edges]
    for steps in (1, 3):
        found = attribute(wired, shown, metric, steps=steps).per_pair
        estimate = torch.stack([found[:, s, t] for s, t in places])
        assert torch.allclose(estimate, exact, atol=2e-4 * float(exact.abs().max()))
    assert exact.abs().max() > 0.1


def test_integrated_gradients_are_the_mean_over_the_path() -> None:
    """With a hand-made path of two points: gradients at the clean prompts and half way, for one edge."""
    net, metric = network("llama"), logit_difference()
    shown = pairs()
    shown.corrupt.inputs["input_ids"][:, -1] += 3  # what is read, so that the direct edge carries something
    wired = wire(net)
    own, other = record(wired, shown.clean), record(wired, shown.corrupt)
    total, slopes = torch.zeros(()), []
    for share in (0.0, 0.5):
        mixed = torch.lerp(own.embeds[0], other.embeds[0], share)
        run = wired.network.run(
            shown.clean, edits=[Patch("edges.embed", mixed)], capture=["edges.final_stream"], logits="last", grad=True
        )
        (slope,) = torch.autograd.grad(metric.read(run.logits, shown).sum(), run["edges.final_stream"])
        slopes.append((slope * (other.embeds[0] - own.embeds[0])).sum() / 2)
        total = total + slopes[-1]
    scores = attribute(wired, shown, metric, steps=2)
    found = scores.per_pair[:, 0, wired.graph.target_index["unembed"]].sum()
    assert (slopes[0] - slopes[1]).abs() > 1e-3  # the points differ, so that which ones are taken shows
    assert torch.allclose(found, total, atol=1e-5)


def test_pairs_of_several_lengths_are_scored_in_parts_as_in_one_piece() -> None:
    net, metric = network("llama"), logit_difference()
    wired, rows = wire(net), []
    for length in (4, 4, 6):
        rows.append(pairs(1, length))
    padded = []
    for side in ("clean", "corrupt"):
        ids = torch.zeros(3, 6, dtype=torch.long)
        for row, each in enumerate(rows):
            given = getattr(each, side).inputs["input_ids"][0]
            ids[row, : len(given)] = given
        padded.append(Batch({"input_ids": ids, "attention_mask": (ids > 0).long()}, ("0", "1", "2"), ids > 0))
    shown = Pairs(*padded, torch.arange(3) + 4, torch.arange(3) + 20)
    reference = record(wired, shown.corrupt)
    whole = attribute(wired, shown, metric, reference=reference)
    parts = attribute(wired, shown, metric, reference=reference, size=2)
    assert whole.per_pair.abs().max() > 1e-2
    assert torch.allclose(parts.per_pair, whole.per_pair, atol=1e-5)


def test_a_saturated_head_is_found_by_patching_where_gradients_see_nothing() -> None:
    net, shown = network("llama"), pairs(count=6)
    with torch.no_grad():
        for layer in cast(Any, net.module).model.layers:
            layer.self_attn.q_proj.weight *= 300
    wired, metric = wire(net), logit_difference()
    edges = [
        edge for edge in wired.graph.edges() if edge.target.startswith("L0") and edge.target.endswith((".q", ".k"))
    ]
    exact = edge_effects(wired, shown, edges, metric).change.abs().mean(1)
    places = [wired.graph.index(edge) for edge in edges]
    estimate = attribute(wired, shown, metric, steps=1).per_pair.abs().mean(0)
    assert max(float(estimate[place]) for place in places) < 0.02 * float(exact.max())
    found = verified(wired, shown, metric, times=6)
    strongest = edges[int(exact.argmax())]
    assert found.exact[wired.graph.index(strongest)]
    assert torch.allclose(found.strength[wired.graph.index(strongest)], exact.max(), rtol=1e-4)
    assert found.cost.total <= 6 * found.estimate.cost.total


def test_the_projection_is_one_on_clean_and_nought_on_corrupted_prompts() -> None:
    net, shown = network("gpt2"), pairs()
    metric = projection(net, shown)
    assert torch.allclose(metric.of(net, shown.clean, shown), torch.ones(3), atol=1e-5)
    assert torch.allclose(metric.of(net, shown.corrupt, shown), torch.zeros(3), atol=1e-5)
    last = shown.part([2])
    assert torch.allclose(metric.of(net, last.clean, last), torch.ones(1), atol=1e-5)


def test_names() -> None:
    graph = wire(network("llama")).graph
    assert graph.sources == ("embed", "L0H0", "L0H1", "L0H2", "L0H3", "L0MLP", "L1H0", "L1H1", "L1H2", "L1H3", "L1MLP")
    assert [t.name for t in graph.targets][:9] == [
        "L0H0.q", "L0H1.q", "L0H2.q", "L0H3.q", "L0G0.k", "L0G1.k", "L0G0.v", "L0G1.v", "L0MLP",
    ]  # fmt: skip
    assert graph.count == 8 + 5 + 8 * 6 + 10 + 11
    assert owners("L3G1.k", 2) == ("L3H2", "L3H3")
    assert owners("L3H1.q") == ("L3H1",)
    assert owners("L3MLP") == ("L3MLP",)
    assert owners("unembed") == ()
    parallel = wire(network("gpt_neox")).graph
    assert not parallel.mask([]).any()
    assert not parallel.possible[parallel.source_index["L0H0"], parallel.target_index["L0MLP"]]


def test_what_cannot_be_asked_is_refused_in_a_sentence() -> None:
    shown = pairs()
    with pytest.raises(BadInput, match="equal length"):
        Pairs(shown.clean, batch(torch.ones(3, 5, dtype=torch.long)))
    for name in ("bert", "gemma2"):
        with pytest.raises(NotTestable, match="norm behind"):
            wire(network(name))
    wired = wire(network("llama"))
    with pytest.raises(BadInput, match="none between these two"):
        wired.graph.index(Edge("L1H0", "L0MLP"))
    with pytest.raises(BadInput, match="sources"):
        run_edges(wired, shown, torch.ones(2, 2), record(wired, shown.corrupt))
    with pytest.raises(BadInput, match="at least 1"):
        attribute(wired, shown, logit_difference(), steps=0)
