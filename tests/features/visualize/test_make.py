"""Images for units whose favourite is known; company, seeds, errors; the network is left as it was."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from cutaway.errors import BadInput, NotTestable, UnknownName
from cutaway.features.visualize import (
    NONE,
    Effort,
    ImageSpec,
    Objective,
    Transforms,
    alignment,
    attributed,
    caricature,
    channel,
    diversity,
    fourier,
    interpolation,
    logit,
    optimize,
    visualize,
)
from cutaway.features.visualize.ascent import Adam
from cutaway.networks import Network, wrap
from cutaway.networks.network import fingerprint_of
from tests.features.planted import language_model
from tests.features.visualize.small import COLOURS, colours, deep
from tests.networks.tiny import hook_count

SHORT = {"steps": 40, "transforms": NONE, "learning_rate": 0.5}


@pytest.mark.parametrize("how", ["fourier", "phase", "pixels"])
@pytest.mark.parametrize("objective", ["channel", "neuron"])
def test_units_get_the_colours_that_they_look_for(how: str, objective: str) -> None:
    made = visualize(colours(), [f"act:{unit}" for unit in range(3)], parametrization=how, objective=objective, **SHORT)
    assert [each.address for each in made] == ["act:0", "act:1", "act:2"]
    for unit, each in enumerate(made):
        where = each.image[:, 11:14, 11:14] if objective == "neuron" else each.image
        if (how, objective) != ("phase", "channel"):  # natural magnitudes leave the mean colour gray
            assert where.mean((1, 2)).argmax() == unit, COLOURS[unit]
        assert each.image.min() >= 0 and each.image.max() <= 1
        assert each.history[-1] > each.history[0]


def test_a_finished_image_reaches_what_the_unit_can_do() -> None:
    (red,) = visualize(colours(), "act:0", **SHORT)
    assert 0.6 < red.activation <= 2 / 3 + 1e-5  # pure red gives 2/27 * 9 = 2/3


def test_the_activation_is_that_of_the_finished_image() -> None:
    network = colours()
    (made,) = visualize(network, "act:1", **SHORT)
    acts = network.run(network.prepare_rgb(made.image[None]), capture=["act"])["act"]
    assert made.activation == pytest.approx(acts[0, 1].max().item(), rel=1e-5)


def test_minimum_images_do_the_opposite() -> None:
    (high,) = visualize(colours(), "conv:3", **SHORT)
    (low,) = visualize(colours(), "conv:3", minimum=True, **SHORT)
    assert high.image.mean() > 0.8 and low.image.mean() < 0.2
    assert low.activation < high.activation
    assert low.objective == "-channel conv:3"


def test_an_image_is_the_same_alone_and_in_company() -> None:
    options = {"steps": 8, "transforms": Transforms(jitter=4)}
    (alone,) = visualize(colours(), "act:1", **options)
    together = visualize(colours(), ["act:0", "act:1", "last:0"], batch_size=2, **options)
    assert torch.allclose(alone.image, together[1].image, atol=1e-4)


def test_steps_are_those_of_adam() -> None:
    """On gradients divided by their root mean square, against torch's own."""
    start = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    wanted = torch.tensor([[1.0, -2.0, 3.0], [40.0, 50.0, -60.0]])
    adam, reference = Adam([ours], 0.1, 0.05), torch.optim.Adam([theirs], lr=0.1, eps=0.05)
    for _ in range(7):
        adam.climb(-(ours - wanted).square().sum(1))
        gradient = 2 * (theirs - wanted).detach()
        theirs.grad = gradient / gradient.square().mean(1, keepdim=True).sqrt()
        reference.step()
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert (ours - wanted).square().sum() < (start - wanted).square().sum()


def test_a_dead_start_is_woken_by_redirected_gradients() -> None:
    network = colours()
    with torch.no_grad():
        network.module.conv.bias[0] = -0.4  # silent on gray, 2/3 - 0.4 on pure red
    assert visualize(network, "act:0", redirect_steps=0, **SHORT)[0].activation == 0
    assert visualize(network, "act:0", **SHORT)[0].activation > 0.1


