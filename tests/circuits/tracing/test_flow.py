"""What flows in flows out: conservation, a case by hand, and where errors must and must not appear."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

from cutaway.circuits.tracing.neurons import Mlp
from cutaway.circuits.tracing.nodes import ATTENTION, BIAS, EMBED, ERROR, LEAVES, PARTS
from cutaway.networks import Network
from tests.circuits.tracing.worlds import IDS, World, plain_network, random_network, world

ARCHITECTURES = ("llama", "gpt2", "gpt_neox", "qwen2", "gemma")
CONSERVED = 1e-4  # logits


def marked(found: World, *kinds: str) -> np.ndarray:
    return np.array([node.kind in kinds for node in found.pool.nodes])


def check_conserved(found: World) -> None:
    values, shares = found.links.values.astype(np.float64), found.links.shares
    inner, last = marked(found, *PARTS), found.index("output")
    scale = max(1.0, float(np.abs(values).max()))
    assert values[last].sum() == pytest.approx(found.metric, abs=CONSERVED * scale)
    assert np.allclose(values[inner].sum(1), shares[inner], atol=CONSERVED * scale)  # in
    assert np.allclose(values[:, inner].sum(0), shares[inner], atol=CONSERVED * scale)  # out
    assert not values[marked(found, *LEAVES)].any()
    assert found.links.gap < CONSERVED * scale
    assert np.abs(shares[inner]).max() > 1e-3 * abs(found.metric)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("baseline", ["text", "zero", "corrupt"])
def test_every_share_comes_in_and_goes_out(name: str, baseline: str) -> None:
    check_conserved(world(random_network(name), IDS, baseline=baseline, size=6))


@pytest.mark.parametrize("against", [None, 20])
def test_the_metric_is_the_networks_own(against: int | None) -> None:
    network = random_network("llama")
    logits = network.run(network.prepare(IDS)).logits[0, -1].double()
    expected = logits[4] - (logits.mean() if against is None else logits[against])
    assert world(network, IDS, against=against).metric == pytest.approx(float(expected), abs=1e-5)


def test_a_compiled_program_with_two_tables_of_embeddings() -> None:
    import cutaway

    network = cutaway.load("compiled:reverse")
    ids = torch.tensor([network.tokenizer.encode("a b b c")])
    found = world(network, ids, 0, 1, baseline="zero", size=1000)
    check_conserved(found)
    assert {node.name.split("@")[0] for node in found.pool.nodes if node.kind == EMBED} == {"embed", "pos_embed"}


def one_layer() -> tuple[Network, torch.Tensor, dict[str, torch.Tensor]]:
    network = plain_network(width=4)
    return network, torch.tensor([[4, 0, 2]]), {k: v.double() for k, v in network.module.state_dict().items()}


def test_one_layer_of_attention_by_hand() -> None:
    """Uniform attention over three tokens: a third of each value; the unembedding's difference reads it."""
    network, ids, w = one_layer()
    found = world(network, ids, 1, 3, baseline="zero", size=100)
    read = w["unembed.weight"][1] - w["unembed.weight"][3]
    through = read @ w["layers.0.attn.linear.weight"] @ w["layers.0.attn.value.weight"]
    for place, token in enumerate(ids[0].tolist()):
        expected = float(through @ w["token_embed.weight"][token]) / 3
        assert found.edge(f"embed@{place}", "L0H0@2") == pytest.approx(expected, abs=1e-6)
        expected = float(through @ w["pos_embed.weight"][place]) / 3
        assert found.edge(f"pos_embed@{place}", "L0H0@2") == pytest.approx(expected, abs=1e-6)
    direct = float(read @ w["token_embed.weight"][2])
    assert found.edge("embed@2", "output") == pytest.approx(direct, abs=1e-6)
    assert found.edge("embed@1", "output") == 0.0
    value_bias = float(read @ w["layers.0.attn.linear.weight"] @ w["layers.0.attn.value.bias"])
    assert found.edge(BIAS, "L0H0@2") == pytest.approx(value_bias, abs=1e-6)
    assert found.edge(BIAS, "output") == pytest.approx(float(read @ w["layers.0.attn.linear.bias"]), abs=1e-6)
    assert found.edge("L0H0@2", "output") == pytest.approx(float(found.flow.heads[0][0, 2]), abs=1e-6)


