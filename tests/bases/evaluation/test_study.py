"""From stimuli to trained dictionaries: what is held out, how much is trained on, and the picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutaway.bases.evaluation import evaluate, study
from cutaway.bases.evaluation.drawing import draw_unfolding
from cutaway.errors import BadInput
from cutaway.stimuli import Stimulus, StimulusSet
from tests.bases.unfolding.planted import language, pictures, rough, vision


def made(kind: str, groups: list[str]) -> StimulusSet:
    return StimulusSet(
        "s",
        [Stimulus(f"{row}", kind, "", lambda: "w5 w6 w7", group=group) for row, group in enumerate(groups)],  # type: ignore[arg-type]
    )


def test_nothing_is_trained_on_and_held_out() -> None:
    crops = made("image", [str(row // 5) for row in range(50)])
    fit, held = study.split(crops, seed=1)
    assert len(held) == 10 and not {each.group for each in fit} & {each.group for each in held}
    corpus = made("text", ["one file"] * 20)
    fit, held = study.split(corpus)
    assert [each.id for each in held] == ["16", "17", "18", "19"] and len(fit) == 16
    files = made("text", [str(row % 10) for row in range(40)])
    fit, held = study.split(files)
    assert len(held) == 8 and not {each.group for each in fit} & {each.group for each in held}
    with pytest.raises(BadInput, match="one stimulus"):
        study.split(made("text", [""]))


def test_texts_up_to_a_number_of_tokens() -> None:
    network, corpus = language(), made("text", ["a"] * 10)  # four tokens each, with the first
    assert len(study.limited(network, corpus, 12)) == 3 and len(study.limited(network, corpus, 13)) == 4
    assert study.limited(network, corpus, None) is corpus and study.limited(network, corpus, 999) is corpus


def test_what_a_transcoder_of_a_site_reads_and_writes() -> None:
    network = language()
    assert study.mlp_sites(network, "layers.1.mlp_out") == ("layers.1.mlp_in", "layers.1.mlp_out")
    assert study.mlp_sites(network, "layers.1.mlp") == ("layers.1.mlp_in", "layers.1.mlp_out")
    for site in ("layers.1.resid", "embed"):
        with pytest.raises(BadInput, match="no MLP"):
            study.mlp_sites(network, site)
    assert study.default_skip(network) == 1 and study.default_skip(vision()) == 0


def test_a_dictionary_of_every_size_from_one_pass_learns(tmp_path: Path) -> None:
    network = language()
    many = [" ".join(f"w{3 + (row * 11 + word * 7) % 57}" for word in range(12)) for row in range(60)]
    fit, held = study.split(study.as_set(many))
    place = study.Place("layers.0.mlp_in", "layers.0.mlp_out", skip_first=1)

    def plan(rows: int, steps: int = 150) -> list[study.Recipe]:
        return study.recipes(kind="topk", widths=[16, 32], ks=[4], seeds=1, rows=rows, steps=steps, skip=False)

    found = study.learn(network, fit, place, plan, folder=tmp_path)
    unlearned = study.learn(network, fit, place, lambda rows: plan(rows, 1), folder=tmp_path)
    assert [each.dictionary.name for each in found] == ["topk16-k4", "topk32-k4"]
    origin = found[0].dictionary.origin
    assert origin is not None and origin.reads == "layers.0.mlp_in" and origin.stimuli == fit.fingerprint
    own = [
        evaluate(network, each.dictionary, held, skip_first=1, behaviour=0, against=False, concepts=())
        for each in (*found, *unlearned)
    ]
    values = [each.own.reconstruction.explained_variance.value for each in own]
    assert values[0] > values[2] + 0.05 and values[1] > values[3] + 0.05, values
    assert all(each.own.reconstruction.l0.value <= 4 for each in own)
    again = study.learn(network, fit, place, plan, folder=tmp_path)
    assert (again[1].dictionary.W_dec == found[1].dictionary.W_dec).all(), "the finished run is read back"


def test_positions_of_pictures() -> None:
    network = vision()
    given = study.as_set(pictures(6))

    def rows(count: int | None) -> int:
        return study.rows_of(network, given, study.Place("relu", "relu", rows=count), None, None).count

    assert rows(60) == 60 and rows(None) == 6 * 64 and rows(6 * 50) == 6 * 64, "nearly all: all"


def test_the_picture(tmp_path: Path) -> None:
    network = vision()
    found = evaluate(network, rough(network, "relu"), pictures(), behaviour=0)
    scores = {"units": np.array([1.0, 2.0]), "latents": np.array([])}
    drawn = draw_unfolding([found], tmp_path / "a" / "unfold.png", purity=scores)
    with Image.open(drawn) as image:
        wide = image.size
    with Image.open(draw_unfolding([found], tmp_path / "b.png")) as image:
        assert image.format == "PNG" and image.size[0] < wide[0]
    with pytest.raises(BadInput, match="nothing to draw"):
        draw_unfolding([], tmp_path / "c.png")