def test_seeds() -> None:
    def image(seed: int) -> torch.Tensor:
        return visualize(colours(), "act:1", steps=3, seed=seed)[0].image

    assert torch.equal(image(1), image(1))
    assert not torch.allclose(image(1), image(2), atol=1e-3)
    twice = visualize(colours(), ["act:1", "act:1"], steps=3)
    assert not torch.allclose(twice[0].image, twice[1].image, atol=1e-3)


def test_batches_of_any_size_and_in_the_order_asked_for() -> None:
    addresses = ["last:1", "act:3", "conv:0", "act:0", "last:0"]
    made = visualize(colours(), addresses, steps=2, batch_size=1)
    assert [each.address for each in made] == addresses
    with pytest.raises(BadInput, match="batch of 0"):
        visualize(colours(), addresses, batch_size=0)


def test_alpha_and_gray() -> None:
    (made,) = visualize(colours(), "act:3", alpha=True, gray=True, **SHORT)
    assert made.alpha is not None and made.alpha.shape == made.image.shape[1:]
    assert torch.equal(made.image[0], made.image[2])
    assert made.objective == "channel act:3 * (1 - mean alpha)"


@pytest.mark.parametrize("options", [{"channels_last": False}, {"precision": "bfloat16"}])
def test_speed_does_not_change_what_is_seen(options: dict) -> None:
    (plain,) = visualize(colours(), "act:2", **SHORT)
    (fast,) = visualize(colours(), "act:2", **SHORT, **options)
    assert abs(plain.activation - fast.activation) < 0.02


def test_the_pass_stops_at_the_target() -> None:
    class Later(nn.Module):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            Later.calls += 1
            return x

    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), Later())
    network = wrap(module, name="stop", modality="image")
    visualize(network, "1:0", steps=2, size=16)
    assert Later.calls == 0


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was(inplace: bool, fails: bool) -> None:
    network = colours(inplace)
    before = fingerprint_of(network.module)
    state = [(hook_count(network.module), set(vars(part))) for part in network.module.modules()]

    def breaks(site: str, units) -> Objective:
        def score(view):
            raise BadInput("as if")

        return Objective("breaks", score, frozenset({site}))

    if fails:
        with pytest.raises(BadInput, match="as if"):
            visualize(network, "act:0", steps=2, objective=breaks)
    else:
        visualize(network, "act:0", steps=2)
    assert [(hook_count(network.module), set(vars(part))) for part in network.module.modules()] == state
    assert fingerprint_of(network.module) == before
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.module.parameters())


def test_canvases_follow_the_receptive_field() -> None:
    assert visualize(colours(), "act:0", steps=1)[0].image.shape == (3, 24, 24)  # 32 would be more than it was made for
    (made,) = visualize(deep(), "4:0", steps=1)
    assert made.settings["receptive_field"] == 8 and made.image.shape == (3, 32, 32)
    assert visualize(deep(), "4:0", steps=1, size=(20, 28))[0].image.shape == (3, 20, 28)


