"""Pictures as RGB tensors: the same input as the picture itself gives, and gradients come back."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cutaway
from cutaway.errors import NotTestable
from cutaway.networks.preprocess import ImagePreprocess
from tests.networks.tiny import convnet, transformer


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_a_tensor_and_the_picture_it_shows_are_one_input(channels) -> None:
    rule = ImagePreprocess(size=8, mean=(104.0, 117.0, 124.0), scale=(1.0, 2.0, 58.0), channels=channels)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    rgb = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    assert torch.allclose(rule.encode(rgb)[0], rule(Image.fromarray(pixels)), atol=1e-4)


def test_gradients_come_back() -> None:
    network = cutaway.wrap(convnet(), example=torch.zeros(1, 3, 16, 16))
    pixels = torch.rand(2, 3, 16, 16, requires_grad=True)
    run = network.run(network.prepare_rgb(pixels), capture=["0"], stop_at=True, grad=True)
    (gradient,) = torch.autograd.grad(run["0"].sum(), pixels)
    assert gradient.abs().sum() > 0


def test_a_grey_network_gets_the_mean_of_the_colours() -> None:
    network = cutaway.wrap(nn.Sequential(nn.Conv2d(1, 2, 3)), example=torch.zeros(1, 1, 8, 8))
    pixels = torch.rand(1, 3, 8, 8)
    assert torch.equal(network.prepare_rgb(pixels).inputs[""], pixels.mean(1, keepdim=True))


def test_networks_that_take_no_rgb_pictures() -> None:
    with pytest.raises(NotTestable, match="no convolution"):
        cutaway.wrap(transformer("llama")).prepare_rgb(torch.rand(1, 3, 8, 8))
    network = cutaway.wrap(nn.Sequential(nn.Conv2d(5, 2, 3)), example=torch.zeros(1, 5, 8, 8))
    with pytest.raises(NotTestable, match="takes 5 channels"):
        network.prepare_rgb(torch.rand(1, 3, 8, 8))
