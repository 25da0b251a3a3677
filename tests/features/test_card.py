"""Whole cards: complete, deterministic, readable three ways, and safe with hostile stimuli."""

import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from rich.console import Console

from cutaway.atlas import Atlas
from cutaway.errors import BadInput, UnknownName
from cutaway.evidence import Measurement
from cutaway.features import Effort, explain, explain_many, page_of
from cutaway.features.explain import distribution
from cutaway.features.html import bar, histogram, measured, number, percent
from cutaway.observe import observe
from cutaway.stimuli import Stimulus, StimulusSet
from tests.features.planted import fades, language_model, pictures, templates, texts

EFFORT = Effort(peers=10, nulls=3)


@pytest.fixture(scope="module")
def picture_card():
    return explain(templates(), "act:1", stimuli=pictures(6), effort=EFFORT)


@pytest.fixture(scope="module")
def text_card():
    return explain(language_model(), "layers.0.mlp:3", stimuli=texts(16), effort=EFFORT)


def test_a_picture_card_is_complete(picture_card):
    card = picture_card
    assert card.address == "act:1" and len(card.fingerprint) == 64 and card.stimuli[2] == 24
    assert card.receptive_field == (4, 4)
    assert all(example.crop.startswith(b"\x89PNG") for example in card.examples)
    assert {example.source.split()[0] for example in card.examples if example.level == "top"} == {"red", "upright"}
    assert card.outputs.method == "ablation" and card.weights.inputs[0].rows
    assert card.visualization is None and card.tuning is None and not card.dead
    assert card.reproduce == "cutaway feature templates act:1 --seed 0"


def test_a_text_card_highlights_the_strongest_token(text_card):
    for example in text_card.examples:
        assert example.activations[example.highlight] == pytest.approx(example.value)
    top = text_card.examples[0]
    assert top.value == max(each.value for each in text_card.examples)
    assert text_card.outputs.method == "direct" and len(text_card.outputs.raised) == 10


def test_same_seed_same_card_whatever_the_batch_size():
    first = explain(templates(), "act:5", stimuli=pictures(3), effort=EFFORT)
    again = explain(templates(), "act:5", stimuli=pictures(3), effort=dataclasses.replace(EFFORT, batch_size=3))
    assert json.dumps(first.to_json(pictures=True)) == json.dumps(again.to_json(pictures=True))


def test_several_features_share_their_forward_passes(monkeypatch):
    network, calls = templates(), []
    run = type(network).run
    monkeypatch.setattr(
        type(network), "run", lambda self, *a, **k: calls.append(k.get("capture")) or run(self, *a, **k)
    )
    cards = explain_many(network, ["act:5", "rect:0", "act:6"], stimuli=pictures(2), effort=EFFORT)
    assert [card.address for card in cards] == ["act:5", "rect:0", "act:6"]
    assert sum(call == ["act"] for call in calls) == 1 + 3  # one batch of stimuli, and what receptive fields take


def test_json_is_plain_and_measurements_have_their_fields(picture_card):
    plain = json.loads(json.dumps(picture_card.to_json(), allow_nan=False))
    fields = {"value", "low", "high", "null_mean", "null_std", "p", "n", "seed"}
    assert set(plain["firing_rate"]) == set(plain["polysemanticity"]["separation"]) == fields
    assert all(set(value) == fields for value in plain["outputs"]["measures"].values())
    assert "crop" not in plain["examples"][0]
    assert picture_card.to_json(pictures=True)["examples"][0]["crop"].startswith("data:image/png;base64,")


class _Reader(HTMLParser):
    void = ("img", "meta")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def _read(html):
    reader = _Reader()
    reader.feed(html)
    assert not reader.open
    return reader


def test_html_stands_alone(picture_card, text_card):
    for card in (picture_card, text_card):
        reader = _read(card.to_html())
        assert not {"script", "link", "iframe", "object"} & set(reader.tags)
        names = " ".join(value for key, value in reader.attributes if key == "class").split()
        assert all(name.startswith("card-") for name in names)
        assert all(value.startswith("data:image/png") for key, value in reader.attributes if key == "src")
        assert not [key for key, _ in reader.attributes if key.startswith("on")]
    assert all(
        dict(a).get("alt")
        for a in [re.findall(r'(alt)="([^"]+)"', tag) for tag in re.findall("<img[^>]+>", picture_card.to_html())]
    )
    whole = page_of([picture_card, text_card])
    assert whole.count("<article") == 2 and whole.count("<style>") == 1 and _read(whole)


def test_hostile_stimuli_stay_text():
    evil = '<script>alert("x")</script>'
    made = [
        Stimulus(each.id, each.kind, f'{evil}" onerror="{index}', each.load) for index, each in enumerate(fades(12))
    ]
    network = dataclasses.replace(templates(), name=evil)
    card = explain(network, "act:0", stimuli=StimulusSet(evil, made), effort=EFFORT)
    reader = _read(card.page())
    assert "script" not in reader.tags and not [key for key, _ in reader.attributes if key == "onerror"]
    console = Console(file=io.StringIO(), width=100)
    text = explain(
        language_model(), "layers.0.mlp:3", stimuli=["<b>bold cats [red]dogs &amp", *texts(8)], effort=EFFORT
    )
    assert "b" not in _read(text.to_html()).tags and "<b>bold" in "".join(_read(text.to_html()).words)
    console.print(text)
    assert "<b>bold" in console.file.getvalue()


