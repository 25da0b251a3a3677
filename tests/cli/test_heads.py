"""cutaway heads, on small networks of a user's own code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

Run = Callable[..., Any]
HERE = Path(__file__).with_name("language_networks.py")
DETECTORS = {"induction", "previous_token", "duplicate_token", "copying", "successor", "bos_sink", "positional"}
QUICK = ("--sequences", "4", "--length", "8")


def net(function: str) -> str:
    return f"module:{HERE}:{function}"


def test_heads_as_json(cutaway: Run, tmp_path: Path) -> None:
    picture = tmp_path / "heads.png"
    ran = cutaway("heads", net("causal"), *QUICK, "--json", "--quiet", "--out", str(picture))
    assert ran.code == 0, ran.stderr
    document = ran.document
    assert document["command"] == "heads" and len(document["fingerprint"]) == 64 and document["length"] == 8
    assert [(row["layer"], row["head"]) for row in document["heads"]][-1] == (1, 3)
    for row in document["heads"]:
        assert row.keys() >= DETECTORS
        assert {"value", "null_mean", "p", "n", "seed"} <= row["induction"].keys()
        assert row["successor"] is None, "there is no tokenizer"
    assert set(document["nulls"]) >= DETECTORS and document["head"] is None and document["neurons"] is None
    with Image.open(picture) as image:
        assert image.format == "PNG"


def test_one_head_and_the_neurons_for_a_reader(cutaway: Run) -> None:
    ran = cutaway("heads", net("causal"), *QUICK, "--head", "1.2", "--offset", "3", "--neurons", "--top", "2")
    assert ran.code == 0, ran.stderr
    for said in ("8 heads", "induction", "not testable here", "Head 1.2", "keys 3 back", "opposite pair", "layers."):
        assert said in ran.stdout, said


def test_one_head_as_json(cutaway: Run) -> None:
    head = cutaway("heads", net("causal"), *QUICK, "--head", "L1H2", "--json", "-q").document["head"]
    assert head["name"] == "1.2" and 0 <= head["qk_symmetric_share"] <= 1
    assert {each["kind"] for each in head["composition"]} == {"Q", "K", "V"} and len(head["composition"]) == 12
    assert len(head["qk"]) == len(head["ov"]) == 3 and head["ov"][0]["left_high"]


def test_encoders_say_null_where_nothing_applies(cutaway: Run) -> None:
    document = cutaway("heads", net("encoder"), *QUICK, "--head", "1.0", "--neurons", "--json", "-q").document
    assert document["heads"][0]["induction"] is None and document["heads"][0]["previous_token"]["p"] > 0
    assert document["head"]["ov"] is None and document["head"]["composition"] is None
    assert document["neurons"]["outputs"] is None


def test_what_cannot_be_asked(cutaway: Run, own: Run) -> None:
    for words, code, said in [
        (("heads", own("image")), 3, "does not say where a transformer's parts are"),
        (("heads", net("causal"), "--head", "7.1"), 2, "layers 0 to 1"),
        (("heads", net("causal"), "--head", "first"), 2, "LAYER.HEAD"),
        (("heads", net("causal"), "--stimuli", "nowhere.txt"), 2, "nowhere.txt"),
    ]:
        ran = cutaway(*words)
        assert ran.code == code and said in ran.stderr, (words, ran.stderr)
