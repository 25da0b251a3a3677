"""What a card shows only when asked: the picture is the one that was judged, the tuning is the row of ``tune``."""

import io
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import cutaway
from cutaway.errors import BadInput, NotTestable, UnknownName
from cutaway.features import Effort, FeatureCard, explain, explain_many
from cutaway.features.html import number
from cutaway.features.portray import portraits, preference_in
from cutaway.features.tuning import NullTuning, Tuning, UnitTuning, tune
from cutaway.networks import Network, wrap
from tests.features.planted import language_model
from tests.features.visualize.small import colours, pictures

EFFORT = Effort(peers=3, nulls=2, visualize=True, steps=24, tune="gratings")
REDS = np.array([51, 102, 153, 179, 204]) / 255  # of small.pictures(); the green and the blue one leave red silent


@pytest.fixture(scope="module")
def card() -> FeatureCard:
    return explain(colours(), "act:0", stimuli=pictures(), effort=EFFORT)


def pixels(png: bytes) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(io.BytesIO(png)), dtype=np.float32) / 255).permute(2, 0, 1)


def test_the_activation_is_that_of_the_picture_shown(card: FeatureCard) -> None:
    assert card.portrait is not None and card.visualization == card.portrait.png
    made = pixels(card.portrait.png)
    assert made.shape == (3, *card.portrait.size)
    network = colours()
    acts = network.run(network.prepare_rgb(made[None]), capture=["act"], stop_at=True)["act"]
    assert card.portrait.activation == float(acts[0, 0].max()) > 0
    red, green, blue = made.mean((1, 2)).tolist()
    assert red > max(green, blue)


def test_rank_and_sigma_by_hand(card: FeatureCard) -> None:
    made = card.portrait
    assert made is not None and made.natural == 7
    # on a plain red of level r the unit says (2 r) / 27 for each of 9 pixels: 2 r / 3; on green and blue nothing
    highest = np.array([*(2 * REDS / 3), 0.0, 0.0])
    assert made.rank.value == np.mean(made.activation > highest)
    assert 0 < made.rank.value <= 1 and made.rank.n == 7
    # a zero border: in the middle 2 r / 3, on the four edges 6 and in the corners 4 of 9 pixels are seen
    share = np.array([1.0] * 22 * 22 + [6 / 9] * 4 * 22 + [4 / 9] * 4)
    everywhere = np.concatenate([*(level * share for level in highest)])
    assert made.sigma == pytest.approx((made.activation - everywhere.mean()) / everywhere.std(), rel=1e-4)


def test_more_steps_excite_more_and_outrank_all() -> None:
    network, natural = colours(), pictures()
    few, many = (
        portraits(network, network.site("act"), [0], natural, others=2, compared=2, steps=steps)[0]
        for steps in (1, 120)
    )
    assert many.activation > 2 * few.activation and many.rank.value > few.rank.value
    assert (few.steps, many.steps) == (1, 120)
    assert many.rank.p == pytest.approx(1 / 3), "no picture for another unit makes red strong"


def test_a_picture_is_the_same_alone_and_in_company(card: FeatureCard) -> None:
    effort = Effort(peers=3, nulls=1, visualize=True, steps=24)
    both = explain_many(colours(), ["act:3", "act:0"], stimuli=pictures(), effort=effort)
    assert [each.address for each in both] == ["act:3", "act:0"]
    assert card.visualization is not None and both[1].visualization is not None and both[0].visualization is not None
    alone, company, other = (
        pixels(each) for each in (card.visualization, both[1].visualization, both[0].visualization)
    )
    assert float((alone - company).abs().max()) < 1.5 / 255
    assert float((alone - other).abs().max()) > 0.1


def test_tuning_is_the_row_of_tune(card: FeatureCard) -> None:
    assert card.tuning is not None
    found = tune(colours(), "act", "gratings", units=[0], stimuli=pictures(), seed=0)
    assert card.tuning.unit.to_json() == found.rows[0].to_json()
    assert (card.tuning.drawings, card.tuning.canvas_px, card.tuning.natural) == (found.drawings, found.canvas_px, 7)
    assert card.tuning.nulls == (("untrained twin", 0), ("shuffled weights", 0))


