"""A finished image as PNG, on a sheet, as JSON."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from cutaway.errors import BadInput
from cutaway.features.visualize import Visualization, contact_sheet

RED = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).expand(3, 6, 4)


def made(address: str = "s:1", image: torch.Tensor = RED, alpha: torch.Tensor | None = None) -> Visualization:
    return Visualization(address, image, alpha, 2.5, (0.0, 2.0), f"channel {address}", {"steps": 2})


def read(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_png_holds_the_pixels() -> None:
    assert read(made().png()).shape == (6, 4, 3)
    assert (read(made().png()) == [255, 0, 0]).all()
    assert read(made(alpha=torch.full((6, 4), 0.5)).png())[0, 0].tolist() == [255, 0, 0, 128]


def test_small_images_are_enlarged_on_request() -> None:
    assert read(made().png(least=60)).shape == (60, 40, 3)
    assert read(made().png(least=5)).shape == (6, 4, 3)


def test_saving_makes_the_folder(tmp_path) -> None:
    path = made().save(tmp_path / "new" / "one.png")
    assert path.read_bytes() == made().png()


def test_transparent_images_are_judged_on_gray() -> None:
    shown = made(alpha=torch.full((6, 4), 0.25)).shown()
    assert shown[:, 0, 0].tolist() == [0.625, 0.375, 0.375]
    assert made().shown() is RED or torch.equal(made().shown(), RED)


def test_a_contact_sheet_in_rows() -> None:
    blue = RED.flip(0)
    sheet = np.asarray(contact_sheet([made(), made("s:2"), made("s:3", blue)], columns=2, tile=60))
    assert sheet.shape == (2 * (60 + 18) + 4, 2 * 64 + 4, 3)
    assert sheet[30, 20].tolist() == [255, 0, 0]  # first row
    assert sheet[78 + 30, 20].tolist() == [0, 0, 255]  # second row, first column
    assert sheet[78 + 30, 64 + 20].tolist() == [255, 255, 255]  # nothing there
    assert (sheet[66:78, 4:64] < 128).any()  # a caption


def test_sheets_of_nothing_and_of_wrong_captions() -> None:
    with pytest.raises(BadInput, match="no images"):
        contact_sheet([])
    with pytest.raises(BadInput, match="2 captions were given for 1"):
        contact_sheet([made()], captions=["a", "b"])


def test_json() -> None:
    assert made().to_json() == {
        "address": "s:1",
        "activation": 2.5,
        "objective": "channel s:1",
        "size": [6, 4],
        "settings": {"steps": 2},
    }
