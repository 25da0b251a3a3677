"""run(): captures, stops, gradients and in-place modules on convolutional networks; what goes in as a batch."""

import pytest
import torch
from PIL import Image
from torch import nn

import cutaway
from cutaway.errors import BadInput, UnknownName
from cutaway.networks.network import fingerprint_of
from tests.networks.tiny import convnet, hook_count

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("inplace", [False, True])
def test_capture_before_an_activation_survives_in_place_modules(inplace: bool) -> None:
    network = cutaway.wrap(convnet(inplace))
    run = network.run(IMAGES, capture=["0", "1"])
    assert run["0"].min() < 0
    assert torch.equal(run["0"].relu(), run["1"])


class FunctionalInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.out = nn.Conv2d(4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu_(self.conv(x)))


def test_capture_survives_an_in_place_function_that_no_module_announces() -> None:
    network = cutaway.wrap(FunctionalInPlace())
    first, second = (network.run(IMAGES, capture=["conv"])["conv"] for _ in range(2))
    expected = network.module.conv(IMAGES)
    assert torch.allclose(first, expected) and torch.allclose(second, expected)
    assert first.min() < 0


@pytest.mark.parametrize("inplace", [False, True])
def test_gradient_with_respect_to_a_captured_map(inplace: bool) -> None:
    network = cutaway.wrap(convnet(inplace))
    run = network.run(IMAGES, capture=["0", "3"], grad=True)
    gradients = torch.autograd.grad(run.logits.sum(), [run["0"], run["3"]])
    assert all(g.shape == run[s].shape and g.abs().sum() > 0 for g, s in zip(gradients, ("0", "3")))


def test_stop_at_ends_the_pass_at_the_last_needed_site() -> None:
    module = convnet()
    reached: list[str] = []
    for name, part in module.named_children():
        part.register_forward_hook(lambda *_, name=name: reached.append(name))
    network = cutaway.wrap(module)
    run = network.run(IMAGES, capture=["0", "1"], stop_at=True)
    assert reached == ["0", "1"] or reached == ["0"]  # our own hook may end the pass before the last foreign one
    assert run.output is None
    with pytest.raises(BadInput, match="stopped before the output"):
        _ = run.logits
    assert network.run(IMAGES, stop_at="3").output is None
    assert hook_count(module) == len(list(module.children()))


def test_stop_without_a_captured_site_says_what_to_do() -> None:
    with pytest.raises(BadInput, match="name one in capture="):
        cutaway.wrap(convnet()).run(IMAGES, stop_at=True)


def test_unknown_site_suggests_near_names() -> None:
    network = cutaway.wrap(FunctionalInPlace())
    with pytest.raises(UnknownName, match="did you mean conv"):
        network.run(IMAGES, capture=["cnov"])
    with pytest.raises(UnknownName):
        network.run(IMAGES, capture=["conv"])["other"]


def test_a_part_that_runs_twice_has_two_sites_when_traced() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(self.conv(self.act(x))).mean((2, 3))

    network = cutaway.wrap(Twice(), example=IMAGES)
    assert [site.name for site in network.sites()] == ["act", "conv", "act#1"]
    run = network.run(IMAGES, capture=["act", "act#1"])
    assert torch.equal(run["act"], IMAGES.relu()) and not torch.equal(run["act#1"], run["act"])
    stopped = network.run(IMAGES, capture=["act#1"], stop_at=True)
    assert torch.equal(stopped["act#1"], run["act#1"])
    edited = network.run(IMAGES, edits=[cutaway.Ablate("act#1", to="zero")])
    assert edited.logits.abs().sum() == 0


def test_traced_sites_know_their_widths() -> None:
    network = cutaway.wrap(convnet(), example=IMAGES)
    assert {site.name: site.width for site in network.sites()}["4"] == 4
    assert network.site("7").layout == "batch unit" and network.site("1").kind == "conv"


def test_untouched_site_raises() -> None:
    module = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Linear(2, 2)})
    module.forward = lambda x: module["used"](x)  # type: ignore[method-assign]
    network = cutaway.wrap(module)
    with pytest.raises(BadInput, match="not reached"):
        network.run(torch.ones(1, 2), capture=["unused"])


@pytest.mark.parametrize(
    ("stimuli", "message"),
    [
        (torch.ones(2, 4, 8, 8), r"takes \[batch 3 y x\]"),
        (torch.ones(3, 8, 8), r"takes \[batch 3 y x\]"),
        ([], "No stimuli"),
        (["a text"], "has no tokenizer"),
        ([Image.new("RGB", (8, 8)), "text"], "mixed"),
        ([torch.ones(3, 8, 8), torch.ones(3, 9, 9)], "one shape"),
        ({"x": 3}, "must be tensors"),
        (torch.ones(0, 3, 8, 8), "takes"),
    ],
)
def test_stimuli_that_do_not_fit(stimuli: object, message: str) -> None:
    network = cutaway.wrap(convnet(), modality="image", preprocess=lambda image: torch.zeros(3, *image.size))
    with pytest.raises(BadInput, match=message):
        network.run(stimuli)


def test_images_are_preprocessed_and_named_by_content() -> None:
    network = cutaway.wrap(convnet(), preprocess=lambda image: torch.zeros(3, *image.size))
    batch = network.prepare([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "red")])
    again = network.prepare([Image.new("RGB", (8, 8))])
    assert batch.inputs[""].shape == (2, 3, 8, 8)
    assert batch.ids[0] == again.ids[0] != batch.ids[1]


def test_fingerprint_sees_every_parameter_and_buffer() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = fingerprint_of(module)
    assert before == fingerprint_of(module) and len(before) == 64
    for name in ("0.weight", "1.running_mean"):
        state = module.state_dict()
        state[name].view(-1)[0] += 1
        assert fingerprint_of(module) != before
        state[name].view(-1)[0] -= 1
    assert fingerprint_of(module.double()) != before


def test_with_module_keeps_sites_and_changes_identity() -> None:
    network = cutaway.wrap(convnet())
    other = network.with_module(convnet().double(), "double")
    assert other.name.endswith("+double") and other.sites() == network.sites()
    assert other.fingerprint != network.fingerprint


def test_addresses() -> None:
    network = cutaway.wrap(convnet())
    assert str(network.address("0:5")) == "0:5"
    with pytest.raises(BadInput, match="units 0 to 5"):
        network.address("0:6")
    with pytest.raises(BadInput, match="SITE:UNIT"):
        network.address("conv3_3")
    basis = cutaway.networks.parse_address("layers.5.mlp@sae-topk32:5021")
    assert (basis.site, basis.basis, basis.unit) == ("layers.5.mlp", "sae-topk32", 5021)
