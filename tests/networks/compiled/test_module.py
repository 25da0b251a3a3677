"""The module: arithmetic against a plain loop, captures that change nothing, padding that nobody sees."""

import math

import pytest
import torch

import cutaway
from cutaway.errors import BadInput
from cutaway.networks.anatomy import anatomy, output_weight, projection_weight
from cutaway.networks.compiled import CompiledTransformer, run_parts
from tests.networks.compiled.helpers import random_module
from tests.networks.tiny import hook_count

IDS = torch.tensor([[3, 0, 1, 2, 0], [3, 2, 2, 1, 1]])
VARIANTS = {
    "plain": {},
    "both-ways": {"causal": False},
    "attention-only": {"mlp_hidden": 0},
    "norms": {"layer_norm": True},
    "norms-attention-only": {"layer_norm": True, "mlp_hidden": 0},
}


@pytest.fixture(params=VARIANTS)
def network(request: pytest.FixtureRequest) -> cutaway.Network:
    return cutaway.wrap(random_module(**VARIANTS[request.param]))


def by_hand(module: CompiledTransformer, ids: list[int]) -> torch.Tensor:
    """One input, with loops over heads and positions; no norms."""
    stream = [module.token_embed.weight[token] + module.pos_embed.weight[place] for place, token in enumerate(ids)]
    for layer in module.layers:
        attention, added = layer.attn, [layer.attn.linear.bias.clone() for _ in ids]
        for head in range(attention.num_heads):
            rows = slice(head * attention.key_size, (head + 1) * attention.key_size)
            q, k, v = (
                [part.weight[rows] @ x + part.bias[rows] for x in stream]
                for part in (attention.query, attention.key, attention.value)
            )
            for place in range(len(ids)):
                seen = range(place + 1) if module.spec.causal else range(len(ids))
                weights = torch.stack([q[place] @ k[j] / math.sqrt(attention.key_size) for j in seen]).exp()
                mixed = sum(weight * v[j] for weight, j in zip(weights / weights.sum(), seen))
                added[place] += attention.linear.weight[:, rows] @ mixed
        stream = [x + add for x, add in zip(stream, added)]
        if module.spec.mlp_hidden:
            up, down = layer.mlp.linear_1, layer.mlp.linear_2
            stream = [x + down.weight @ (up.weight @ x + up.bias).clamp(min=0) + down.bias for x in stream]
    return torch.stack([module.unembed.weight @ x for x in stream])


@pytest.mark.parametrize("name", ["plain", "both-ways", "attention-only"])
def test_the_forward_pass_is_the_one_done_by_hand(name: str) -> None:
    module = random_module(**VARIANTS[name])
    with torch.no_grad():
        torch.testing.assert_close(module(IDS)[0], by_hand(module, IDS[0].tolist()), atol=1e-5, rtol=1e-4)


def test_pass_through_capture_of_every_site_is_bit_identical(network: cutaway.Network) -> None:
    with torch.no_grad():
        bare = network.module(IDS)
    run = network.run(IDS, capture=[site.name for site in network.sites()])
    assert torch.equal(run.logits, bare)
    assert torch.equal(run["logits"], bare)


def test_sites_have_the_widths_and_layouts_that_they_claim(network: cutaway.Network) -> None:
    run = network.run(IDS, capture=[site.name for site in network.sites()])
    for site in network.sites():
        assert run[site.name].ndim == len(site.layout.split()), site.name
        assert run[site.name].shape[site.unit_axis] == site.width, site.name
    assert run["layers.1.attn.q"].shape == run["layers.1.attn.v"].shape == (2, 3, 5, 4)
    assert run["layers.1.attn.pattern"].shape == (2, 3, 5, 5)
    assert run["layers.1.attn.heads"].shape == (2, 5, 3, 4)


def test_patterns_are_probabilities_that_make_the_heads(network: cutaway.Network) -> None:
    run = network.run(IDS, capture=["layers.0.attn.pattern", "layers.0.attn.v", "layers.0.attn.heads"])
    pattern = run["layers.0.attn.pattern"]
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 3, 5))
    assert bool((pattern.triu(1) == 0).all()) == network.module.spec.causal
    torch.testing.assert_close((pattern @ run["layers.0.attn.v"]).transpose(1, 2), run["layers.0.attn.heads"])


