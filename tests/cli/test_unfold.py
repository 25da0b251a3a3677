"""cutaway unfold, on a small network of a user's own code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cutaway.bases.unfolding import viewed
from cutaway.errors import BadInput, UnknownName
from cutaway.networks import load

Run = Callable[..., Any]
LANGUAGE = Path(__file__).with_name("language_networks.py")
QUICK = ("--k", "2", "--tokens", "300", "--steps", "20", "--features", "0", "--compare", "2", "--quiet")


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eighteen small pictures of coloured noise and blobs."""
    folder, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for number in range(18):
        pixels = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((24, 24)).save(folder / f"{number}.png")
    return str(folder)


def test_unfold_trains_measures_and_keeps(cutaway: Run, own: Run, noise: str, tmp_path: Path) -> None:
    words = ("unfold", own("image"), "1", "--latents", "8,12", "--stimuli", noise, *QUICK, "--out", "out", "--json")
    ran = cutaway(*words)
    assert ran.code == 0, ran.stderr
    document = ran.document
    assert document["command"] == "unfold" and [each["basis"] for each in document["evaluations"]] == [
        "topk8-k2",
        "topk12-k2",
    ]
    first = document["evaluations"][0]
    assert [each["name"] for each in first["scores"]] == ["topk8-k2", "random", "pca", "neurons", "mean", "zero"]
    own_scores = first["scores"][0]
    assert own_scores["width"] == 8 and 0 < own_scores["l0"]["value"] <= 2
    assert own_scores["explained_variance"]["n"] == 4, "a fifth of 18 pictures is held out"
    assert own_scores["behaviour"]["kind"] == "classifier" and own_scores["recovered"]["loss_mean"] is None
    assert document["polysemanticity"] is None and document["stability"] is None
    with Image.open(tmp_path / "out" / "unfold.png") as image:
        assert image.format == "PNG"
    kept = json.loads((tmp_path / "out" / "unfold.json").read_text())
    assert kept["evaluations"] == document["evaluations"]
    assert (tmp_path / "out" / "topk12-k2" / "basis.json").is_file()

    again = cutaway(*words).document
    assert again["evaluations"] == document["evaluations"], "the same seed, the same numbers"

    loaded = cutaway("unfold", own("image"), "1", "--basis", "out/topk8-k2", "--stimuli", noise, *QUICK, "--json")
    assert loaded.code == 0, loaded.stderr
    measured = loaded.document["evaluations"][0]["scores"][0]
    assert measured["explained_variance"]["value"] == pytest.approx(own_scores["explained_variance"]["value"])
    for site, said in (("0", "stands for 1, not for 0"), ("3", "stands for 1, not for 3")):
        wrong = cutaway("unfold", own("image"), site, "--basis", "out/topk8-k2", "--stimuli", noise, *QUICK)
        assert wrong.code == 2 and said in wrong.stderr

    network = load(own("image"))
    seen = viewed(network, ["1@topk8-k2:7"], folders=[tmp_path / "out"])
    assert str(seen.address("1@topk8-k2:7")) == "1@topk8-k2:7" and viewed(network, ["1:2"]) is network
    with pytest.raises(UnknownName, match="topk8-k2"):
        viewed(network, ["1@topk8-k3:7"], folders=[tmp_path / "out"])
    with pytest.raises(BadInput, match="stands for 1, and 3"):
        viewed(network, ["3@topk8-k2:7"], folders=[tmp_path / "out"])


def test_seeds_a_twin_a_transcoder_and_features_for_a_reader(cutaway: Run, own: Run, noise: str) -> None:
    quick = [word for word in QUICK if word not in ("--features", "0")]
    ran = cutaway("unfold", own("image"), "1", "--latents", "8", "--seeds", "2", "--twin", "--stimuli", noise, *quick,
                  "--features", "3")  # fmt: skip
    assert ran.code == 0, ran.stderr
    for said in ("topk8-k2-s1", "untrained twin", "Seeds agree with MMCS", "polysemanticity", "latents", "held-out"):
        assert said in ran.stdout, said
    other = cutaway("unfold", own("image"), "1", "--reads", "0", "--skip", "--kind", "relu", "--latents", "8",
                    "--stimuli", noise, *QUICK, "--json")  # fmt: skip
    assert other.code == 0, other.stderr
    found = other.document["evaluations"][0]
    assert found["origin"]["reads"] == "0" and found["origin"]["writes"] == "1" and found["basis"] == "relu8"
    assert "linear" in [each["name"] for each in found["scores"]]


def test_what_cannot_be_unfolded(cutaway: Run, own: Run, noise: str, tmp_path: Path) -> None:
    made = cutaway("unfold", own("image"), "1", "--latents", "8", "--stimuli", noise, *QUICK, "--atlas", "atlas")
    assert made.code == 0 and (tmp_path / "atlas" / "bases" / "1" / "topk8-k2" / "basis.json").is_file(), made.stderr
    basis = ("--basis", "atlas/bases/1/topk8-k2")
    text = f"module:{LANGUAGE}:causal"
    for words, code, said in [
        ((own("image"), "nowhere", "--stimuli", noise), 2, "no site named"),
        ((own("image"), "1", "--k", "9", "--latents", "8", "--stimuli", noise), 2, "k = 9 active latents of 8"),
        ((own("image"), "1", "--k", "two", "--stimuli", noise), 2, "whole numbers"),
        ((own("image"), "1", "--kind", "topmost", "--stimuli", noise), 2, "The kinds: "),
        ((own("image"), "1", "--basis", "nothing/here", "--stimuli", noise), 2, "nothing/here"),
        ((own("image"), "1", "--transcode", "--stimuli", noise), 2, "no MLP"),
        ((own("image"), "1", "--transcode", *basis), 2, "Both"),
        ((own("tensors"), "1"), 2, "takes tensors"),
        ((own("tensors"), "1", *basis), 2, "takes tensors"),
        ((text, "layers.0.mlp_out"), 2, "takes"),
        ((text, "layers.0.attn.pattern", "--stimuli", noise), 2, ""),
        ((own("image"), "1", "--task", "ioi", "--latents", "8", "--stimuli", noise, *QUICK), 3, "no language model"),
    ]:
        ran = cutaway("unfold", *words, *(() if "--steps" in words else ("--steps", "5", "--quiet")))
        assert ran.code == code and said in ran.stderr and "defect" not in ran.stderr, (words, ran.code, ran.stderr)
    (tmp_path / "other.py").write_text(
        "from tests.cli import networks\nimport torch\n"
        "def net():\n    found = networks.image()\n    torch.nn.init.ones_(found.module[0].bias)\n    return found\n"
    )
    ran = cutaway("unfold", f"module:{tmp_path / 'other.py'}:net", "1", *basis, "--stimuli", noise, "--quiet")
    assert ran.code == 2 and "was learned on tiny" in ran.stderr
