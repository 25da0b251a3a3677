"""Receptive fields against the arithmetic of layers, and crops against their boxes."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cutaway.features.pictures import BORDER, cropped, displayed, png, resized
from cutaway.features.receptive_field import Box, receptive_field
from cutaway.networks import wrap
from cutaway.networks.zoo.lite import SameConv2d


def _by_arithmetic(layers):
    """Size, stride and first pixel of a chain of (kernel, stride, padding, dilation)."""
    size, jump, start = 1, 1, 0
    for kernel, stride, padding, dilation in layers:
        size += (kernel - 1) * dilation * jump
        start -= padding * jump
        jump *= stride
    return size, jump, start


CHAINS = {
    "one convolution": [(3, 1, 1, 1)],
    "stride and padding": [(5, 2, 2, 1), (3, 1, 1, 1)],
    "pooling": [(3, 1, 1, 1), (2, 2, 0, 1), (3, 1, 1, 1), (2, 2, 0, 1), (3, 1, 1, 1)],
    "dilation": [(3, 1, 0, 1), (3, 1, 0, 3)],
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_field_is_that_of_the_layers(chain):
    torch.manual_seed(0)
    parts, channels = [], 3
    for kernel, stride, padding, dilation in chain:
        if kernel == 2:
            parts.append(nn.MaxPool2d(2, stride=stride))
        else:
            parts += [nn.Conv2d(channels, 8, kernel, stride, padding, dilation), nn.ReLU()]
            channels = 8
    network = wrap(nn.Sequential(*parts), modality="image", example=torch.zeros(1, 3, 64, 64))
    field = receptive_field(network, network.sites()[-1], (64, 64))
    size, stride, start = _by_arithmetic(chain)
    assert field is not None
    assert field.stride == (stride, stride)
    assert field.at(0, 0) == Box(start, start + size, start, start + size)
    assert field.at(2, 5).left == start + 5 * stride and field.at(2, 5).size == (size, size)


def test_padding_that_depends_on_the_size_is_measured_at_that_size():
    torch.manual_seed(0)
    part = nn.Sequential(SameConv2d(3, 4, 3, stride=2))
    network = wrap(part, modality="image", example=torch.zeros(1, 3, 16, 16))
    even = receptive_field(network, network.sites()[0], (16, 16))
    odd = receptive_field(network, network.sites()[0], (17, 17))
    assert even is not None and odd is not None
    assert (even.first.top, odd.first.top) == (0, -1)


def test_a_field_larger_than_the_picture_is_measured_on_a_larger_one():
    torch.manual_seed(0)
    network = wrap(nn.Sequential(nn.Conv2d(3, 8, 21, padding=10), nn.ReLU()), modality="image")
    field = receptive_field(network, network.sites()[-1], (12, 12))
    assert field is not None and field.first.size == (21, 21)


def test_global_pooling_sees_everything():
    class Squeeze(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()

        def forward(self, x):
            x = self.conv(x)
            return self.act(x - x.mean((2, 3), keepdim=True))

    torch.manual_seed(0)
    network = wrap(Squeeze(), modality="image", example=torch.zeros(1, 3, 16, 16))
    assert receptive_field(network, network.site("act"), (16, 16)) is None


@pytest.mark.zoo
def test_vgg_fields_are_the_published_ones(zoo):
    network = zoo("vgg16-hed")
    for name, size, stride in (("conv1_2", 5, 1), ("conv2_2", 14, 2), ("conv3_3", 40, 4), ("conv4_3", 92, 8)):
        field = receptive_field(network, network.site(name), (128, 128))
        assert field is not None and field.first.size == (size, size) and field.stride == (stride, stride)


def test_crops_stick_out_in_grey():
    picture = np.arange(4 * 4 * 3, dtype=float).reshape(4, 4, 3) / 48
    crop = cropped(picture, Box(-1, 2, 2, 6))
    assert crop.shape == (3, 4, 3)
    np.testing.assert_array_equal(crop[1:, :2], picture[:2, 2:])
    assert (crop[0] == BORDER).all() and (crop[:, 2:] == BORDER).all()
    assert (cropped(picture, Box(9, 11, 9, 11)) == BORDER).all()


def test_png_is_small_and_shows_every_pixel():
    tiny = Image.open(io.BytesIO(png(np.random.default_rng(0).random((3, 3, 3)))))
    assert tiny.size == (48, 48)
    large = png(np.random.default_rng(0).random((300, 200, 3)))
    assert Image.open(io.BytesIO(large)).size == (75, 112) and len(large) < 12_000


def test_resized_keeps_the_mean():
    picture = np.random.default_rng(0).random((64, 64, 3))
    np.testing.assert_allclose(resized(picture, 32).mean((0, 1)), picture.mean((0, 1)))


def test_inputs_are_shown_through_the_inverse_of_the_preprocessing():
    from cutaway.networks.preprocess import ImagePreprocess

    preprocess = ImagePreprocess(size=16, mean=(100.0, 110.0, 120.0), scale=(1.0, 1.0, 1.0), channels="BGR")
    network = wrap(nn.Sequential(nn.Conv2d(3, 2, 1)), preprocess=preprocess)
    red = Image.new("RGB", (16, 16), (255, 0, 51))
    shown = displayed(network, network.prepare([red]).inputs[""][0])
    np.testing.assert_allclose(shown[3, 3], [1, 0, 0.2], atol=1e-6)
