"""A real feature card inside a report."""

from itertools import pairwise

import pytest

from cutaway.evidence.measurement import Measurement
from cutaway.report import document, render_html, render_markdown
from cutaway.report.cards import Card, card_anchor
from tests.report.pages import Page
from tests.report.samples import HOSTILE, bare


@pytest.fixture(scope="module")
def card():
    from cutaway.features import Distribution, Example, FeatureCard, Outputs, Weights

    return FeatureCard(
        address="layers.5.mlp:731",
        network="toy",
        fingerprint="0" * 64,
        site_kind="mlp",
        site_layout="batch pos unit",
        stimuli=("texts", "1" * 64, 12),
        seed=0,
        examples=(
            Example("id", HOSTILE, 2.0, "top", (1,), tokens=("a", HOSTILE), activations=(0.1, 2.0), highlight=1),
        ),
        firing_rate=Measurement(0.0124, 0.011, 0.0139, 0.02, 0.01, 0.4, 12),
        firing_threshold=0.5,
        distribution=Distribution((3, 1), (0.0, 1.0, 2.0), ((0.5, 0.4),), 0.5, 0.6, 4),
        outputs=Outputs("none", HOSTILE, reason=HOSTILE),
        weights=Weights(),
        polysemanticity=None,
    )


def test_it_is_what_the_report_asks_of_a_card(card):
    assert isinstance(card, Card)


def test_it_stands_in_the_page_without_breaking_it(card):
    source = render_html(bare(cards=(card,)))
    page = Page(source)
    assert page.misnested == [] and len(page.ids()) == len(set(page.ids()))
    assert card_anchor(card.address) in page.ids() and not page.all("script") and not page.all("img")
    assert source.count("<style>") == 1 and ".card-feature" in source[: source.index("</style>")]
    assert all(after <= before + 1 for before, after in pairwise(page.headings))


def test_its_twins_hold_its_measurements(card):
    assert "firing rate: 0.0124 \\[0.0110, 0.0139\\]; null 0.020 ± 0.010" in render_markdown(bare(cards=(card,)))
    assert document(bare(cards=(card,)))["cards"][0]["card"]["firing_rate"]["n"] == 12
