"""``cutaway weights`` on a tiny network of a user's own code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cutaway.cli.app import app
from cutaway.cli.common import command
from cutaway.cli.weights import weights
from tests.cli.networks import image

Run = Callable[..., Any]

if "weights" not in {each.name for each in app.registered_commands}:
    command(app, "weights")(weights)


@pytest.fixture(scope="module")
def weight() -> torch.Tensor:
    """The second convolution's weight, [4 6 3 3]."""
    return image().module[2].weight.detach()


def test_the_inputs_of_a_unit_with_the_strongest_first(cutaway: Run, own: Run, weight: torch.Tensor) -> None:
    document = cutaway("weights", own("image"), "1", "3:2", "--json").document
    norms = weight[2].flatten(1).norm(dim=1)
    order = norms.argsort(descending=True).tolist()
    assert [row["address"] for row in document["inputs"]] == [f"1:{unit}" for unit in order]
    assert [row["norm"] for row in document["inputs"]] == pytest.approx(norms[order].tolist(), rel=1e-5)
    assert sum(row["share"] for row in document["inputs"]) == pytest.approx(1)
    assert (document["how"], document["exact"], document["through"]) == ("direct", True, ["3"])
    assert document["check"] < 1e-4 and document["factors"] is None
    ran = cutaway("weights", own("image"), "1", "3:2", "--top", "2")
    assert ran.code == 0 and "strongest inputs of 3:2" in ran.stdout
    assert f"1:{order[1]}" in ran.stdout and f"1:{order[2]}" not in ran.stdout
    assert "direct weights (exact); through 3" in ran.stdout


def test_the_outputs_of_a_unit_and_the_kernel_of_a_pair(cutaway: Run, own: Run, weight: torch.Tensor) -> None:
    outputs = cutaway("weights", own("image"), "1:4", "3", "--json").document["outputs"]
    order = weight[:, 4].flatten(1).norm(dim=1).argsort(descending=True).tolist()
    assert [row["address"] for row in outputs] == [f"3:{unit}" for unit in order]
    pair = cutaway("weights", own("image"), "1:4", "3:2", "--json").document
    assert torch.allclose(torch.tensor(pair["kernel"]), weight[2, 4])
    assert f"{float(weight[2, 4, 0, 0]):+.3g}" in cutaway("weights", own("image"), "1:4", "3:2").stdout


def test_all_pairs_of_two_sites(cutaway: Run, own: Run, weight: torch.Tensor) -> None:
    pairs = cutaway("weights", own("image"), "1", "3", "--json", "--top", "3").document["pairs"]
    best = int(weight.flatten(2).norm(dim=2).argmax())
    assert pairs[0]["address"] == f"1:{best % 6} to 3:{best // 6}" and len(pairs) == 3


@pytest.mark.parametrize("version", ["average", "best", "smoothed"])
def test_expanded_weights(cutaway: Run, own: Run, images: str, version: str) -> None:
    words = ["weights", own("image"), "0", "3:1", "--expanded", version, "--json"]
    ran = cutaway(*words, "--stimuli", images)
    if version == "smoothed":  # the network sees 16 pixels, and the smallest probe has 32
        assert ran.code == 3 and "needs pictures of 32 pixels" in ran.stderr
        return
    document = ran.document
    assert document["how"] == f"expanded-{version}" and document["window"] == [3, 3]
    assert len(document["inputs"]) == 6


def test_factors_with_their_null(cutaway: Run, own: Run) -> None:
    document = cutaway("weights", own("image"), "1", "3:2", "--factors", "2", "--json").document
    factors = document["factors"]
    assert set(factors["explained"]) >= {"value", "null_mean", "p", "n"} and factors["explained"]["n"] == 6
    assert len(factors["shares"]) == len(factors["channels"]) == len(factors["space"]) == 2
    assert "explained" in cutaway("weights", own("image"), "1", "3:2", "--factors", "2").stdout


@pytest.mark.parametrize(
    "words", [("1", "3:2"), ("1", "3"), ("1:0", "3:2"), ("1:0", "3"), ("1", "3:2", "--factors", "2")], ids=str
)
@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_pictures(cutaway: Run, own: Run, tmp_path: Path, words: tuple[str, ...], suffix: str) -> None:
    ran = cutaway("weights", own("image"), *words, "--out", f"made/w.{suffix}", "--json")
    assert ran.document["picture"] == str(Path("made") / f"w.{suffix}")
    content = (tmp_path / "made" / f"w.{suffix}").read_bytes()
    assert content.startswith(b"<?xml" if suffix == "svg" else b"\x89PNG")
    assert "Picture: " in ran.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["3", "1"], 2, "no path leads there"),
        (["1", "3:4"], 2, "Unit 4 of 3 was asked for; it has units 0 to 3"),
        (["1:6", "3"], 2, "Unit 6 of 1"),
        (["1", "7"], 2, "There is no site named '7'"),
        (["1", "5"], 3, "'batch unit'"),
        (["1", "3", "--expanded", "average"], 2, "name one, such as 3:0"),
        (["1", "3:0", "--expanded", "everage"], 2, "'everage' is not one of"),
        (["1:1", "3:0", "--factors", "2"], 2, "name 1."),
        (["1", "3:0", "--factors", "99"], 2, "ask for 1 to 6"),
        (["1", "3:0", "--out", "w.pdf"], 2, "end the name in .svg or .png"),
    ],
)
def test_bad_input_is_one_sentence(cutaway: Run, own: Run, words: list[str], code: int, says: str) -> None:
    ran = cutaway("weights", own("image"), *words, "--quiet")
    assert ran.code == code and ran.stdout == ""
    assert says in ran.stderr.splitlines()[-1]


def test_a_network_without_maps_is_not_testable(cutaway: Run, own: Run) -> None:
    ran = cutaway("weights", own("tensors"), "0", "2")
    assert ran.code == 3 and "Weights between feature maps" in ran.stderr