def test_the_stream_is_the_sum_of_what_its_sites_add(network: cutaway.Network) -> None:
    added = [
        site.name for site in network.sites() if site.kind in ("embed", "attn_out", "mlp_out") and "1." not in site.name
    ]
    run = network.run(IDS, capture=[*added, "layers.0.resid"])
    assert {"embed", "pos_embed", "layers.0.attn_out"} <= set(added)
    torch.testing.assert_close(sum(run[name] for name in added), run["layers.0.resid"], atol=1e-5, rtol=1e-4)


def test_edits_reach_queries_patterns_and_positions(network: cutaway.Network) -> None:
    clean = network.run(IDS).logits
    for site in ("layers.0.attn.q", "layers.1.attn.pattern", "layers.0.attn.heads", "pos_embed"):
        edited = network.run(IDS, edits=[cutaway.Ablate(site, to="zero")]).logits
        assert not torch.allclose(edited, clean, atol=1e-4), site
    by_pattern = network.run(IDS, edits=[cutaway.Ablate("layers.0.attn.pattern", [1], to="zero")]).logits
    by_head = network.run(IDS, edits=[cutaway.Ablate("layers.0.attn.heads", [1], to="zero")]).logits
    torch.testing.assert_close(by_pattern, by_head)


def test_no_hook_survives_and_gradients_reach_every_site(network: cutaway.Network) -> None:
    before = hook_count(network.module)
    sites = [site.name for site in network.sites()]
    run = network.run(IDS, capture=sites, grad=True)
    weight = torch.linspace(-1, 1, run.logits.numel()).reshape(run.logits.shape)
    gradients = torch.autograd.grad((run.logits * weight).sum(), [run[site] for site in sites])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    network.run(IDS, capture=["layers.0.attn.pattern"], stop_at=True)
    assert hook_count(network.module) == before


def test_padding_is_seen_by_nobody() -> None:
    module = random_module(causal=False)
    network = cutaway.wrap(module, tokenizer=module.spec.vocabulary)
    together = network.run(["a b", "c a b c"]).logits
    alone = network.run(["a b"]).logits
    torch.testing.assert_close(together[0, :3], alone[0], atol=1e-6, rtol=1e-5)
    last = network.run(["a b", "c a b c"], logits="last").logits
    assert torch.equal(last[:, 0], torch.stack([together[0, 2], together[1, 4]]))


def test_too_long_an_input_is_one_sentence() -> None:
    module = random_module()
    with pytest.raises(BadInput, match="8 tokens were given; random takes BOS and up to 6 more"):
        cutaway.wrap(module).run(torch.zeros(1, 8, dtype=torch.long))
    with pytest.raises(BadInput, match="tokens 0 to 3"):
        cutaway.wrap(module).run(torch.tensor([[9]]))


def test_the_sum_over_parts_is_the_module(network: cutaway.Network) -> None:
    with torch.no_grad():
        parts = run_parts(network.module, IDS)
        torch.testing.assert_close(parts.logits, network.module(IDS), atol=1e-5, rtol=1e-4)


def test_the_anatomy_names_the_parts_that_compute_the_heads(network: cutaway.Network) -> None:
    found = anatomy(network)
    assert [name for name, _ in found.embeds] == ["embed", "pos_embed"]
    assert found.pre_norm and found.causal == network.module.spec.causal
    assert len(found.layers) == 2 and found.width == 12
    assert (found.layers[0].mlp is None) == (network.module.spec.mlp_hidden == 0)
    layer = found.layers[0]
    run = network.run(
        IDS, capture=["embed", "pos_embed", "layers.0.attn.q", "layers.0.attn.heads", "layers.0.attn_out"]
    )
    stream = run["embed"] + run["pos_embed"]
    if layer.attn_norm is not None:
        stream = network.module.get_submodule(layer.attn_norm)(stream)
    weight, bias = projection_weight(network, layer.query)
    queries = torch.einsum("bpd,hkd->bhpk", stream, weight) + bias[:, None]
    torch.testing.assert_close(queries, run["layers.0.attn.q"], atol=1e-5, rtol=1e-4)
    written = torch.einsum("bphk,hdk->bpd", run["layers.0.attn.heads"], output_weight(network, layer))
    written = written + network.module.get_submodule(layer.out).bias
    torch.testing.assert_close(written, run["layers.0.attn_out"], atol=1e-5, rtol=1e-4)
