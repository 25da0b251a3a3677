"""Kernels between sites against arithmetic by hand and against Jacobians of the modules themselves."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cutaway.circuits import kernel
from cutaway.circuits.paths.composition import Convolution, LinearMap, convolved, identity
from cutaway.circuits.paths.probing import noise
from cutaway.circuits.paths.trace import trace
from cutaway.errors import BadInput, NotTestable
from cutaway.networks import wrap
from cutaway.networks.network import fingerprint_of
from tests.circuits.tiny import Arithmetic, Branches, Functional, Hidden, Inverted, jacobian, seeded, wrapped
from tests.networks.tiny import hook_count


def test_a_direct_kernel_is_the_convolutions_weight():
    net = wrapped(
        seeded(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.ReLU()))
    )
    found = kernel(net, "1", "3")
    assert torch.equal(found.values, net.module[2].weight)
    assert torch.equal(found.bias, net.module[2].bias)
    assert (found.how, found.exact, found.through, found.left_out) == ("direct", True, ("3",), ())
    assert (found.stride, found.offset) == ((2, 2), (-1, -1))
    assert found.check < 1e-5


def test_a_rectifier_or_a_pool_before_the_weights_makes_them_inexact():
    net = wrapped(seeded(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3))))
    pooled = kernel(net, "1", "3")
    assert torch.equal(pooled.values, net.module[3].weight)
    assert (pooled.how, pooled.exact, pooled.through) == ("direct", False, ("2",))
    assert kernel(net, "0", "3").through == ("1", "2")
    assert kernel(net, "2", "3").exact


def test_batch_normalization_is_folded():
    conv, norm = nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)
    module = seeded(nn.Sequential(nn.Conv2d(2, 2, 1), conv, norm)).eval()
    found = kernel(wrapped(module), "0", "2")
    x = torch.randn(2, 2, 9, 9)
    folded = functional.conv2d(x, found.values, found.bias, padding=1)
    assert torch.allclose(folded, norm(conv(x)), atol=1e-5)
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # type: ignore[operator]
    assert torch.allclose(found.values, conv.weight * scale[:, None, None, None], atol=1e-6)
    assert found.exact and found.through == ("2",)


def test_normalization_by_the_batch_is_refused():
    net = wrapped(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)))
    with pytest.raises(NotTestable, match="normalizes by its batch"):
        kernel(net, "0", "2")


def test_two_convolutions_multiply_out_by_hand():
    # On one row: (a, b) after (c, d) is (ac, ad + bc, bd).
    first = identity(1, torch.zeros(1))
    for taps in ([[[[2.0, 3.0]]]], [[[[5.0, 7.0]]]]):
        first = convolved(first, Convolution(torch.tensor(taps), None, (1, 1), (0, 0), (1, 1), 1))
    assert first.values.tolist() == [[[[10.0, 29.0, 21.0]]]]


@pytest.mark.parametrize(
    "parts",
    [
        [nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2)],
        [nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Conv2d(3, 4, 3, padding=1)],
        [nn.Conv2d(2, 3, 3, dilation=2, padding=2), nn.Conv2d(3, 4, 3, stride=2)],
        [nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 2, 1)],
        [nn.Conv2d(2, 4, (1, 3), padding="same"), nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)],
        [nn.Conv2d(2, 4, 3), nn.AvgPool2d(2), nn.Conv2d(4, 3, 3)],
    ],
    ids=["plain", "stride", "dilation", "groups", "multiplier", "average pool"],
)
def test_virtual_weights_are_the_jacobian_of_the_linear_path(parts):
    linear = seeded(nn.Sequential(*parts)).eval()
    net = wrapped(nn.Sequential(nn.Conv2d(2, 2, 1), *linear))
    found = kernel(net, "0", str(len(parts)))
    assert (found.how, found.exact) == ("virtual", True)
    place = (4, 4)
    whole = jacobian(linear, 2, 32, place)
    top, left = (at * step + first for at, step, first in zip(place, found.stride, found.offset))
    rows, columns = found.values.shape[-2:]
    inside = whole[..., top : top + rows, left : left + columns]
    assert torch.allclose(inside, found.values, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))
    assert float(whole.square().sum()) == pytest.approx(float(inside.square().sum()), rel=1e-6)
    at_zero = linear(torch.zeros(1, 2, 32, 32))[0, :, place[0], place[1]].detach()
    assert torch.allclose(found.bias, at_zero, rtol=1e-4, atol=1e-4 * float(at_zero.abs().max()))


def test_functional_rectifiers_and_residual_sums_are_seen():
    module = seeded(Functional())
    net = wrapped(module)
    path = trace(net, net.site("first"), net.site("third"), net.prepare(noise(net, 32)))
    assert path is not None
    assert [call.name for call in path.calls] == ["relu", "conv2d", "add", "relu", "max_pool2d", "conv2d"]
    with pytest.raises(NotTestable, match="The pool max_pool2d lies between convolutions"):
        kernel(net, "first", "third")


def test_what_is_between_two_sites_is_named_also_where_it_is_no_module():
    net = wrapped(seeded(Functional()))
    found = kernel(net, "first", "second")
    assert found.through == ("relu",) and not found.exact
    assert torch.equal(found.values, net.module.second.weight)


def test_block_kernel_of_an_inverted_residual():
    module = nn.Sequential(nn.Conv2d(2, 3, 1), Inverted(3, 6), nn.Identity())
    net = wrapped(seeded(module))
    found = kernel(net, "0", "2")
    assert (found.how, found.exact) == ("effective", False)

    def folded(part: nn.Sequential) -> torch.Tensor:
        norm = part[1]
        return part[0].weight * (norm.weight / torch.sqrt(norm.running_var + norm.eps))[:, None, None, None]

    block = module[1]
    w1, k, w2 = (folded(part) for part in (block.expand, block.depthwise, block.project))
    by_hand = torch.einsum("om,mdx,mc->ocdx", w2[..., 0, 0], k[:, 0], w1[..., 0, 0])
    by_hand[:, :, 1, 1] += torch.eye(3)
    assert torch.allclose(found.values, by_hand, atol=1e-5)
    assert {"1.expand.2", "1.depthwise.2"} <= set(found.through)


def test_gates_weigh_hidden_units():
    net = wrapped(seeded(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1))))
    rates = torch.tensor([0.5, 0.0, 1.0])
    found = kernel(net, "0", "3", gates={"2": rates})
    w1, w2 = net.module[1].weight[..., 0, 0], net.module[3].weight[..., 0, 0]
    assert torch.allclose(found.values[..., 0, 0], w2 @ torch.diag(rates) @ w1, atol=1e-6)


def test_virtual_weights_across_a_skip_leave_out_the_block_between():
    module = nn.Sequential(nn.Conv2d(2, 3, 1), Inverted(3, 6), Inverted(3, 6), Inverted(3, 6))
    net = wrapped(seeded(module))
    found = kernel(net, "1.depthwise.2", "3.expand.2")
    assert (found.how, found.exact) == ("virtual", True)
    assert found.left_out == ("2.expand.2", "2.depthwise.2")

    # The Jacobian of the network from hidden unit to hidden unit, the block between replaced by its skip.
    def rest(hidden: torch.Tensor) -> torch.Tensor:
        return module[3].expand[:2](module[1].project(hidden))

    whole = torch.autograd.functional.jacobian(rest, torch.randn(1, 6, 1, 1))[0, :, 0, 0, 0, :, 0, 0]
    assert torch.allclose(found.values[..., 0, 0], whole, atol=1e-5)


def test_which_paths_are_counted_can_be_chosen():
    module = nn.Sequential(nn.Conv2d(2, 3, 1), Inverted(3, 6), nn.Identity())
    net = wrapped(seeded(module))
    skip = kernel(net, "0", "2", paths="linear")
    assert torch.equal(skip.values[..., 0, 0], torch.eye(3))
    assert skip.exact and skip.left_out
    chain = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1))
    with pytest.raises(BadInput, match="without a nonlinearity"):
        kernel(wrapped(seeded(chain)), "0", "3", paths="linear")


def test_depthwise_kernels_are_dense_with_zeros():
    net = wrapped(seeded(nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 3, groups=3, padding=1))))
    found = kernel(net, "0", "1")
    assert found.how == "depthwise" and found.values.shape == (3, 3, 3, 3)
    assert torch.equal(found.values[range(3), range(3)], net.module[1].weight[:, 0])
    assert float(found.values.abs().sum()) == pytest.approx(float(net.module[1].weight.detach().abs().sum()))


def test_joined_branches_each_have_their_channels():
    module = seeded(Branches())
    found = kernel(wrapped(module), "stem", "joined")
    assert found.values.shape == (8, 3, 5, 5) and not found.exact
    assert torch.equal(found.values[0:2, :, 2, 2], module.one.weight[..., 0, 0])
    assert torch.equal(found.values[2:4, :, 1:4, 1:4], module.three.weight)
    # Behind the stride-1 pool the 1x1 weight is repeated over the pool's window.
    assert torch.equal(found.values[4:6, :, 1:4, 1:4], module.pooled.weight.expand(-1, -1, 3, 3))
    assert torch.equal(found.values[6:8, :, ::2, ::2], module.wide.weight)
    assert float(found.values[6:8, :, 1::2].abs().sum()) == 0


def test_no_path_is_one_sentence():
    net = wrapped(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3)))
    with pytest.raises(BadInput, match="no path leads there; the first site must come before the second"):
        kernel(net, "2", "0")
    with pytest.raises(BadInput, match="to itself"):
        kernel(net, "1", "1")


def test_a_pool_between_convolutions_is_not_one_kernel():
    net = wrapped(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3)))
    with pytest.raises(NotTestable, match="The pool 2 lies between convolutions"):
        kernel(net, "0", "3")


def test_sites_that_are_no_maps_are_not_testable():
    net = wrapped(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.LazyLinear(2)))
    with pytest.raises(NotTestable, match="'batch unit'"):
        kernel(net, "0", "2")
    vectors = wrap(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), example=torch.zeros(1, 4))
    with pytest.raises(NotTestable, match="Weights between feature maps were asked for; 1 of sequential"):
        kernel(vectors, "1", "2")


def test_a_kernel_that_disagrees_with_the_jacobian_is_never_returned(monkeypatch):
    net = wrapped(seeded(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 3))))
    monkeypatch.setattr(
        "cutaway.circuits.weights.compose",
        lambda path, gates: LinearMap(net.module[1].weight.detach().flip(-1), net.module[1].bias.detach()),
    )
    with pytest.raises(NotTestable, match="differs from the path's Jacobian"):
        kernel(net, "0", "1")


def test_the_module_is_left_untouched():
    module = seeded(nn.Sequential(nn.Conv2d(2, 3, 1), Inverted(3, 6), nn.Identity()))
    net = wrapped(module)
    before, modes = net.fingerprint, [part.training for part in module.modules()]
    kernel(net, "0", "2")
    with pytest.raises(BadInput):
        kernel(net, "2", "0")
    assert hook_count(module) == 0
    assert fingerprint_of(module) == before
    assert [part.training for part in module.modules()] == modes
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.zoo
def test_the_edge_detectors_readouts_are_exact(zoo):
    hed = zoo("vgg16-hed")
    side = kernel(hed, "conv3_3", "side3")
    assert side.exact and torch.equal(side.values, hed.module.side3.weight)
    fused = kernel(hed, "conv3_3", "edges")
    assert fused.exact and fused.resampled and "side3_up" in fused.through and "pool3" in fused.left_out
    assert torch.allclose(fused.values, hed.module.side3.weight * hed.module.fuse.weight[0, 2], atol=1e-7)
    pooled = kernel(hed, "conv2_2", "conv3_1")
    assert torch.equal(pooled.values, hed.module.conv3_1.weight) and pooled.through == ("pool2", "relu3_1")


@pytest.mark.zoo
def test_virtual_weights_of_the_classifiers_hidden_units(zoo):
    lite = zoo("efficientnet-lite0")
    found = kernel(lite, "blocks.5.depthwise.act", "blocks.7.expand.act")
    assert found.exact and found.left_out == ("blocks.6.expand.act", "blocks.6.depthwise.act")
    blocks = lite.module.blocks
    hidden = torch.randn(1, 240, 1, 1)
    with torch.no_grad():
        zero, one = (blocks[7].expand.norm(blocks[7].expand.conv(blocks[5].project(h))) for h in (0 * hidden, hidden))
    predicted = found.values[..., 0, 0] @ hidden[0, :, 0, 0]
    assert torch.allclose((one - zero)[0, :, 0, 0], predicted, rtol=1e-3, atol=1e-4)
    strided = kernel(lite, "blocks.2", "blocks.3")
    assert strided.how == "effective" and strided.stride == (2, 2) and strided.values.shape == (40, 24, 5, 5)


def test_arithmetic_outside_of_modules():
    module = seeded(Arithmetic())
    found = kernel(wrapped(module), "stem", "end")
    by_hand = torch.zeros(2, 3, 3, 3)
    by_hand += 2 * module.one.weight.detach()
    by_hand[:, :, 1, 1] -= (module.two.weight / module.scale[..., None]).detach()[..., 0, 0]
    assert torch.allclose(found.values, by_hand, atol=1e-5) and found.exact


def test_a_network_that_hides_its_work_is_refused():
    with pytest.raises(NotTestable, match="hides part of its computation"):
        kernel(wrapped(seeded(Hidden())), "stem", "end")


def test_a_replay_leaves_its_input_as_it_was():
    net = wrapped(seeded(nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 1))))
    path = trace(net, net.site("0"), net.site("2"), net.prepare(noise(net, 16)))
    assert path is not None and path.calls[0].in_place
    x = torch.randn(1, 3, 16, 16)
    kept = x.clone()
    assert torch.equal(path.replay(x), net.module[2](kept.relu()))
    assert torch.equal(x, kept)
