"""The Markdown twin: complete, and nothing from outside is markup in it."""

import re
from itertools import pairwise

import pytest

from cutaway.report import render_markdown
from cutaway.report.text import markdown, markdown_block, markdown_code, visible
from tests.report.samples import HOSTILE, bare, hostile, realistic


@pytest.fixture(scope="module")
def text():
    return render_markdown(realistic())


def test_every_finding_is_there_in_full(text):
    for found in realistic().findings:
        assert markdown(found.claim) in text and found.reproduce in text
        assert all(markdown(limit) in text for limit in found.limits)
        assert f'<a id="f-{found.fingerprint}"></a>' in text and f"(#f-{found.fingerprint})" in text
    assert "broker" in text and "0.684 \\[0.541, 0.789\\]" in text


@pytest.mark.parametrize("audit", [realistic, hostile, bare])
def test_every_row_of_a_table_has_as_many_cells_as_its_head(audit):
    blocks = [block for block in render_markdown(audit()).split("\n\n") if block.startswith("|")]
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


def test_hostile_strings_stay_text():
    text = render_markdown(hostile())
    without_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", re.sub(r"```+\w*\n.*?\n```+", "", text, flags=re.S))
    allowed = re.sub(r'<a id="f-[0-9a-f-]+"></a>', "", without_code)
    assert "<" not in allowed and "&lt;script&gt;" in text
    assert "\u202e" not in text


def test_headings_descend_by_one(text):
    levels = [len(found) for found in re.findall(r"^(#+) ", text, re.M)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))


def test_an_empty_audit_says_so():
    text = render_markdown(bare())
    assert "No question was asked, so nothing can be said" in text and "There are no findings." in text


def test_cards_and_reasons_come_along(text):
    assert "### `layers.11.mlp:1798`" in text and "firing rate: 0.0124 \\[0.0110, 0.0139\\]; n = 9,000" in text
    assert "The network has no edge output" in text


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("*x* _y_ `z`", r"\*x\* \_y\_ \`z\`"),
        ("[a](b)", r"\[a\](b)"),
        ("two\nlines", "two lines"),
        ("# no heading", r"\# no heading"),
        ("- no list", "&#8203;- no list"),
        ("1. no list", "&#8203;1. no list"),
        ("@everyone", "&#64;everyone"),
        ("http://x.y", "http:&#8203;//x.y"),
    ],
)
def test_markup_is_escaped(raw, escaped):
    assert markdown(raw) == escaped


def test_code_cannot_be_left():
    assert markdown_code("a`b") == "``a`b``" and markdown_code("`") == "`` ` ``" and markdown_code("") == ""
    assert markdown_block("x\n```\ny").startswith("````\n") and markdown_block("x\n```\ny").endswith("\n````")


def test_hidden_characters_are_shown():
    assert visible("a\u202eb\u200b\x00\n\ud800") == "a<U+202E>b<U+200B><U+0000>\n<U+D800>"
    assert visible("plain ASCII") == "plain ASCII" and visible("Zürich 日本 😀") == "Zürich 日本 😀"
    assert "\u202e" in HOSTILE
