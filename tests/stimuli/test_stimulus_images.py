"""Image folders with good, damaged, hostile and odd files; the built-in photographs."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cutaway.errors import BadFile, BadInput
from cutaway.stimuli import builtin_photographs, file_id, image_folder, images, read_image


def pixels(seed: int = 0, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def save(path, seed: int = 0, size: tuple[int, int] = (24, 32), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, size)).save(path, **options)
    return path


def loaded(images) -> list[str]:
    return [stimulus.source for batch in images.batches(3) for stimulus in batch]


def test_a_folder_is_read_recursively_in_the_order_of_paths(tmp_path):
    for seed, name in enumerate(["b.PNG", "a.jpg", "sub/c.bmp", "sub/deep/d.webp"]):
        save(tmp_path / name, seed)
    (tmp_path / "notes.txt").write_text("not an image")
    found = image_folder(tmp_path)
    assert [s.source for s in found] == ["a.jpg", "b.PNG", "sub/c.bmp", "sub/deep/d.webp"]
    assert found[0].id == file_id(tmp_path / "a.jpg")
    assert found.skipped == []
    np.testing.assert_array_equal(np.asarray(found[1].load()), pixels(0))
    assert image_folder(tmp_path).fingerprint == found.fingerprint


def test_one_image_may_be_named_directly_whatever_its_suffix(tmp_path):
    path = save(tmp_path / "a.png").rename(tmp_path / "picture")
    assert [s.source for s in image_folder(path)] == ["picture"]


def test_unreadable_images_among_good_ones_are_skipped_and_reported(tmp_path):
    save(tmp_path / "good.png")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "lie.jpg").write_bytes(b"<html>no image</html>")
    (tmp_path / "folder.jpg").mkdir()
    found = image_folder(tmp_path)
    assert [s.source for s in found] == ["good.png"]
    assert [skip.source for skip in found.skipped] == ["empty.jpg", "lie.jpg"]
    assert "no image of a known format" in found.skipped[1].reason


def test_a_truncated_jpeg_is_dropped_when_its_pixels_are_needed(tmp_path):
    save(tmp_path / "good.jpg", 1)
    whole = save(tmp_path / "bad.jpg", 2, (200, 200))
    whole.write_bytes(whole.read_bytes()[:-2000])
    found = image_folder(tmp_path)
    assert len(found) == 2
    assert loaded(found) == ["good.jpg"]
    assert "bad.jpg cannot be decoded" in found.skipped[0].reason


def test_a_file_that_disappears_is_dropped_too(tmp_path):
    save(tmp_path / "a.png", 1), save(tmp_path / "b.png", 2)
    found = image_folder(tmp_path)
    (tmp_path / "b.png").unlink()
    assert loaded(found) == ["a.png"]


def test_the_content_decides_not_the_name(tmp_path):
    save(tmp_path / "really.png").rename(tmp_path / "called.jpg")
    found = image_folder(tmp_path)
    np.testing.assert_array_equal(np.asarray(found[0].load()), pixels())


def test_formats_that_run_other_programs_are_not_opened(tmp_path):
    save(tmp_path / "good.png")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "page.jpg").write_bytes(eps)
    assert [skip.source for skip in image_folder(tmp_path).skipped] == ["page.jpg"]


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9_000, 100_000])  # below and above Pillow's own limits
def test_a_decompression_bomb_is_refused_before_decoding(tmp_path, side):
    save(tmp_path / "good.png")
    (tmp_path / "bomb.png").write_bytes(png_claiming(side, side))
    found = image_folder(tmp_path)
    assert [skip.source for skip in found.skipped] == ["bomb.png"]
    with pytest.raises(BadFile, match=r"bomb.png"):
        read_image(tmp_path / "bomb.png")


def test_sixteen_bit_grey_keeps_its_shades(tmp_path):
    ramp = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    expected = [[[value] * 3 for value in (0, 1, 128, 255)]]
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "deep.png")), expected)


def test_the_first_frame_of_an_animation_is_shown(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    image = read_image(tmp_path / "a.gif")
    assert (image.mode, image.getpixel((3, 3))) == ("RGB", (255, 0, 0))


def test_transparent_pixels_are_white_and_floats_are_refused(tmp_path):
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(BadFile, match="floating-point"):
        read_image(tmp_path / "float.tif")


def test_a_photograph_taken_sideways_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to view
    Image.fromarray(pixels()).save(tmp_path / "turned.png", exif=exif)
    turned = np.asarray(read_image(tmp_path / "turned.png"))
    np.testing.assert_array_equal(turned, np.rot90(pixels(), k=-1))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no image but no file; give a folder"),
        ({"a.txt": b"x"}, "holds no image but 1 other files"),
        ({"a.png": b"x"}, "None of the 1 images"),
    ],
)
def test_a_folder_without_a_usable_image_is_one_clear_error(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        image_folder(tmp_path)


def test_a_folder_that_does_not_exist_is_one_clear_error(tmp_path):
    with pytest.raises(BadInput, match="There is no folder or file"):
        image_folder(tmp_path / "absent")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_named_like_an_image_does_not_block(tmp_path):
    save(tmp_path / "good.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert len(image_folder(tmp_path)) == 1


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, kind)
    return buffer.getvalue()


SAMPLES = {kind: encoded(kind) for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP")}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255))),
    st.data(),
)
def test_a_damaged_file_is_an_image_or_one_clear_error(tmp_path, kind, changes, data):
    content = bytearray(SAMPLES[kind])
    for place, value in changes:
        content[place % len(content)] = value
    del content[data.draw(st.integers(0, len(content))) :]
    (tmp_path / "good.png").write_bytes(SAMPLES["PNG"])
    (tmp_path / "odd.png").write_bytes(bytes(content))
    found = image_folder(tmp_path)
    used = loaded(found)
    assert "good.png" in used
    assert len(used) + len(found.skipped) == 2


def test_built_in_photographs_come_whole_and_in_crops():
    pytest.importorskip("skimage")
    found = builtin_photographs()
    assert len(found) == 160 and found.skipped == []
    assert len({s.group for s in found}) == 16
    assert found.fingerprint == builtin_photographs().fingerprint != builtin_photographs(seed=1).fingerprint
    assert found[0].source == "skimage/astronaut.png" and found[0].load().size == (512, 512)
    crop = found[1].load()
    assert (crop.mode, crop.size) == ("RGB", (256, 256))
    assert np.asarray(crop).std() > 10  # a piece of a photograph, not a flat area


def test_a_crop_shows_the_place_that_its_source_names():
    pytest.importorskip("skimage")
    whole, crop = builtin_photographs(crops=1)[:2]
    left, right, upper, lower = (int(n) for part in crop.source.split("[")[1][:-1].split(", ") for n in part.split(":"))
    expected = whole.load().crop((left, upper, right, lower)).resize((256, 256), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.asarray(crop.load()), np.asarray(expected))
    assert right - left == lower - upper >= 256


def test_without_scikit_image_the_two_photographs_of_scikit_learn_remain(monkeypatch):
    locate = images.importlib.util.find_spec
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda p: None if p == "skimage" else locate(p))
    found = builtin_photographs(crops=2)
    assert {s.group for s in found} == {"sklearn/china.jpg", "sklearn/flower.jpg"}
    assert len(found.skipped) == 14 and "cutaway[images]" in found.skipped[0].reason


def test_the_room_loads_no_torch_and_photographs_no_skimage():
    code = (
        "import sys; from cutaway import stimuli; stimuli.builtin_photographs(); stimuli.attribute_prompts();"
        "sys.exit(bool({'torch', 'skimage', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
