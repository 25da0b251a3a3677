"""From pictures of every mode and size to the network's input, by hand-computed cases."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cutaway.errors import BadFile, BadInput
from cutaway.networks import preprocess as module
from cutaway.networks.preprocess import ImagePreprocess, from_hf_folder, to_rgb

PLAIN = ImagePreprocess(size=8)


def test_values_order_and_channels():
    picture = Image.new("RGB", (8, 8), (10, 20, 30))
    bgr = ImagePreprocess(size=8, mean=(1.0, 2.0, 3.0), scale=(2.0, 2.0, 2.0), channels="BGR")
    assert bgr(picture)[:, 0, 0].tolist() == [14.5, 9.0, 3.5]  # (30-1)/2, (20-2)/2, (10-3)/2
    assert bgr(picture).shape == (3, 8, 8)
    assert torch.allclose(bgr.inverse(bgr(picture))[:, 0, 0], torch.tensor([10, 20, 30]) / 255)


def test_the_middle_is_kept_and_the_shorter_side_resized():
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 4:8] = 255  # white only in the middle third
    assert PLAIN(Image.fromarray(pixels).resize((24, 8), Image.Resampling.NEAREST)).min() == 1.0
    shown = ImagePreprocess(size=8, keep_aspect=False, interpolation="nearest")(Image.fromarray(pixels))
    assert 0 < shown.mean() < 0.5


def test_crop_share():
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[4:12, 4:12] = 255
    assert ImagePreprocess(size=8, resize=16)(Image.fromarray(pixels)).min() == 1.0
    assert ImagePreprocess(size=8, resize=16).with_size(16).resize == 32


def test_own_size_in_multiples():
    assert ImagePreprocess(size=None, multiple=16)(Image.new("RGB", (70, 40))).shape == (3, 32, 64)
    assert ImagePreprocess(size=None, multiple=16)(Image.new("RGB", (3, 40))).shape == (3, 32, 16)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"])
def test_every_mode(mode):
    picture = Image.new("RGB", (9, 10), (200, 30, 30))
    picture = picture.convert("L").convert(mode) if mode in ("LA", "PA") else _converted(picture, mode)
    assert to_rgb(picture).mode == "RGB"
    assert PLAIN(picture).shape == (3, 8, 8)


def _converted(picture: Image.Image, mode: str) -> Image.Image:
    return Image.new(mode, picture.size) if mode == "LAB" else picture.convert(mode)


def test_sixteen_bit_grey_and_transparency():
    grey = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert to_rgb(grey).getpixel((0, 0)) == (128, 128, 128)
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert to_rgb(clear).getpixel((0, 0)) == (255, 255, 255)


def test_exif_turns_the_picture_upright(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        upright = to_rgb(turned)
    assert upright.size == (8, 16)
    assert upright.getpixel((4, 2)) == (255, 255, 255)
    assert upright.getpixel((4, 13)) == (0, 0, 0)


def test_what_cannot_be_used_says_so(tmp_path):
    with pytest.raises(BadInput, match="20000 x 20000 pixels"):
        PLAIN(_Huge())
    with pytest.raises(BadInput, match="floating-point"):
        PLAIN(Image.new("F", (8, 8)))
    Image.new("RGB", (64, 64), "red").save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(BadInput, match="cannot be decoded"):
        PLAIN(cut)


class _Huge(Image.Image):
    size = (20_000, 20_000)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 40), st.integers(0, 20), st.booleans())
def test_any_size_gives_the_asked_one(width, height, size, margin, keep_aspect):
    preprocess = ImagePreprocess(size=size, resize=size + margin, keep_aspect=keep_aspect)
    assert preprocess(Image.new("L", (width, height))).shape == (3, size, size)


def test_a_line_of_pixels_is_cut_before_it_is_enlarged(monkeypatch):
    sizes = []
    original = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, size, *a: sizes.append(size) or original(self, size, *a))
    assert ImagePreprocess(size=224)(Image.new("L", (50_000, 1))).shape == (3, 224, 224)
    assert max(max(size) for size in sizes) <= module.MOST_ELONGATION * 224


def test_json_round_trip():
    original = ImagePreprocess(size=260, resize=297, mean=(127.0,) * 3, scale=(128.0,) * 3, channels="BGR")
    assert ImagePreprocess.from_json(json.loads(json.dumps(original.to_json()))) == original


def config(tmp_path, **fields):
    base = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1.0], "resample": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(base | fields))
    return from_hf_folder(tmp_path)


def test_hugging_face_classifiers(tmp_path):
    vit = config(tmp_path, size={"height": 224, "width": 224})
    assert (vit.size, vit.resize, vit.keep_aspect, vit.interpolation) == (224, 224, False, "bilinear")
    assert vit.mean == pytest.approx((127.5,) * 3)
    assert vit.scale == pytest.approx((63.75, 127.5, 255.0))
    deit = config(tmp_path, size={"shortest_edge": 256}, do_center_crop=True, crop_size={"height": 224, "width": 224})
    assert (deit.size, deit.resize, deit.keep_aspect) == (224, 256, True)
    resnet = config(tmp_path, size=224, crop_pct=0.875)
    assert (resnet.size, resnet.resize, resnet.keep_aspect) == (224, 256, True)
    large = config(tmp_path, size={"shortest_edge": 384}, crop_pct=0.875)
    assert (large.size, large.resize, large.keep_aspect) == (384, 384, False)
    raw = config(tmp_path, do_rescale=False, do_normalize=False)
    assert (raw.mean, raw.scale) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("text", ["{", "[]", '{"size": {"height": 3, "width": 4}}', '{"size": {"x": 1}}'])
def test_a_configuration_that_cannot_be_understood(tmp_path, text):
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(BadFile, match=r"preprocessor_config.json cannot be used .* pass preprocess"):
        from_hf_folder(tmp_path)
