"""``cutaway circuit``: what it prints, and how it says no."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.circuits.edges.test_tasks import able, talker
from tests.circuits.known import program

Run = Callable[..., Any]
OWN = Path(__file__).with_name("circuit_networks.py")
QUICK = ("--random", "19", "--pairs", "6", "--tested", "2")


def task(path: Path, *, swap: bool = False, **change: str) -> str:
    """A file of pairs that the network can do (or, swapped, cannot)."""
    lines = []
    for pair in able(talker(), 6).pairs:
        answers = (pair.against, pair.target) if swap else (pair.target, pair.against)
        lines.append({"clean": pair.clean, "corrupt": pair.corrupt, "target": answers[0], "against": answers[1]})
    lines[-1] |= change
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def test_the_circuit_of_a_program(cutaway: Run, tmp_path: Path) -> None:
    ran = cutaway("circuit", "compiled:histogram", *QUICK, "--json", "--out", "c.png")
    assert ran.code == 0, ran.stderr
    document = ran.document
    truth = program("histogram")[1]
    found = {tuple(edge) for edge in document["circuit"]["edges"]}
    assert found == truth.true_pairs("resample")
    assert document["circuit"]["faithfulness"]["value"] == pytest.approx(1, abs=1e-5)
    assert set(document["edges"][0]) >= {"source", "target", "score", "exact", "low", "high", "in_circuit"}
    assert len(document["edges"]) == document["edge_count"] == 13
    assert len(document["curve"]["faithfulness"]) == len(document["curve"]["sizes"]) == 10
    assert document["task"] == "random"
    assert document["passes"]["scores"] == pytest.approx(15 + 2 + 15, abs=6)
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"
    assert "scores" in ran.stderr.lower()


def test_a_task_of_ones_own(cutaway: Run, tmp_path: Path) -> None:
    net = f"module:{OWN}:talks"
    ran = cutaway(
        "circuit", net, "--file", task(tmp_path / "own.jsonl"), *QUICK, "--method", "eap-ig", "--ablation", "mean"
    )
    assert ran.code == 0, ran.stderr
    assert "the network does 100% of them" in ran.stdout
    assert "CPR" in ran.stdout
    assert "signed order" in ran.stdout
    assert "measured on the pairs it was found on" in ran.stdout
    assert "estimates only" in ran.stdout


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("compiled:histogram", "--task", "ioii"), 2, "ioi"),
        (("compiled:histogram", "--method", "eapig"), 2, "eap-ig"),
        (("compiled:histogram", "--ablation", "noise"), 2, "There are resample, mean, zero, permute"),
        (("compiled:histogram", "--out", "c.gif"), 2, ".svg or .png"),
        (("compiled:length", *QUICK), 3, "do not make it do anything"),
    ],
)
def test_bad_questions(cutaway: Run, words: tuple[str, ...], code: int, text: str) -> None:
    ran = cutaway("circuit", *words)
    assert ran.code == code
    assert text in ran.stderr
    assert "Traceback" not in ran.stderr


def test_bad_networks_and_files(cutaway: Run, own: Run, tmp_path: Path) -> None:
    net = f"module:{OWN}:talks"
    cases = [
        ((net, "--file", task(tmp_path / "a.jsonl", swap=True)), 3, "cannot do this task"),
        ((net, "--file", task(tmp_path / "b.jsonl", target=" w1 w2")), 2, "not exactly one token"),
        ((net, "--file", task(tmp_path / "c.jsonl", corrupt="w1")), 2, "tokens"),
        ((net,), 2, "--task"),
        ((net, "--task", "ioi", "--file", task(tmp_path / "d.jsonl")), 2, "choose one"),
        ((f"module:{OWN}:broken", "--file", task(tmp_path / "e.jsonl")), 2, "NaN or infinite"),
        ((own("image"), "--task", "ioi"), 3, "transformer"),
    ]
    for words, code, text in cases:
        ran = cutaway("circuit", *words, *QUICK)
        assert (ran.code, text in ran.stderr) == (code, True), (words, ran.stderr)
        assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_a_real_language_model_at_its_smallest(cutaway: Run, zoo: Run) -> None:
    zoo("smollm2-135m")
    quick = ("--pairs", "4", "--random", "19", "--tested", "0", "--no-neurons", "--method", "eap")
    ran = cutaway("circuit", "smollm2-135m", "--task", "capital-of", *quick, "--json")
    assert ran.code == 0, ran.stderr
    document = ran.document
    assert document["accuracy"]["value"] >= 0.6
    assert document["curve"]["faithfulness"][-1]["value"] == pytest.approx(1, abs=1e-3)
    assert 0 < document["circuit"]["share_of_edges"] < 1
