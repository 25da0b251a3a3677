"""Anatomy and folded maps against what the modules themselves compute, on every tiny architecture."""

import pytest
import torch
import transformers
from torch import nn

import cutaway
from cutaway.errors import NotTestable
from cutaway.networks.anatomy import anatomy, norm_math, output_weight, projection_weight
from cutaway.networks.folded import head_maps, inverse_scale, norm_at, pass_through, read_through, unembedding
from tests.networks.tiny import SIZES, TRANSFORMERS, convnet, transformer

IDS = torch.randint(3, 50, (2, 6), generator=torch.Generator().manual_seed(0))
CLOSE = {"atol": 2e-5, "rtol": 1e-4}  # float32, widths of 16
NAMES = (*TRANSFORMERS, "gpt_neox_sequential", "phi3")


def made(name: str) -> cutaway.Network:
    """A tiny network whose every parameter, biases and gains included, is away from its initial value."""
    if name == "gpt_neox_sequential":
        torch.manual_seed(0)
        module: nn.Module = transformers.GPTNeoXForCausalLM(
            transformers.GPTNeoXConfig(**SIZES, use_parallel_residual=False)
        ).eval()
    elif name == "phi3":
        torch.manual_seed(0)
        sizes = {**SIZES, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        module = transformers.Phi3ForCausalLM(transformers.Phi3Config(**sizes)).eval()
    else:
        module = transformer(name)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return cutaway.wrap(module, name=name)


@pytest.fixture(params=NAMES)
def network(request: pytest.FixtureRequest) -> cutaway.Network:
    return made(request.param)


def seen_by(network: cutaway.Network, path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What goes into a module in a pass, and what comes out."""
    found = []
    handle = network.module.get_submodule(path).register_forward_hook(
        lambda _m, given, out: found.append((given[0], out))
    )
    try:
        network.run(IDS)
    finally:
        handle.remove()
    return found[0]


def test_projections_are_what_the_modules_compute(network: cutaway.Network) -> None:
    layer = anatomy(network).layers[1]
    for projection in (layer.query, layer.key, layer.value):
        given, out = seen_by(network, projection.module)
        weight, bias = projection_weight(network, projection)
        ours = torch.einsum("hrd,btd->bthr", weight, given)
        ours = ours if bias is None else ours + bias
        torch.testing.assert_close(ours, out[..., projection.columns], **CLOSE)


def test_what_heads_write_is_what_the_output_map_computes(network: cutaway.Network) -> None:
    layer = anatomy(network).layers[1]
    given, out = seen_by(network, layer.out)
    ours = torch.einsum("hdr,bthr->btd", output_weight(network, layer), given.unflatten(-1, (layer.heads, -1)))
    bias = getattr(network.module.get_submodule(layer.out), "bias", None)
    torch.testing.assert_close(ours if bias is None else ours + bias, out, **CLOSE)


def test_queries_and_keys_of_the_anatomy_are_in_the_order_of_the_sites() -> None:
    network = made("gpt2")  # no rotation: what attention sees is what the map gives
    layer = anatomy(network).layers[0]
    run = network.run(IDS, capture=["layers.0.attn.q", "layers.0.attn.v"])
    for projection, site in ((layer.query, "q"), (layer.value, "v")):
        _, out = seen_by(network, projection.module)
        torch.testing.assert_close(out[..., projection.columns].transpose(1, 2), run[f"layers.0.attn.{site}"])


def test_norms_are_read_off_as_the_module_computes_them(network: cutaway.Network) -> None:
    for path in (anatomy(network).layers[0].attn_norm, anatomy(network).final_norm):
        if path is None:
            continue
        math = norm_at(network, path)
        assert math is not None
        x = 3 * torch.randn(7, 16) + 2
        ours = pass_through(math, x) * inverse_scale(math, x)[:, None] + (0 if math.bias is None else math.bias)
        torch.testing.assert_close(ours, network.module.get_submodule(path)(x), **CLOSE)


def test_gemma_adds_one_to_its_gain_and_llama_does_not() -> None:
    for name, plus in (("gemma", 1.0), ("gemma2", 1.0), ("llama", 0.0)):
        network = made(name)
        path = anatomy(network).layers[0].attn_norm
        math = norm_at(network, path)
        assert math is not None and not math.centred and math.bias is None
        torch.testing.assert_close(math.gain, network.module.get_submodule(f"{path}").weight + plus, **CLOSE)


def test_gain_and_bias_of_a_layernorm_by_hand() -> None:
    norm = nn.LayerNorm(4, eps=0.5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.0, 3.0]))
        norm.bias.copy_(torch.tensor([100.0, 0.0, -1.0, 0.5]))
    math = norm_math(norm, 4)
    assert math.centred and math.eps == 0.5
    torch.testing.assert_close(math.gain, norm.weight.detach(), atol=2e-5, rtol=1e-5)
    assert math.bias is not None
    torch.testing.assert_close(math.bias, norm.bias.detach(), atol=2e-5, rtol=1e-5)


def test_a_module_that_is_no_norm_is_refused() -> None:
    with pytest.raises(NotTestable, match="neither a LayerNorm nor an RMSNorm"):
        norm_math(nn.Tanh(), 8)


def test_folding_by_hand() -> None:
    norm = nn.LayerNorm(2, eps=0.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 4.0]))
        norm.bias.copy_(torch.tensor([1.0, 3.0]))
    weight, bias = read_through(norm_math(norm, 2), torch.tensor([[1.0, 1.0]]), torch.tensor([5.0]))
    # W diag(gain) = [2, 4], less its mean 3; b + W beta = 5 + 4
    torch.testing.assert_close(weight, torch.tensor([[-1.0, 1.0]]))
    torch.testing.assert_close(bias, torch.tensor([9.0]))


def test_folded_maps_read_the_stream_itself(network: cutaway.Network) -> None:
    layer, maps = anatomy(network).layers[1], head_maps(network, 1)
    stream, _ = seen_by(network, layer.block)
    values = network.run(IDS, capture=["layers.1.attn.v"])["layers.1.attn.v"].repeat_interleave(layer.group, 1)
    scaled = stream * inverse_scale(maps.norm, stream)[..., None]
    ours = torch.einsum("hrd,btd->bhtr", maps.value, scaled) + maps.value_bias[:, None]
    torch.testing.assert_close(ours, values, **CLOSE)


def test_folded_unembedding_gives_the_logits(network: cutaway.Network) -> None:
    body = anatomy(network)
    if body.unembed is None:
        with pytest.raises(NotTestable, match="no unembedding"):
            unembedding(network)
        return
    weight, bias = unembedding(network)
    run = network.run(IDS, capture=["layers.1.resid", "logits"])
    stream = run["layers.1.resid"]
    scaled = stream * inverse_scale(norm_at(network, body.final_norm), stream)[..., None]
    torch.testing.assert_close(scaled @ weight.T + bias, run["logits"], **CLOSE)


def test_networks_without_an_anatomy_say_so() -> None:
    with pytest.raises(NotTestable, match="does not say where a transformer's parts are"):
        anatomy(cutaway.wrap(convnet()))


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(NotTestable, match="layers 0 to 1"):
        head_maps(made("llama"), 2)
