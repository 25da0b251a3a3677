"""The contract of every family: names cover the parts, captures change nothing, no hook survives."""

import pytest
import torch

import cutaway
from cutaway.errors import BadInput
from tests.networks.tiny import TRANSFORMERS, hook_count, transformer, vit

IDS = torch.randint(0, 50, (3, 7), generator=torch.Generator().manual_seed(0))


def bare_output(module: torch.nn.Module) -> torch.Tensor:
    options = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    with torch.no_grad():
        raw = module(**options) if "Bert" in type(module).__name__ else module(**options, use_cache=False)
    return raw.logits if hasattr(raw, "logits") else raw.last_hidden_state


@pytest.fixture(params=TRANSFORMERS)
def network(request: pytest.FixtureRequest) -> cutaway.Network:
    return cutaway.wrap(transformer(request.param), name=request.param)


def test_pass_through_capture_of_every_site_is_bit_identical(network: cutaway.Network) -> None:
    bare = bare_output(network.module)
    run = network.run(IDS, capture=[site.name for site in network.sites()])
    assert torch.equal(run.logits, bare)


def test_sites_have_the_widths_and_layouts_that_they_claim(network: cutaway.Network) -> None:
    run = network.run(IDS, capture=[site.name for site in network.sites()])
    for site in network.sites():
        assert run[site.name].ndim == len(site.layout.split()), site.name
        if site.width is not None:
            assert run[site.name].shape[site.unit_axis] == site.width, site.name


def test_every_kind_of_site_is_there(network: cutaway.Network) -> None:
    kinds = {site.kind for site in network.sites()}
    assert {
        "embed",
        "query",
        "key",
        "value",
        "pattern",
        "heads",
        "attn_out",
        "mlp",
        "mlp_out",
        "resid",
    } <= kinds


def test_pattern_equals_the_eager_one(network: cutaway.Network) -> None:
    module = network.module
    seen = network.run(IDS, capture=["layers.0.attn.pattern", "layers.1.attn.pattern"])
    original = module.config._attn_implementation
    module.set_attn_implementation("eager")
    with torch.no_grad():
        eager = module(input_ids=IDS, attention_mask=torch.ones_like(IDS), output_attentions=True).attentions
    module.set_attn_implementation(original)
    for layer in range(2):
        torch.testing.assert_close(seen[f"layers.{layer}.attn.pattern"], eager[layer], atol=1e-6, rtol=1e-5)


def test_attention_patched_with_its_own_pattern_gives_the_same_output(network: cutaway.Network) -> None:
    clean = network.run(IDS, capture=["layers.1.attn.pattern"])
    patched = network.run(IDS, edits=[cutaway.Patch("layers.1.attn.pattern", clean["layers.1.attn.pattern"])])
    torch.testing.assert_close(patched.logits, clean.logits, atol=1e-5, rtol=1e-5)


def test_zeroed_pattern_is_the_same_as_zeroed_heads(network: cutaway.Network) -> None:
    by_pattern = network.run(IDS, edits=[cutaway.Ablate("layers.0.attn.pattern", [2], to="zero")])
    by_head = network.run(IDS, edits=[cutaway.Ablate("layers.0.attn.heads", [2], to="zero")])
    torch.testing.assert_close(by_pattern.logits, by_head.logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(by_head.logits, network.run(IDS).logits, atol=1e-4)


def test_residual_stream_is_the_sum_of_its_parts() -> None:
    for name in ("llama", "gemma2", "gpt2", "gpt_neox"):
        network = cutaway.wrap(transformer(name))
        parts = ["embed", "layers.0.attn_out", "layers.0.mlp_out", "layers.0.resid"]
        run = network.run(IDS, capture=parts)
        total = run["embed"] + run["layers.0.attn_out"] + run["layers.0.mlp_out"]
        torch.testing.assert_close(total, run["layers.0.resid"], atol=1e-5, rtol=1e-4)


def test_no_hook_and_no_attention_setting_survives(network: cutaway.Network) -> None:
    module = network.module
    before = hook_count(module), module.config._attn_implementation
    everything = [site.name for site in network.sites()]
    network.run(IDS, capture=everything)
    network.run(IDS, capture=everything, grad=True)
    network.run(IDS, capture=["layers.0.attn.pattern"], stop_at=True)

    def fails(_tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("in the middle of a pass")

    for site in ("layers.0.attn.pattern", "layers.1.mlp", "layers.1.resid"):
        with pytest.raises(RuntimeError, match="middle"):
            network.run(IDS, capture=everything, edits=[cutaway.Replace(site, fails)])
    with pytest.raises(BadInput):
        network.run(IDS, edits=[cutaway.Ablate("layers.0.attn.heads", [99])])
    assert (hook_count(module), module.config._attn_implementation) == before


def test_gradients_reach_heads_patterns_and_hidden_units(network: cutaway.Network) -> None:
    sites = ["layers.0.attn.heads", "layers.0.attn.pattern", "layers.0.mlp", "layers.0.resid"]
    run = network.run(IDS, capture=sites, grad=True)
    weight = torch.linspace(-1, 1, run.logits.numel()).reshape(run.logits.shape)
    gradients = torch.autograd.grad((run.logits * weight).sum(), [run[site] for site in sites])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_gradient_of_a_pattern_predicts_a_small_patch() -> None:
    network = cutaway.wrap(transformer("gpt2").double())  # its norms stay in double precision
    site = "layers.0.attn.pattern"
    run = network.run(IDS, capture=[site], grad=True)
    (gradient,) = torch.autograd.grad(run.logits[..., 3].sum(), [run[site]])
    step = 1e-5 * torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = network.run(IDS, edits=[cutaway.Patch(site, run[site].detach() + step)])
    predicted = (gradient * step).sum()
    torch.testing.assert_close(moved.logits[..., 3].sum() - run.logits[..., 3].sum(), predicted, rtol=1e-3, atol=1e-12)


def test_last_logits_are_the_last_real_tokens() -> None:
    for name in ("llama", "gpt2", "gemma2"):
        network = cutaway.wrap(transformer(name))
        mask = torch.ones_like(IDS)
        mask[0, 5:] = 0
        batch = network.prepare({"input_ids": IDS, "attention_mask": mask})
        everywhere = network.run(batch).logits
        last = network.run(batch, logits="last").logits
        assert batch.last.tolist() == [4, 6, 6]
        torch.testing.assert_close(last[:, 0], everywhere[torch.arange(3), batch.last], atol=1e-6, rtol=1e-5)


def test_padding_does_not_change_what_comes_before_it() -> None:
    network = cutaway.wrap(transformer("llama"))
    mask = torch.ones_like(IDS)
    mask[0, 5:] = 0
    padded = network.run({"input_ids": IDS, "attention_mask": mask}, capture=["layers.1.attn.pattern"])
    alone = network.run(IDS[:1, :5], capture=["layers.1.attn.pattern"])
    torch.testing.assert_close(padded.logits[0, :5], alone.logits[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        padded["layers.1.attn.pattern"][0, :, :5, :5], alone["layers.1.attn.pattern"][0], atol=1e-6, rtol=1e-4
    )


def test_vision_transformer() -> None:
    network = cutaway.wrap(vit())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        bare = network.module(pixel_values=images).logits
    run = network.run(images, capture=[site.name for site in network.sites()])
    assert (network.family, network.task, network.modality) == ("vit", "classifier", "image")
    assert torch.equal(run.logits, bare)
    assert run["layers.0.attn.pattern"].shape == (2, 4, 17, 17)
