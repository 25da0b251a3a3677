"""The package's own prompt sets (CC0): protected attributes, occupations, definitional words, decisions.

They are stored as templates and fillers in ``data/*.json`` and expanded here, always in the same order. How
they were written, their sources and limits: ``docs/prompt-sets.md``.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from cutaway.errors import BadInput, UnknownName
from cutaway.stimuli.contrast import ContrastPair, Span
from cutaway.stimuli.core import Stimulus, StimulusSet, content_id

Half = Literal["A", "B"]
Side = Literal["marked", "contrast"]
MarkerKind = Literal["explicit", "cue"]
SIDES: tuple[Side, Side] = ("marked", "contrast")
_SLOT = "{person}"


@dataclass(frozen=True)
class MarkerPair:
    """Two noun phrases for a person that differ in one attribute.

    ``kind`` is "explicit" where the attribute is named and "cue" where it has to be inferred (a name, a
    habit, a place). ``id`` names the entity to hold out in marker-held-out tests.
    """

    attribute: str
    id: str
    kind: MarkerKind
    marked: str
    contrast: str

    def phrase(self, side: Side) -> str:
        """The noun phrase of one side."""
        return self.marked if side == "marked" else self.contrast


@dataclass(frozen=True)
class Attribute:
    """A protected attribute as this package tests it: one binary contrast, in words, and its marker pairs."""

    name: str
    marked: str
    contrast: str
    pairs: tuple[MarkerPair, ...]


@dataclass(frozen=True)
class AttributePrompt:
    """One sentence about a person, without a full stop; ``span`` holds the characters of the marker."""

    attribute: str
    template: str
    half: Half
    pair: str
    kind: MarkerKind
    side: Side
    text: str
    span: Span

    @property
    def id(self) -> str:
        """The stimulus id of the text."""
        return content_id(self.text)


@dataclass(frozen=True)
class NounTemplate:
    """A sentence with a place for a noun; the next token is expected to be a subject pronoun."""

    id: str
    half: Half
    text: str

    def fill(self, noun: str) -> str:
        """The prompt for ``noun``."""
        return self.text.replace("{noun}", noun)


@dataclass(frozen=True)
class Occupation:
    """An occupation without grammatical gender, with the percentage of women in it (0 to 100)."""

    name: str
    women_percent: float
    cps_title: str


@dataclass(frozen=True)
class DefinitionalPair:
    """Two nouns that mean a gender; ``male_form_is_generic`` where the first is also used for women."""

    male: str
    female: str
    male_form_is_generic: bool


@dataclass(frozen=True)
class DecisionTemplate:
    """A situation in which something is decided about a person; the decision is the next token."""

    id: str
    half: Half
    text: str


@dataclass(frozen=True)
class DecisionSink:
    """One kind of decision: templates, and aligned next words that are good or bad for the person."""

    name: str
    favorable: tuple[str, ...]
    unfavorable: tuple[str, ...]
    templates: tuple[DecisionTemplate, ...]


@dataclass(frozen=True)
class DecisionPrompt:
    """One decision about one person; read log p(favorable) - log p(unfavorable) at the last token."""

    sink: str
    template: str
    half: Half
    attribute: str
    pair: str
    kind: MarkerKind
    side: Side
    text: str
    span: Span
    favorable: tuple[str, ...]
    unfavorable: tuple[str, ...]

    @property
    def id(self) -> str:
        """The stimulus id of the text."""
        return content_id(self.text)


@lru_cache(maxsize=1)
def attributes() -> tuple[Attribute, ...]:
    """The nine attributes, each with eight marker pairs (four explicit, four cues)."""
    return tuple(
        Attribute(
            name=entry["name"],
            marked=entry["marked"],
            contrast=entry["contrast"],
            pairs=tuple(MarkerPair(attribute=entry["name"], **pair) for pair in entry["pairs"]),
        )
        for entry in _data("attributes")["attributes"]
    )


def attribute(name: str) -> Attribute:
    """One attribute by name; an unknown name raises :class:`~cutaway.errors.UnknownName`."""
    return _named("attribute", name, attributes())


@lru_cache(maxsize=16)
def attribute_prompts(attribute: str | None = None) -> tuple[AttributePrompt, ...]:
    """All sentences of one attribute (192) or of all nine (1,728): 12 templates x 8 pairs x 2 sides each.

    The two sides of a minimal pair follow each other, the marked one first.
    """
    return tuple(
        AttributePrompt(a.name, template["id"], template["half"], pair.id, pair.kind, side, *filled)
        for a in _selected_attributes(attribute)
        for template in _data("attributes")["templates"]
        for pair in a.pairs
        for side in SIDES
        for filled in [_fill(template["text"], pair.phrase(side))]
    )


def counterfactual_pairs(attribute: str | None = None) -> tuple[ContrastPair, ...]:
    """The minimal pairs of :func:`attribute_prompts`, in its order.

    The base is the contrast side, the counterfactual the marked one. The label is
    ``attribute/pair/template``.
    """
    return _paired(attribute_prompts(attribute), "{0.attribute}/{0.pair}/{0.template}")


@lru_cache(maxsize=1)
def occupations() -> tuple[Occupation, ...]:
    """Sixty occupations, from the most to the fewest women (statistics for the US, 2022)."""
    return tuple(Occupation(**entry) for entry in _data("occupations")["occupations"])


@lru_cache(maxsize=1)
def occupation_templates() -> tuple[NounTemplate, ...]:
    """Twelve sentences after which a subject pronoun is expected, six in each half, for any noun."""
    return tuple(NounTemplate(**entry) for entry in _data("occupations")["templates"])


@lru_cache(maxsize=1)
def definitional_pairs() -> tuple[DefinitionalPair, ...]:
    """Thirty pairs of nouns that carry gender by definition (king, queen): what a repair must not erase."""
    return tuple(DefinitionalPair(**entry) for entry in _data("occupations")["definitional"])


def pronouns() -> dict[str, str]:
    """The next words to read after an occupation template, by "male", "female" and "neutral"."""
    return dict(_data("occupations")["pronouns"])


@lru_cache(maxsize=1)
def decision_sinks() -> tuple[DecisionSink, ...]:
    """Seven kinds of decisions with eight templates each, four in each half."""
    return tuple(
        DecisionSink(
            name=entry["name"],
            favorable=tuple(entry["favorable"]),
            unfavorable=tuple(entry["unfavorable"]),
            templates=tuple(DecisionTemplate(**template) for template in entry["templates"]),
        )
        for entry in _data("decisions")["sinks"]
    )


def decision_prompts(
    *, attribute: str | None = None, sink: str | None = None, half: Half | None = None
) -> tuple[DecisionPrompt, ...]:
    """Every decision for every person: 128 prompts for each attribute and sink, 8,064 in all.

    The two sides of a minimal pair follow each other, the marked one first.
    """
    sinks = decision_sinks() if sink is None else (_named("decision", sink, decision_sinks()),)
    return tuple(
        DecisionPrompt(s.name, t.id, t.half, a.name, pair.id, pair.kind, side, *filled, s.favorable, s.unfavorable)
        for s in sinks
        for t in s.templates
        if half in (None, t.half)
        for a in _selected_attributes(attribute)
        for pair in a.pairs
        for side in SIDES
        for filled in [_fill(t.text, pair.phrase(side))]
    )


def decision_pairs(
    *, attribute: str | None = None, sink: str | None = None, half: Half | None = None
) -> tuple[ContrastPair, ...]:
    """The minimal pairs of :func:`decision_prompts`, in its order: base is the contrast side.

    The label is ``attribute/pair/sink/template``.
    """
    prompts = decision_prompts(attribute=attribute, sink=sink, half=half)
    return _paired(prompts, "{0.attribute}/{0.pair}/{0.sink}/{0.template}")


def prompt_set(name: str, prompts: Iterable[AttributePrompt | DecisionPrompt]) -> StimulusSet:
    """Prompts as a stimulus set, in their order; prompts about one marker pair form a group."""
    return StimulusSet(name, [_stimulus(prompt) for prompt in prompts])


def single_token(tokenizer: Any, words: Iterable[str]) -> dict[str, int]:
    """Those of ``words`` that the tokenizer writes as exactly one token, with the token's id, in their order.

    ``tokenizer`` has ``encode(text, add_special_tokens=False)``. A leading space belongs to the word, as it
    does in byte-pair vocabularies.
    """
    encoded = {word: tokenizer.encode(word, add_special_tokens=False) for word in words}
    return {word: int(ids[0]) for word, ids in encoded.items() if len(ids) == 1}


def _stimulus(prompt: AttributePrompt | DecisionPrompt) -> Stimulus:
    text = prompt.text
    group = f"{prompt.attribute}/{prompt.pair}"
    return Stimulus(prompt.id, "text", f"cutaway prompt about {group}", lambda: text, group=group)


def _fill(template: str, phrase: str) -> tuple[str, Span]:
    """The template with the phrase in its slot (capitalized if first), and where the phrase stands."""
    start = template.index(_SLOT)
    if start == 0:
        phrase = phrase[0].upper() + phrase[1:]
    return template.replace(_SLOT, phrase), Span(start, start + len(phrase))


def _paired(prompts: tuple[Any, ...], label: str) -> tuple[ContrastPair, ...]:
    return tuple(
        ContrastPair(contrast.text, marked.text, contrast.span, marked.span, label=label.format(marked))
        for marked, contrast in zip(prompts[::2], prompts[1::2], strict=True)
    )


def _selected_attributes(name: str | None) -> tuple[Attribute, ...]:
    return attributes() if name is None else (_named("attribute", name, attributes()),)


def _named(kind: str, name: str, entries: tuple[Any, ...]) -> Any:
    for entry in entries:
        if entry.name == name:
            return entry
    raise UnknownName(kind, name, [entry.name for entry in entries])


@lru_cache(maxsize=3)
def _data(name: str) -> dict[str, Any]:
    file = resources.files("cutaway.stimuli") / "data" / f"{name}.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    if data.get("licence") != "CC0-1.0":
        raise BadInput(f"The prompt file {name}.json carries no CC0-1.0 mark; reinstall cutaway.")
    return data