def test_relu_needs_no_error_and_gelu_and_gates_do() -> None:
    relu = world(plain_network(layers=2, hidden=6), torch.tensor([[4, 0, 2]]), 1, 3, baseline="zero", size=100)
    assert np.abs(relu.links.values[:, marked(relu, ERROR)]).max() < 1e-6
    assert any(node.kind == "neuron" and abs(node.value) > 1e-2 for node in relu.pool.nodes)
    for name in ("gpt2", "llama"):
        bent = world(random_network(name), IDS, baseline="zero")
        assert np.abs(bent.links.values[:, marked(bent, ERROR)]).max() > 1e-3


def test_the_error_of_a_gate_by_hand() -> None:
    """h = silu(a) b has the tangent silu'(a) a b + silu(a) b at the point itself, so the error is -silu'(a) a b."""
    network = random_network("llama")
    found = world(network, IDS, baseline="zero", size=40)
    given = network.run(network.prepare(IDS), capture=["layers.1.resid_mid"])["layers.1.resid_mid"][0].double()
    mlp = network.module.get_submodule("model.layers.1.mlp").double()
    norm = network.module.get_submodule("model.layers.1.post_attention_layernorm")
    normed = norm.weight.double() * given * torch.rsqrt(given.square().mean(-1, keepdim=True) + norm.variance_epsilon)
    checked = 0
    for node in found.pool.nodes:
        if node.kind == "neuron" and node.layer == 1:
            a = (normed[node.position] @ mlp.gate_proj.weight[node.index]).detach()
            b = (normed[node.position] @ mlp.up_proj.weight[node.index]).detach()
            slope = torch.sigmoid(a) * (1 + a * (1 - torch.sigmoid(a)))
            expected = node.value * float(-slope * a * b / (torch.nn.functional.silu(a) * b))
            assert found.edge(f"L1error@{node.position}", node.name) == pytest.approx(expected, rel=1e-3, abs=1e-5)
            checked += 1
    assert checked > 2


def test_attention_that_looks_elsewhere_is_a_leaf_of_its_own() -> None:
    """Uniform attention cannot look elsewhere; attention that depends on the prompt does."""
    for linear, least in ((True, 0.0), (False, 1e-3)):
        network = plain_network(layers=2, linear=linear)
        found = world(network, torch.tensor([[4, 0, 2, 1]]), 1, 3, baseline="text", size=100)
        largest = np.abs(found.links.values[:, marked(found, ATTENTION)]).max()
        assert largest < 1e-6 if linear else largest > least


def test_slopes_on_the_way_from_the_baseline_give_the_whole_difference() -> None:
    network = random_network("llama", spread=0.5)
    found = world(network, IDS, baseline="corrupt")
    mlp, stream, base = Mlp.of(found.body, 1), found.seen.mids[1], found.held.mids[1]
    assert stream is not None and base is not None
    weights = torch.randn(5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = mlp.pulled(stream, weights, base, steps=200).rows
    scale = torch.rsqrt(stream.square().mean(-1, keepdim=True) + 1e-6)
    gain = network.module.get_submodule("model.layers.1.post_attention_layernorm").weight.detach().double()
    ends = [(mlp.hidden(gain * x * scale) * weights).sum(1) for x in (stream, base)]
    assert torch.allclose((rows * (stream - base)).sum(1), ends[0] - ends[1], rtol=1e-3, atol=1e-5)
    tangent = mlp.pulled(stream, weights, None).rows
    assert not torch.allclose((tangent * (stream - base)).sum(1), ends[0] - ends[1], rtol=1e-2, atol=1e-3)


def test_biases_of_an_mlp_are_a_tangent_in_their_size() -> None:
    network = random_network("gpt2")
    found = world(network, IDS)
    mlp, stream = Mlp.of(found.body, 0), found.seen.mids[0]
    assert stream is not None
    step = 1e-5
    moved = []
    for share in (1 + step, 1 - step):
        state = {k: v * share if k.endswith("bias") else v for k, v in mlp.parameters.items()}
        caught: list[torch.Tensor] = []
        handle = mlp.down.register_forward_pre_hook(lambda _m, inputs, kept=caught: kept.append(inputs[0]))
        norm = network.module.get_submodule("transformer.h.0.ln_2")
        given = torch.nn.functional.layer_norm(stream, (16,), norm.weight.double(), norm.bias.double(), norm.eps)
        functional_call(mlp.module, state, (given[None],))
        handle.remove()
        moved.append(caught[0][0])
    expected = (moved[0] - moved[1]) / (2 * step)
    assert torch.allclose(mlp.from_biases(stream), expected, atol=1e-6)
    assert expected.abs().max() > 0.1