def run(network: Network, objective: Objective, count: int, steps: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    image = fourier(ImageSpec((24, 24), tuple(range(count))))
    history = optimize(network, objective, image, transforms=NONE, effort=Effort(steps=steps))
    return image.rgb().detach(), history


def test_logits_and_vector_sites() -> None:
    network = deep()
    _, history = run(network, logit([0, 3]), 2)
    assert (history[-1] > history[0]).all()
    (made,) = visualize(network, "7:2", steps=20)
    assert made.history[-1] > made.history[0]


def test_an_interpolation_goes_from_one_to_the_other() -> None:
    objective = interpolation(channel("act", 0), channel("act", 1), 3) + 0.1 * alignment("act")
    images, _ = run(colours(), objective, 3)
    reds, greens = images[:, 0].mean((1, 2)), images[:, 1].mean((1, 2))
    assert reds[0] > greens[0] and greens[2] > reds[2]


def test_diversity_makes_differences() -> None:
    network = deep()

    def likeness(objective: Objective) -> float:
        images, _ = run(network, objective, 2, steps=40)
        maps = network.run(network.prepare_rgb(images), capture=["4"])["4"].flatten(2)
        grams = (maps @ maps.transpose(1, 2)).flatten(1)
        return torch.cosine_similarity(grams[0], grams[1], dim=0).item()

    assert likeness(channel("4", 1) + 20 * diversity("4")) < likeness(channel("4", 1)) - 0.01


def test_a_caricature_of_a_green_picture_is_green() -> None:
    green = torch.tensor([0.1, 0.8, 0.1]).view(3, 1, 1).expand(3, 40, 40)
    images, history = run(colours(), caricature("act", green), 1)
    assert images[0].mean((1, 2)).argmax() == 1
    assert history[-1] > history[0]


def test_attribution_follows_what_the_target_uses() -> None:
    network = colours()
    with torch.no_grad():
        network.module.last.weight.zero_()
        network.module.last.weight[0, 2] = 1.0
    blueish = torch.tensor([0.5, 0.1, 0.6]).view(3, 1, 1).expand(3, 24, 24)
    images, _ = run(network, attributed("act", "last:0", blueish), 1)
    assert images[0].mean((1, 2)).argmax() == 2
    with pytest.raises(BadInput, match="conv:0 does not depend on last"):
        run(network, attributed("last", "conv:0", blueish), 1)


@pytest.mark.parametrize(
    ("addresses", "error", "says"),
    [
        ("act:5", BadInput, "has units 0 to 4"),
        ("nowhere:0", UnknownName, "no site named 'nowhere'"),
        ("act", BadInput, "not an address"),
        ("act@sae:0", UnknownName, "no basis named 'sae'"),
        ([], BadInput, "No address"),
    ],
)
def test_wrong_addresses(addresses, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        visualize(colours(), addresses, steps=1)


def test_networks_and_sites_without_pictures() -> None:
    with pytest.raises(NotTestable, match="reads text"):
        visualize(language_model(1), "layers.0.mlp:0", steps=1)
    linear = wrap(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), name="linear")
    with pytest.raises(NotTestable, match="no convolution that takes them"):
        visualize(linear, "1:0", steps=1)
    network = colours()
    odd = dataclasses.replace(network.site("act"), layout="batch unit pos d_head")
    sites = tuple(odd if site.name == "act" else site for site in network.site_list)
    with pytest.raises(BadInput, match="no channels; choose a site of feature maps, for example last"):
        visualize(dataclasses.replace(network, site_list=sites, _cache={}), "act:0", steps=1)


def test_wrong_options() -> None:
    for options, says in (
        ({"steps": 0}, "0 steps"),
        ({"size": 2}, "2 x 2 pixels"),
        ({"precision": "float8"}, "float8"),
        ({"objective": "chanel"}, "did you mean channel"),
        ({"parametrization": "pixel"}, "did you mean pixels"),
        ({"objective": lambda site, units: channel(site, 0) * 1e30 * channel(site, 0) * 1e30}, "infinite"),
        ({"objective": lambda site, units: channel(site, [0, 1])}, "for 2 images was given for 1"),
    ):
        with pytest.raises((BadInput, UnknownName), match=says):
            visualize(colours(), "act:0", **{"steps": 2, **options})


def test_a_canvas_that_the_network_does_not_take() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 30 * 30, 3))
    network = wrap(module, name="fixed", modality="image", example=torch.zeros(1, 3, 32, 32))
    assert visualize(network, "2:1", steps=1, size=32)[0].address == "2:1"
    with pytest.raises(BadInput, match=r"fixed does not take pictures of 40 x 40 pixels .* give another size="):
        visualize(network, "2:1", steps=1, size=40)


@pytest.mark.zoo
def test_a_channel_of_the_edge_detector(zoo) -> None:
    network = zoo("vgg16-hed")
    made = visualize(network, ["conv2_2:40", "conv2_2:100"], steps=12)
    assert made[0].image.shape == (3, 32, 32)  # a field of 14 pixels
    assert all(each.history[-1] > 0 and each.history[-1] > each.history[0] for each in made)


@pytest.mark.zoo
def test_a_hidden_unit_of_the_classifier(zoo) -> None:
    (made,) = visualize(zoo("efficientnet-lite0"), "blocks.2.expand.act:7", steps=12)
    assert made.history[-1] > made.history[0] and made.activation > 0