def test_strength_against_all_null_units_by_hand() -> None:
    row = UnitTuning(4, "curves", peak_sigma=9.0, coherence=3.0, p=0.25, fwhm_deg=60.0)
    nulls = (NullTuning("untrained twin", 5, 0, (1.0, 3.0)), NullTuning("shuffled weights", 5, 0, (float("nan"), 5.0)))
    found = preference_in(Tuning("n", "f", "s", "curves", 32, 100, 7, (row,), nulls, None, 5), 0)
    assert (found.strength.value, found.strength.null_mean, found.strength.p) == (3.0, 3.0, 0.25)
    assert found.strength.null_std == pytest.approx(np.sqrt(8 / 3))
    assert (found.strength.n, found.strength.seed) == (100, 5)
    assert found.facts == [("width (FWHM)", 60.0, "°"), ("peak", 9.0, " σ")]
    assert found.null == "untrained twin (seed 5) and shuffled weights (seed 5)"
    assert UnitTuning(0, "circles", peak_sigma=2.0).strength == 2.0, "nothing turns: the peak"


def test_three_readers_see_the_same(card: FeatureCard) -> None:
    assert card.portrait is not None and card.tuning is not None
    plain = json.loads(json.dumps(card.to_json(), allow_nan=False))
    assert plain["visualization"]["image"] == card.portrait.data_uri
    assert plain["visualization"]["rank"]["value"] == card.portrait.rank.value
    assert plain["visualization"]["activation"] == card.portrait.activation
    assert plain["tuning"]["kind"] == "gratings" and plain["tuning"]["p"] == plain["tuning"]["strength"]["p"]
    html = card.to_html()
    assert (
        card.portrait.data_uri in html and "Tuning to gratings" in html and "null: all units of the untrained" in html
    )
    console = Console(file=io.StringIO(), width=200)
    console.print(card)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for value in (card.portrait.activation, card.portrait.rank.p, card.tuning.unit.peak_sigma, card.tuning.strength.p):
        assert number(value) in html and number(value) in shown
    assert card.reproduce == "cutaway feature colours act:0 --seed 0 --visualize --steps 24 --tune gratings"


def test_nothing_is_made_unless_asked_for() -> None:
    card = explain(colours(), "act:0", stimuli=pictures(), effort=Effort(peers=3, nulls=2))
    assert card.visualization is None and card.tuning is None
    assert card.to_json()["visualization"] is None and card.to_json()["tuning"] is None
    assert "card-looks" not in card.to_html().partition("</style>")[2]


def test_the_workflow_takes_the_wishes() -> None:
    card = cutaway.feature(colours(), "act:1", stimuli=pictures(), visualize=True, steps=2, tune="circles")
    assert card.portrait is not None and card.portrait.steps == 2
    assert card.tuning is not None and card.tuning.unit.kind == "circles"


def test_what_cannot_be_measured_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    text, flat = language_model(), wrap(torch.nn.Sequential(torch.nn.Linear(4, 3)), example=torch.zeros(1, 4))
    for network in (text, flat, colours()):
        monkeypatch.setattr(type(network), "run", lambda *a, **k: pytest.fail("ran"))
    with pytest.raises(NotTestable, match=r"layers\.0\.mlp, whose axes are .* has none"):
        explain(text, "layers.0.mlp:3", stimuli=["cats"], effort=Effort(visualize=True))
    with pytest.raises(NotTestable, match="measured for feature maps"):
        explain(flat, "0:1", stimuli=[torch.zeros(1, 4)], effort=Effort(tune="curves"))
    with pytest.raises(UnknownName, match="did you mean curves"):
        explain(colours(), "act:0", stimuli=pictures(), effort=Effort(tune="curvs"))
    with pytest.raises(BadInput, match="0 steps of gradient ascent"):
        explain(colours(), "act:0", stimuli=pictures(), effort=Effort(visualize=True, steps=0))


@pytest.mark.zoo
def test_a_real_channel_is_pictured_and_tuned(zoo: Callable[[str], Network]) -> None:
    from cutaway.stimuli import builtin_photographs

    effort = Effort(stimuli=6, peers=4, nulls=2, visualize=True, steps=8, tune="lines")
    card = explain(zoo("vgg16-hed"), "conv1_1:5", stimuli=builtin_photographs().take(6), effort=effort)
    assert card.portrait is not None and card.tuning is not None
    assert card.portrait.activation > 0 and card.portrait.natural == 6 and 0 <= card.portrait.rank.value <= 1
    assert 0 <= card.tuning.unit.orientation_deg < 180 and 0 < card.tuning.strength.p <= 1
