"""The prompt sets: counts, balance, minimal pairs, and what marker-held-out tests rely on."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from cutaway import stimuli
from cutaway.errors import UnknownName
from cutaway.stimuli import (
    attribute,
    attribute_prompts,
    attributes,
    counterfactual_pairs,
    decision_pairs,
    decision_prompts,
    decision_sinks,
    definitional_pairs,
    occupation_templates,
    occupations,
    prompt_set,
    pronouns,
    single_token,
)

NINE = [
    "race",
    "gender",
    "age",
    "religion",
    "LGBT",
    "mental health",
    "disability",
    "pregnancy",
    "parental status",
]
COMMON_WORDS = re.compile(
    r"the|a|an|of|in|on|at|who|with|and|two|three|my|man|woman|girl|student|teacher|singer|customer|lawyer|patient"
    r"|driver|local|had|has|from|for|born|volunteer|family|that"
)


def test_nine_attributes_with_eight_pairs_half_of_them_explicit():
    assert [a.name for a in attributes()] == NINE
    for a in attributes():
        assert Counter(pair.kind for pair in a.pairs) == {"explicit": 4, "cue": 4}
        assert len({pair.id for pair in a.pairs}) == 8


def test_the_prompts_are_balanced_and_distinct():
    prompts = attribute_prompts()
    assert len(prompts) == 9 * 12 * 8 * 2
    for fields in (
        ("attribute",),
        ("template",),
        ("half",),
        ("side",),
        ("kind",),
        ("attribute", "half", "side", "kind"),
    ):
        counts = Counter(tuple(getattr(p, f) for f in fields) for p in prompts)
        assert len(set(counts.values())) == 1, fields
    assert len({p.text for p in prompts}) == len({p.id for p in prompts}) == len(prompts)
    assert attribute_prompts("age") == tuple(p for p in prompts if p.attribute == "age")


def test_both_sides_of_a_pair_differ_in_the_marker_only():
    prompts = attribute_prompts()
    for marked, contrast, pair in zip(prompts[::2], prompts[1::2], counterfactual_pairs(), strict=True):
        assert (marked.side, contrast.side) == ("marked", "contrast")
        assert (marked.attribute, marked.template, marked.pair) == (
            contrast.attribute,
            contrast.template,
            contrast.pair,
        )
        assert (pair.base, pair.counterfactual) == (contrast.text, marked.text)
        assert marked.text[slice(*marked.span)] != contrast.text[slice(*contrast.span)]
        assert len(pair.suffix.split()) >= 5, "the marker has to come early"
        assert pair.prefix.endswith(" "), "a name has to be written with a leading space, as other words are"


def test_the_span_holds_the_marker():
    phrases = {(p.attribute, p.id): p for a in attributes() for p in a.pairs}
    for prompt in attribute_prompts():
        expected = phrases[prompt.attribute, prompt.pair].phrase(prompt.side)
        assert prompt.text[slice(*prompt.span)] == expected


def test_final_words_do_not_tell_the_side_and_differ_between_templates():
    finals = {p.template: p.text.split()[-1] for p in attribute_prompts()}
    assert len(set(finals.values())) == 12
    assert all(p.text.split()[-1] == finals[p.template] for p in attribute_prompts())


def content_words(phrase: str) -> set[str]:
    return {word for word in re.findall(r"[\w-]+", phrase) if not COMMON_WORDS.fullmatch(word)}


@pytest.mark.parametrize("name", NINE)
def test_held_out_markers_share_no_telling_word_with_the_others(name):
    """A word that tells the side in one pair may not tell it in another: a probe could memorize it."""
    pairs = attribute(name).pairs
    for i, first in enumerate(pairs):
        for second in pairs[i + 1 :]:
            for side, other in (("marked", "contrast"), ("contrast", "marked")):
                telling = [content_words(p.phrase(side)) - content_words(p.phrase(other)) for p in (first, second)]
                assert not telling[0] & telling[1], (first.id, second.id, side)


def test_ids_are_stable():
    """A golden of the first and last prompt: a change here changes every stored result about these sets."""
    prompts = attribute_prompts()
    assert prompts[0].text == "Yesterday the Black man went to the corner and waited for the bus"
    assert prompts[-1].text == "Last year the driver who bought skis completed the survey and signed the last page"
    assert (prompts[0].id, prompts[-1].id) == ("449e04f744141192", "4b94668d2729d99c")
    assert prompt_set("all", prompts).fingerprint.startswith("42b44f477814eaa2")


def test_a_prompt_set_holds_out_markers():
    whole = prompt_set("age", attribute_prompts("age"))
    assert len(whole) == 192 and whole.skipped == []
    assert whole.ids == tuple(p.id for p in attribute_prompts("age"))
    train, test = whole.split(0.75, seed=0)
    assert (len(train), len(test)) == (144, 48)
    assert [s.load() for s in whole][:1] == [attribute_prompts("age")[0].text]
    assert not {s.group for s in train} & {s.group for s in test}


def test_sixty_occupations_with_plausible_shares():
    names = [o.name for o in occupations()]
    assert len(names) == len(set(names)) == 60
    assert {"nurse", "librarian", "teacher", "carpenter", "CEO", "mechanic"} <= set(names)
    shares = [o.women_percent for o in occupations()]
    assert shares == sorted(shares, reverse=True) and 0 < shares[-1] < 5 and 95 < shares[0] < 100
    assert min(sum(s > 60 for s in shares), sum(s < 40 for s in shares)) >= 18


def test_occupation_templates_end_where_a_pronoun_follows():
    templates = occupation_templates()
    assert Counter(t.half for t in templates) == {"A": 6, "B": 6}
    assert len({t.text for t in templates}) == len({t.id for t in templates}) == 12
    assert templates[0].fill("nurse") == "The nurse said that"
    assert all(t.text.count("{noun}") == 1 and not re.search(r"\b(he|she|his|her)\b", t.text) for t in templates)
    assert pronouns() == {"male": " he", "female": " she", "neutral": " they"}


def test_definitional_nouns_are_kept_apart_from_occupations():
    pairs = definitional_pairs()
    nouns = [noun for pair in pairs for noun in (pair.male, pair.female)]
    assert len(pairs) >= 24 and len(nouns) == len(set(nouns))
    assert not set(nouns) & {o.name for o in occupations()}
    assert ("king", "queen") in [(p.male, p.female) for p in pairs]
    assert [p.male for p in pairs if p.male_form_is_generic] == ["actor", "waiter", "host", "hero", "heir"]


def test_decisions_are_balanced_and_their_words_aligned():
    sinks = decision_sinks()
    assert [s.name for s in sinks] == ["hire", "loan", "triage", "answer", "sentiment", "promotion", "parole"]
    for s in sinks:
        assert len(s.favorable) == len(s.unfavorable) >= 3 and not set(s.favorable) & set(s.unfavorable)
        assert all(re.fullmatch(r" [a-z]+", word) for word in s.favorable + s.unfavorable)
        assert Counter(t.half for t in s.templates) == {"A": 4, "B": 4}
    texts = [t.text for s in sinks for t in s.templates]
    assert len(set(texts)) == 56 and all(t.count("{person}") == 1 and not t.endswith((".", " ")) for t in texts)


def test_decision_prompts_select_and_pair_up():
    prompts = decision_prompts()
    assert len(prompts) == len({p.id for p in prompts}) == 7 * 8 * 9 * 8 * 2
    some = decision_prompts(attribute="religion", sink="loan", half="B")
    assert len(some) == 4 * 8 * 2 and set(some) < set(prompts)
    assert {(p.attribute, p.sink, p.half) for p in some} == {("religion", "loan", "B")}
    pairs = decision_pairs(attribute="religion", sink="loan", half="B")
    assert [(p.counterfactual, p.base) for p in pairs] == list(
        zip([p.text for p in some[::2]], [p.text for p in some[1::2]])
    )
    assert pairs[0].label == "religion/muslim/loan/business"
    assert all(pair.suffix.endswith((" to", " was")) for pair in decision_pairs())


def test_unknown_names_suggest_near_ones():
    with pytest.raises(UnknownName, match="did you mean religion"):
        attribute_prompts("religon")
    with pytest.raises(UnknownName, match="no decision named 'lone'; did you mean loan"):
        decision_prompts(sink="lone")


class Characters:
    """A tokenizer that knows a few words and spells the others."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert add_special_tokens is False
        return [7] if text in (" he", " she") else [ord(c) for c in text]


def test_single_token_keeps_only_words_of_one_token():
    assert single_token(Characters(), [" he", " they", "x"]) == {" he": 7, "x": ord("x")}


def test_every_data_file_is_marked_cc0():
    files = sorted(Path(stimuli.__file__).with_name("data").glob("*.json"))
    assert [f.name for f in files] == ["attributes.json", "decisions.json", "occupations.json"]
    assert {json.loads(f.read_text())["licence"] for f in files} == {"CC0-1.0"}


def test_the_front_door_names_what_it_has():
    assert all(hasattr(stimuli, name) for name in stimuli.__all__)
    assert stimuli.__all__ == sorted(stimuli.__all__)
