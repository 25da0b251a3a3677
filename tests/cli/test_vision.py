"""tune and families on a small network of a user's own code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]
NAMES = {"unit", "kind", "orientation_deg", "radius_px", "fwhm_deg", "echo", "line_ratio", "peak_sigma", "p"}


def test_tune(cutaway: Run, own: Run) -> None:
    ran = cutaway("tune", own("image"), "1", "--stimuli", "lines", "--json", "--quiet")
    assert ran.code == 0, ran.stderr
    document = ran.document
    assert document["command"] == "tune" and document["site"] == "1" and len(document["fingerprint"]) == 64
    assert len(document["units"]) == 6 and document["units"][0].keys() >= NAMES
    assert [null["kind"] for null in document["nulls"]] == ["untrained twin", "shuffled weights"]


def test_tune_one_unit_for_a_reader(cutaway: Run, own: Run) -> None:
    ran = cutaway("tune", own("image"), "1:2", "--nulls", "0", "--radial")
    assert ran.code == 0, ran.stderr
    assert "curves of" in ran.stdout and "in steps of 1°" in ran.stdout and "No null network was asked" in ran.stdout


def test_families(cutaway: Run, own: Run) -> None:
    ran = cutaway("families", own("image"), "1", "--crops", "8", "--source", "input", "--json", "--quiet")
    assert ran.code == 0, ran.stderr
    document = ran.document
    assert document["group"] == "rotation" and document["families"] == [] and document["threshold"] >= 0.5
    assert document["compression"]["factor"] == 1
    assert "0 families under hue" in cutaway("families", own("image"), "1", "--crops", "8", "--group", "hue").stdout


def test_bad_input_says_what_to_do(cutaway: Run, own: Run) -> None:
    net = own("image")
    for words, code, said in [
        (("tune", net, "1", "--stimuli", "curvs"), 2, "did you mean curves"),
        (("tune", net, "1:6"), 2, "units 0 to 5"),
        (("tune", net, "nowhere"), 2, "nowhere"),
        (("tune", own("tensors"), "0"), 3, ""),
        (("tune", net, "1:0", "--stimuli", "lines", "--radial"), 2, "leave --stimuli at curves"),
        (("families", net, "1", "--group", "rotatoin"), 2, "rotation"),
        (("families", net, "1", "--source", "nowhere", "--crops", "8"), 2, "nowhere"),
    ]:
        ran = cutaway(*words)
        assert ran.code == code, (words, ran.stderr)
        assert said in ran.stderr and len(ran.stderr.strip().splitlines()[-1]) > 20


def test_a_card_with_picture_and_tuning(cutaway: Run, own: Run, images: str) -> None:
    words = ("feature", own("image"), "1:0", "--stimuli", images, "--visualize", "--steps", "2", "--tune", "lines")
    ran = cutaway(*words, "--html", "card.html", "--json", "--quiet")
    assert ran.code == 0, ran.stderr
    (card,) = ran.document["cards"]
    assert card["visualization"]["image"].startswith("data:image/png;base64,")
    assert card["visualization"]["steps"] == 2 and card["visualization"]["natural"] == 5
    assert card["tuning"].keys() >= NAMES and card["tuning"]["kind"] == "lines" and card["tuning"]["unit"] == 0
    html = Path("card.html").read_text()
    assert card["visualization"]["image"] in html and "Tuning to lines" in html
    shown = cutaway(*words, "--quiet").stdout
    assert "made in 2 steps" in shown and "strength" in shown


def test_a_card_that_cannot_have_them(cutaway: Run, own: Run, images: str) -> None:
    for words, code, said in [
        (("1:0", "--tune", "curvs"), 2, "did you mean curves"),
        (("1:0", "5:0", "--visualize"), 3, "measured for feature maps: choose one, for example 3"),
        (("5:0", "--tune", "lines"), 3, "whose axes are"),
    ]:
        ran = cutaway("feature", own("image"), *words, "--stimuli", images)
        assert ran.code == code and said in " ".join(ran.stderr.split()), (words, ran.stderr)
        assert "explaining" not in ran.stderr
