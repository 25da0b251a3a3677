"""``cutaway trace`` on a compiled program and on a folder with a tiny trained network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
NET = "compiled:induction-lm"


@pytest.fixture(scope="module")
def words() -> tuple[str, ...]:
    import cutaway

    return cutaway.load(NET).tokenizer.plain[:6]


def test_a_document_with_checked_edges_and_files(cutaway: Run, words: tuple[str, ...], tmp_path: Path) -> None:
    a, b, c, d = words[:4]
    prompt = " ".join((a, b, c, d, a))
    given = ["trace", NET, prompt, "--target", b, "--against", c, "--nodes", "12", "--edges", "20"]
    ran = cutaway(*given, "--out", "made/t.html", "--out", "made/t.svg", "--json")
    document = ran.document
    assert ran.code == 0 and document["command"] == "trace" and document["question"] == f"why {b!r}, not {c!r}"
    assert document["metric"] > 0 and document["gap"] < 1e-4 and 0 < len(document["edges"]) <= 20
    checked = [edge["check"] for edge in document["edges"] if edge["check"]]
    assert checked and all(set(check) == {"predicted", "measured", "agrees"} for check in checked)
    assert set(document["tested"]["signs"]) >= {"value", "low", "high", "null_mean", "p", "n"}
    assert document["files"] == [str(Path("made") / "t.html"), str(Path("made") / "t.svg")]
    assert (tmp_path / "made" / "t.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "edges cut" in ran.stderr and "Written: " in ran.stderr
    assert cutaway(*given, "--json", "--quiet").document["edges"] == document["edges"]


def test_the_view(cutaway: Run, words: tuple[str, ...]) -> None:
    a, b, c, d = words[:4]
    ran = cutaway("trace", NET, " ".join((a, b, c, d, a)), "--target", b, "--quiet")
    assert ran.code == 0 and ran.stderr == ""
    for text in (f"why {b!r}:", "held against its mean", "right sign", "output", "cut alone"):
        assert text in ran.stdout
    untested = cutaway("trace", NET, " ".join((a, b, a)), "--target", b, "--no-test", "--baseline", "zero", "--quiet")
    assert "held against zero" in untested.stdout and "right sign" not in untested.stdout


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ([], 2, "No target was named"),
        (["--target", "nonsense"], 2, "nonsense"),
        (["--target", "<1>", "--against", "<1>"], 2, "the same output"),
        (["--target", "<1>", "--out", "t.pdf"], 2, "end the name in"),
        (["--target", "<1>", "--rule", "size"], 2, "size"),
        (["--target", "<999>"], 2, "Output 999 was asked for"),
    ],
)
def test_bad_input_is_one_sentence(
    cutaway: Run, words: tuple[str, ...], options: list[str], code: int, says: str
) -> None:
    ran = cutaway("trace", NET, " ".join(words[:3]), *options, "--quiet")
    assert ran.code == code and ran.stdout == ""
    assert says in ran.stderr.splitlines()[-1]


def test_prompts_of_unequal_length(cutaway: Run, words: tuple[str, ...]) -> None:
    ran = cutaway("trace", NET, " ".join(words[:3]), "--target", words[0], "--corrupt", words[0], "--quiet")
    assert ran.code == 2 and "equal length" in ran.stderr


def test_a_network_that_reads_no_text(cutaway: Run, own: Run) -> None:
    ran = cutaway("trace", own("tensors"), "a", "--target", "b")
    assert ran.code == 3 and "predicts no next token" in ran.stderr


def test_in_the_features_of_a_basis(cutaway: Run, words: tuple[str, ...], tmp_path: Path) -> None:
    import cutaway as library
    from cutaway.bases import Origin
    from cutaway.bases.dictionaries import make
    from cutaway.bases.formats import save

    network = library.load(NET)
    d = network.site("layers.0.resid").width
    basis = make("topk", d, 24, k=6)
    for name, fingerprint in (("mine", network.fingerprint), ("other", "0" * 64)):
        basis.name, basis.origin = name, Origin(NET, fingerprint, "layers.0.resid", "layers.0.resid")
        save(basis, tmp_path / name)
    given = ["trace", NET, " ".join((*words[:4], words[0])), "--target", words[1], "--baseline", "zero", "--quiet"]
    document = cutaway(*given, "--basis", "./mine", "--json").document
    assert document["bases"] == ["layers.0.resid@mine"] and document["gap"] < 1e-3
    kinds = {node["kind"] for node in document["nodes"]}
    assert kinds & {"feature", "other features", "reconstruction error"}
    shown = cutaway(*given, "--basis", "./mine")
    assert shown.code == 0 and "In features: layers.0.resid@mine" in shown.stdout
    ran = cutaway(*given, "--basis", "./other")
    assert ran.code == 2 and "learned on" in ran.stderr
    assert cutaway(*given, "--basis", "nobody").code == 2


def test_a_picture(cutaway: Run, own: Run, images: str, tmp_path: Path) -> None:
    given = ["trace", own("image"), f"{images}/0.png", "--site", "1", "--cell", "4", "--quiet"]
    document = cutaway(*given, "--target", "2", "--json", "--out", "made/m.json").document
    assert document["question"] == "why <2>" and document["sites"] == ["1"] and document["cell"] == 4
    assert document["tested"]["checked"] > 0 and (tmp_path / "made" / "m.json").is_file()
    shown = cutaway(*given, "--target", "2:3@5,6")
    assert shown.code == 0 and "why 2:3@5,6" in shown.stdout and "cut alone" in shown.stdout
    for options, says in (
        ((), "No target was named"), (("--target", "2", "--out", "t.svg"), "end the name in .json"),
        (("--target", "2:3"), "no output of"),
    ):  # fmt: skip
        ran = cutaway(*given, *options)
        assert ran.code == 2 and says in ran.stderr
    ran = cutaway("trace", own("image"), "nobody", "--target", "2", "--quiet")
    assert ran.code == 2 and "picture" in ran.stderr
