"""``cutaway visualize`` on a tiny network of a user's own code: files, ranks, ranges, and every way to be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cutaway.cli import visualize
from cutaway.cli.app import app
from cutaway.cli.common import command
from cutaway.errors import BadInput
from tests.features.visualize.small import colours

Run = Callable[..., Any]
COLOURS = f"module:{Path(__file__).parents[1] / 'features' / 'visualize' / 'small.py'}:colours"


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command, also before it is entered in the application; only for these tests."""
    if not any(each.name == "visualize" for each in app.registered_commands):
        monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
        command(app, "visualize")(visualize.visualize)


def opened(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.copy()


def test_images_files_and_ranks(cutaway: Run, images: str) -> None:
    natural = ("--stimuli", images, "--limit", "4")
    words = ("visualize", COLOURS, "act:0-1", "act:3", "--steps", "6", *natural, "--out", "there", "--json")
    ran = cutaway(*words)
    assert ran.code == 0, ran.stderr
    rows = ran.document["visualizations"]
    assert [row["address"] for row in rows] == ["act:0", "act:1", "act:3"]
    assert [row["file"] for row in rows] == ["there/act-0.png", "there/act-1.png", "there/act-3.png"]
    assert all(opened(row["file"]).size == (224, 224) for row in rows)
    assert all(0 <= row["natural_rank"]["value"] <= 1 for row in rows)
    assert rows[0]["activation"] > 0 and rows[0]["sanity"]["likeness"]["n"] == 4
    assert opened(ran.document["sheet"]).size[0] > 3 * 112
    assert ran.document["natural"]["count"] == 4
    assert [row["activation"] for row in cutaway(*words).document["visualizations"]] == [
        row["activation"] for row in rows
    ]


def test_text_and_options(cutaway: Run) -> None:
    words = ("visualize", COLOURS, "act:2", "--steps", "2", "--no-rank", "--min", "--gray", "--alpha", "--size", "16")
    ran = cutaway(*words, "--objective", "neuron", "--parametrization", "pixels")
    assert ran.code == 0, ran.stderr
    assert "act:2" in ran.stdout and "act-2-min.png" in ran.stdout
    assert opened("runs/colours/visualizations/act-2-min.png").mode == "RGBA"
    assert not Path("runs/colours/visualizations/sheet.png").exists()


def test_whole_sites_and_ranges() -> None:
    network = colours()
    assert visualize.spelled_out(network, ["act"], every=True) == [f"act:{unit}" for unit in range(5)]
    assert visualize.spelled_out(network, ["act:1", "act:0-2"]) == ["act:1", "act:0", "act:2"]
    for text, says in (("act", "add --all"), ("act:2-1", "write SITE:1-2"), ("act:0-5", "has units 0 to 4")):
        with pytest.raises(BadInput, match=says):
            visualize.spelled_out(network, [text])


def test_a_network_without_preprocessing_gets_images_and_no_ranks(cutaway: Run, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 2, 3))"
    )
    ran = cutaway("visualize", "module:plain.py:make", "0:1", "--steps", "1", "--size", "12", "--json")
    assert ran.code == 0, ran.stderr
    assert ran.document["visualizations"][0]["natural_rank"] is None
    assert "No ranks among natural images" in ran.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([COLOURS, "act:5"], 2, "it has units 0 to 4"),
        ([COLOURS, "act:0-9"], 2, "it has units 0 to 4"),
        ([COLOURS, "conf:1"], 2, "did you mean conv?"),
        ([COLOURS, "act"], 2, "add --all"),
        ([COLOURS, "act:0", "--steps", "0"], 2, "--steps"),
        ([COLOURS, "act:0", "--objective", "chanel"], 2, "'chanel' is not one of"),
        (["TENSORS", "1:0"], 3, "no convolution"),
    ],
)
def test_one_sentence_and_the_right_code(cutaway: Run, own: Run, words: list[str], code: int, says: str) -> None:
    named = [own("tensors") if word == "TENSORS" else word for word in words]
    ran = cutaway("visualize", *named, "-q")
    assert (ran.code, ran.stdout) == (code, "")
    assert says in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