def test_the_terminal_shows_the_same_numbers(picture_card, text_card):
    for card in (picture_card, text_card):
        console = Console(file=io.StringIO(), width=120)
        console.print(card)
        shown = console.file.getvalue()
        assert card.address in shown and card.outputs.summary[:40] in shown and card.reproduce in shown
        assert number(card.examples[0].value) in shown


def test_a_dead_unit_says_so():
    card = explain(templates(), "act:2", stimuli=pictures(2), effort=EFFORT)
    assert card.dead and card.examples == () and card.firing_rate.value == 0
    assert card.notes == ("dead on these stimuli: its activation is 0 everywhere",)
    assert card.polysemanticity is None and card.outputs.method == "none"
    assert "dead on these stimuli" in card.to_html()


def test_all_addresses_are_checked_before_anything_runs(monkeypatch):
    network = templates()
    monkeypatch.setattr(type(network), "run", lambda *a, **k: pytest.fail("ran"))
    with pytest.raises(BadInput, match="Unit 99 of act"):
        explain_many(network, ["act:1", "act:99"], stimuli=pictures(1))
    with pytest.raises(UnknownName, match="no site named 'axt'"):
        explain(network, "axt:1", stimuli=pictures(1))
    with pytest.raises(BadInput, match="the set is empty"):
        explain(network, "act:1", stimuli=[])


def test_sites_of_every_kind_give_a_card():
    network = language_model()
    parts = ("0.attn.q", "0.attn.k", "0.attn.pattern", "1.attn.heads", "1.mlp_out", "1.resid")
    sites = ["embed", *(f"layers.{part}" for part in parts), "final", "logits"]
    cards = explain_many(network, [f"{site}:1" for site in sites], stimuli=texts(9), effort=EFFORT)
    methods = {card.address.split(":")[0]: card.outputs.method for card in cards}
    assert methods["embed"] == methods["layers.1.resid"] == methods["final"] == "direct"
    assert {methods[f"layers.{part}"] for part in parts[:4]} == {"ablation"}
    assert methods["logits"] == "none"
    assert all(card.to_html() for card in cards)


def test_units_without_a_known_number_are_checked_after_one_look():
    network = templates()
    unknown = tuple(dataclasses.replace(site, width=None) for site in network.site_list)
    network = dataclasses.replace(network, site_list=unknown, _cache={})
    with pytest.raises(BadInput, match="it has units 0 to 29"):
        explain(network, "act:30", stimuli=pictures(1))


def test_an_atlas_brings_examples_from_stimuli_that_were_not_drawn(tmp_path):
    network, stimuli = templates(), fades(60)
    effort = dataclasses.replace(EFFORT, stimuli=12)
    with Atlas(tmp_path / "atlas") as atlas:
        observe(network, stimuli, sites=["act"], atlas=atlas)
        card = explain(network, "act:0", stimuli=stimuli, atlas=atlas, effort=effort)
        blind = explain(network, "act:0", stimuli=stimuli, effort=effort)
        other = explain(network, "act:0", stimuli=pictures(5), atlas=atlas, effort=effort)
    whole = network.run(network.prepare(list(stimuli)), capture=["act"])["act"][:, 0]
    assert card.examples[0].source == "red 60/60" and card.examples[0].value == pytest.approx(float(whole.max()))
    assert card.distribution.samples == whole.numel() and card.distribution.mean == pytest.approx(
        float(whole.mean()), rel=1e-5
    )
    assert sum(card.distribution.counts) == whole.numel()
    assert dict(card.distribution.quantiles)[0.5] == pytest.approx(float(whole.median()), rel=0.1)
    assert blind.stimuli[2] == 12 and "12 of the set's 61 stimuli" in blind.notes[0]
    assert "all 61 stimuli that the atlas observed" in card.notes[0]
    assert other.distribution.samples == 12 * 16  # an observation of other stimuli is not used
    assert card.firing_rate == blind.firing_rate


def test_numbers_for_readers():
    assert [number(v) for v in (1234567.0, -0.5, float("nan"), 2e-7)] == [
        "1.23·10^6",
        "−0.5",
        "–",
        "2·10^-7".replace("-", "−"),
    ]
    assert percent(0.1234) == "12.3 %"
    assert (
        measured(Measurement(0.5, 0.25, 0.75, 0.1, 0.2, 0.01, 9)) == "0.5 [0.25, 0.75]; null 0.1 ± 0.2; p = 0.01; n = 9"
    )
    assert bar(-2.0, 4.0) == 50.0 and bar(0.0, 0.0) == 0.0


def test_the_histogram_has_log_heights_and_marks_zero():
    chart = histogram(distribution(np.array([[-1.0] + [3.0] * 7])))
    heights = [each["h"] for each in chart["bars"]]
    assert heights[-1] == 76 and heights[0] == pytest.approx(76 * np.log(2) / np.log(8), abs=0.01)
    assert chart["zero"] == 90 and (chart["low"], chart["high"]) == ("−1", "3")


@pytest.mark.zoo
def test_a_real_channel_has_its_card(zoo):
    torch.manual_seed(0)
    from cutaway.stimuli import builtin_photographs

    card = explain(zoo("vgg16-hed"), "conv2_2:7", stimuli=builtin_photographs().take(9), effort=EFFORT)
    assert card.receptive_field == (14, 14) and card.outputs.method == "exact"
    assert {table.title for table in card.weights.outputs} == {"output weights (side2)", "output weights (conv3_1)"}
    assert card.weights.inputs[0].rows[0].name.startswith("conv2_1:")
