"""The HTML report: self-contained, well-formed, accessible, and deaf to hostile strings."""

import re
from itertools import pairwise

import pytest

from cutaway.audits.findings import NotFound, NotTestable, RuleResult, Table
from cutaway.evidence.measurement import Measurement
from cutaway.report import render_html
from cutaway.report.cards import card_anchor
from tests.report.pages import Page
from tests.report.samples import HOSTILE, bare, finding, hostile, realistic


@pytest.fixture(scope="module")
def source():
    return render_html(realistic())


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


AUDITS = [realistic, hostile, bare]


@pytest.mark.parametrize("audit", AUDITS)
def test_nothing_is_loaded_and_nothing_runs(audit):
    page = Page(render_html(audit()))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "video", "audio"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "action", "srcset", "xlink:href", "data", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), (tag, attributes)


def test_the_page_forbids_itself_scripts_and_loads(source, page):
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "img-src data:" in policy and "script-src" not in policy
    style = re.search(r"<style>(.*?)</style>", source, re.S)
    assert style and "url(" not in style[1] and "@import" not in style[1]


@pytest.mark.parametrize("audit", AUDITS)
def test_tags_nest_and_ids_are_unique_and_links_arrive(audit):
    page = Page(render_html(audit()))
    assert page.misnested == []
    assert len(page.ids()) == len(set(page.ids()))
    for link in page.all("a"):
        assert link["href"][1:] in page.ids()
    for _, attributes in page.elements:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(page.ids())


@pytest.mark.parametrize("audit", AUDITS)
def test_headings_descend_by_one(audit):
    headings = Page(render_html(audit())).headings
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))


def test_landmarks_captions_and_alternatives(page):
    assert len(page.all("main")) == len(page.all("nav")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(image["alt"] for image in page.all("img"))
    assert all("aria-labelledby" in svg or svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    assert page.all("html") == [{"lang": "en"}]


def test_hostile_strings_stay_text():
    source = render_html(hostile())
    assert "<script" not in source and "onerror=alert" in Page(source).text
    assert "\u202e" not in source and "\x07" not in source and "<U+202E>" in Page(source).text
    assert Page(source).text.count("<script>alert('x')</script>") > 25
    assert len(Page(source).all("img")) == 2  # the figures, as data


def test_every_finding_is_there_in_full(page):
    for found in realistic().findings:
        assert found.claim in page.text and found.reproduce in page.text and found.effect_name in page.text
        assert f"f-{found.fingerprint}" in page.ids()
        assert all(limit in page.text for limit in found.limits)
        assert all(control.name in page.text and control.meaning in page.text for control in found.controls)
    assert "broker" in page.text  # the sixtieth row


def test_numbers_not_found_and_reasons_are_shown(page):
    assert "0.031 [−0.070, 0.130]" in page.text and "The network has no edge output" in page.text
    assert "2.84 %" in page.text and "5 min 12 s" in page.text and "2026-03-01 12:30 UTC" in page.text


def test_cards_are_shown_and_findings_lead_to_them(source, page):
    assert source.count('class="card-line"') == 6
    assert source.count("<style>") == 1 and source.count(".card-line {}") == 1  # six cards, one sheet, in the head
    assert any(link["href"] == "#card-at-layers-2e-11-2e-mlp-3a-1798" for link in page.all("a"))


def test_a_table_leads_to_the_cards_of_its_addresses():
    table = Table("Units", ("unit",), (("layers.3.mlp:1022",), ("layers.3.mlp:1",)))
    audit = bare(cards=realistic().cards[:1], results=(RuleResult("r", "Why?", tables=(table,)),))
    links = [link["href"] for link in Page(render_html(audit)).all("a")]
    assert links.count(f"#{card_anchor('layers.3.mlp:1022')}") == 2  # contents and table
    assert f"#{card_anchor('layers.3.mlp:1')}" not in links


def test_findings_of_one_place_have_their_own_anchors():
    twins = (finding("One."), finding("Two."))
    ids = Page(render_html(bare(results=(RuleResult("toy-rule", "Why?", twins),)))).ids()
    assert f"f-{twins[0].fingerprint}" in ids and f"f-{twins[0].fingerprint}-2" in ids


def test_an_empty_audit_says_so():
    text = Page(render_html(bare())).text
    assert "No question was asked, so nothing can be said about this network." in text
    assert "Findings in full" not in text and "Feature cards" not in text


def test_an_audit_that_could_test_nothing_gives_the_reason():
    reason = NotTestable("edges", "Where are edges?", "This network sees no pictures.")
    text = Page(render_html(bare(results=(RuleResult("edges", "Where are edges?", not_testable=(reason,)),)))).text
    assert "Nothing could be tested" in text and "This network sees no pictures." in text


def test_a_control_that_failed_is_told_in_words(page):
    assert page.text.count("✕ failed") == 1 and page.text.count("✓ passed") == 4


def test_the_same_audit_gives_the_same_page(source):
    assert render_html(realistic()) == source


def test_a_lone_surrogate_does_not_stop_a_report():
    missed = NotFound("r", "Why?", "\ud800", (("\udfff", Measurement(1.0)),))
    audit = bare(results=(RuleResult("r", "Why?", not_found=(missed,)),))
    assert "<U+D800>" in Page(render_html(audit).encode().decode()).text


def test_colours_have_the_contrast_of_level_aa(source):
    style = source[source.index(":root") : source.index("* { box-sizing")]
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for palette in (light, dark):
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", palette))
        for name in ("ink", "soft", "link", "critical", "high", "medium", "low", "note", "good", "null"):
            for ground in ("ground", "panel"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(one: str, other: str) -> float:
    """WCAG 2.1, definition of contrast ratio."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_contrast_formula():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_hostile_is_hostile():
    assert HOSTILE.startswith("<script>")  # the tests above mean something
