import re
import subprocess
import sys
from collections import Counter

import pytest

from cutaway.errors import BadInput, CutawayError, NotTestable, UnknownName
from cutaway.stimuli.core import content_id
from cutaway.stimuli.tasks import (
    SPLITS,
    TASKS,
    TaskPair,
    TaskSet,
    continuation,
    part_of,
    task,
    task_family,
    task_names,
    unfit,
)
from cutaway.stimuli.tasks.family import words
from tests.stimuli.tasks.tokenizers import syllables, whitespace, words_and_digits, words_and_pairs_of_digits

NAMES = (
    "antonym", "capital-of", "docstring", "gendered-pronoun", "greater-than", "induction", "ioi",
    "subject-verb-agreement",
)  # fmt: skip
EVERY_SET = [(name, templates) for name in NAMES for templates in "ab"]


def made(name: str, templates: str = "a", *, count: int = 24, split: str = "train", seed: int = 0) -> TaskSet:
    return task(name, words_and_digits(), count=count, split=split, templates=templates, seed=seed)


def said(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def check_contract(found: TaskSet, tokenizer) -> None:
    """What every pair of every built-in task promises for any tokenizer."""
    assert len(set(found.ids)) == len({(pair.clean, pair.corrupt) for pair in found.pairs}) == len(found)
    for pair in found.pairs:
        clean, corrupt = (tokenizer.encode(text, add_special_tokens=False) for text in (pair.clean, pair.corrupt))
        assert len(clean) == len(corrupt)
        assert clean != corrupt
        assert clean[0] == corrupt[0], "the first position is where attention rests: nothing is exchanged there"
        for word in (pair.target, pair.against):
            assert tokenizer.encode(pair.clean + word, add_special_tokens=False)[:-1] == clean
        assert continuation(tokenizer, pair.clean, pair.target) != continuation(tokenizer, pair.clean, pair.against)
        assert pair.template.startswith(found.templates)
        assert pair.group


def test_the_tasks_are_there() -> None:
    assert set(NAMES) <= set(task_names())
    assert all({"a", "b"} <= set(TASKS[name].templates) for name in NAMES)
    assert all(TASKS[name].question.endswith("?") for name in NAMES)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("name", "templates"), EVERY_SET)
def test_pairs_keep_what_is_promised(name: str, templates: str, split: str) -> None:
    tokenizer = words_and_digits()
    found = task(name, tokenizer, count=32, split=split, templates=templates)
    assert len(found) == 32
    check_contract(found, tokenizer)
    assert (found.name, found.split, found.templates, found.seed) == (name, split, templates, 0)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "greater-than"])
def test_a_whitespace_tokenizer_will_do(name: str) -> None:
    tokenizer = whitespace()
    check_contract(task(name, tokenizer, count=16), tokenizer)


@pytest.mark.parametrize(("name", "templates"), EVERY_SET)
def test_words_of_several_tokens_are_left_out_or_matched(name: str, templates: str) -> None:
    tokenizer = syllables()
    try:
        found = task(name, tokenizer, count=8, templates=templates)
    except CutawayError as error:
        assert re.search(r"different pairs for this tokenizer|no pair that this tokenizer can use", str(error))
    else:
        check_contract(found, tokenizer)


def test_some_candidates_of_several_tokens_are_reported_with_their_reason() -> None:
    found = task("capital-of", syllables(), count=4)
    assert any(re.search(r"is not exactly one token after the prompt", each.reason) for each in found.skipped)
    assert all(each.source and each.reason for each in found.skipped)


@pytest.mark.parametrize(("name", "templates"), EVERY_SET)
def test_the_same_arguments_give_the_same_pairs(name: str, templates: str) -> None:
    first, again, longer = (made(name, templates, count=n) for n in (12, 12, 20))
    assert first == again
    assert longer.pairs[:12] == first.pairs
    assert made(name, templates, count=12, seed=1).ids != first.ids
    assert made(name, "b" if templates == "a" else "a", count=12).ids != first.ids


def test_ids_depend_on_what_is_shown_only() -> None:
    pair = TaskPair("a b", "c b", " d", " e", "a1", "g")
    assert pair.id == TaskPair("a b", "c b", " d", " e").id == content_id("a b\x1fc b\x1f d\x1f e")
    assert pair.id != TaskPair("a b", "c b", " e", " d").id
    assert TaskPair("a", "b c", " d", " e").id != TaskPair("a b", "c", " d", " e").id


@pytest.mark.parametrize(("name", "templates"), EVERY_SET)
def test_wordings_come_equally_often(name: str, templates: str) -> None:
    counts = Counter(pair.template[:2] for pair in made(name, templates).pairs)
    assert len(counts) == len(TASKS[name].templates[templates])
    assert max(counts.values()) - min(counts.values()) <= 4


@pytest.mark.parametrize(("name", "templates"), EVERY_SET)
def test_splits_share_no_content_words(name: str, templates: str) -> None:
    of_split = {split: content(made(name, templates, count=64, split=split)) for split in SPLITS}
    assert all(of_split.values())
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert of_split[one] & of_split[other] == set()


def content(found: TaskSet) -> set[str]:
    """Words of the prompts and answers that the wording does not bring along; years and verbs cannot be split."""
    frame = " ".join(text for texts in TASKS[found.name].templates.values() for text in texts)
    shared = set(said(frame)) | {"is", "are", "was", "were", "has", "have", "she", "he"}
    if found.name == "docstring":  # what the arguments are said to be is filler
        shared |= set(said(" ".join(words("descriptions"))))
    every = {word for pair in found.pairs for word in said(f"{pair.clean} {pair.corrupt}{pair.target}{pair.against}")}
    pieces = {piece for word in every for piece in word.split("_")}
    return {word.lower() for word in pieces if not any(c.isdigit() for c in word)} - {w.lower() for w in shared}


def test_parts_of_a_list_are_disjoint_and_complete() -> None:
    listed = list(range(13))
    parts = {split: part_of(listed, split) for split in SPLITS}
    assert parts == {"train": (0, 1, 2, 5, 6, 7, 10, 11, 12), "validation": (3, 8), "test": (4, 9)}


@pytest.mark.parametrize("listed", ["women", "men", "capitals", "antonyms", "people", "items", "nouns", "arguments"])
def test_no_word_is_twice_in_a_list(listed: str) -> None:
    flat = [word for entry in words(listed) for word in ((entry,) if isinstance(entry, str) else entry)]
    assert sorted(flat) == sorted(set(flat))


def test_ioi_asks_for_the_name_that_occurs_once() -> None:
    for templates in "ab":
        for pair in made("ioi", templates).pairs:
            receiver, giver = pair.target.strip(), pair.against.strip()
            clean, corrupt = Counter(said(pair.clean)), Counter(said(pair.corrupt))
            assert (clean[receiver], clean[giver]) == (1, 2)
            assert (corrupt[receiver], corrupt[giver]) == (1, 1)
            order = "ABBA" if pair.clean.index(receiver) < pair.clean.index(giver) else "BABA"
            assert pair.template.endswith(order)
    assert {p.template for p in made("ioi", "b").pairs} == {f"b{i}-{o}" for i in range(1, 5) for o in ("ABBA", "BABA")}


@pytest.mark.parametrize(("tokenizer", "digits"), [(words_and_digits(), 1), (words_and_pairs_of_digits(), 2)])
def test_greater_than_fits_the_way_a_tokenizer_writes_years(tokenizer, digits: int) -> None:
    for templates in "ab":
        for pair in task("greater-than", tokenizer, count=40, templates=templates).pairs:
            (century, start), (_, low) = (
                re.search(r"(\d\d)(\d\d)", text).groups() for text in (pair.clean, pair.corrupt)
            )
            assert pair.clean.endswith(century)
            assert len(pair.target) == len(pair.against) == digits
            begin = int(start[:digits])
            assert int(pair.against) < begin < int(pair.target)
            assert int(low[:digits]) < int(pair.against), "after the corrupt prompt both answers are possible"


def test_greater_than_needs_a_tokenizer_that_splits_years() -> None:
    with pytest.raises(
        NotTestable, match=r"'greater-than' .* no pair that this tokenizer can use .*not exactly one token"
    ):
        task("greater-than", whitespace(), count=8)


def test_docstring_asks_for_the_next_argument() -> None:
    for templates in "ab":
        for pair in made("docstring", templates).pairs:
            signature, damaged = (re.search(r"\((.*)\)", text).group(1) for text in (pair.clean, pair.corrupt))
            arguments = [each for each in signature.split(", ") if each != "self"]
            documented = re.findall(r"[:@]param (\w+):", pair.clean)
            assert arguments[:2] == documented
            assert pair.target == f" {arguments[2]}"
            assert pair.against.strip() in {*arguments} - {arguments[2]}
            assert arguments[2] not in damaged.split(", ")
            assert pair.clean.rpartition('"""')[2] == pair.corrupt.rpartition('"""')[2]


def test_induction_asks_for_what_followed_the_first_time() -> None:
    for templates in "ab":
        for pair in made("induction", templates).pairs:
            clean, corrupt = said(pair.clean), said(pair.corrupt)
            assert clean.count(clean[-1]) == 2
            assert clean[clean.index(clean[-1]) + 1] == pair.target.strip()
            assert corrupt[-1] == clean[-1]
            assert corrupt.count(corrupt[-1]) == 1, "the last word has no first time"
            assert {pair.target.strip(), pair.against.strip()} <= set(corrupt)


def test_pronouns_follow_the_name_and_both_come_equally_often() -> None:
    gender = dict.fromkeys(words("women"), " she") | dict.fromkeys(words("men"), " he")
    for templates in "ab":
        pairs = made("gendered-pronoun", templates).pairs
        assert Counter(pair.target for pair in pairs) == {" she": 12, " he": 12}
        for pair in pairs:
            (name,), (other,) = ([w for w in said(text) if w in gender] for text in (pair.clean, pair.corrupt))
            assert (gender[name], gender[other]) == (pair.target, pair.against)


def test_capitals_and_opposites_answer_their_own_prompt() -> None:
    capitals = dict(words("capitals"))
    opposites = dict(words("antonyms")) | {b: a for a, b in words("antonyms")}
    assert (capitals["France"], capitals["Japan"], opposites["hot"], opposites["slow"]) == (
        "Paris",
        "Tokyo",
        "cold",
        "fast",
    )
    for name, facts in (("capital-of", capitals), ("antonym", opposites)):
        for pair in (*made(name, "a").pairs, *made(name, "b").pairs):
            (key,) = set(said(pair.clean)) - set(said(pair.corrupt))
            (other,) = set(said(pair.corrupt)) - set(said(pair.clean))
            assert (facts[key], facts[other]) == (pair.target.strip(), pair.against.strip())


def test_verbs_agree_with_the_subject_not_with_the_nearest_noun() -> None:
    singular = {" is", " was", " has"}
    distracted = 0
    for templates in "ab":
        for pair in made("subject-verb-agreement", templates, count=60).pairs:
            subject, *_, last = said(pair.clean)[1:]
            assert (pair.target in singular) == (not subject.endswith(("s", "xes")))
            assert (pair.against in singular) != (pair.target in singular)
            assert {said(pair.corrupt)[1], subject} <= {
                subject,
                f"{subject}s",
                subject[:-1],
                f"{subject}es",
                subject[:-2],
            }
            distracted += last.endswith("s") == (pair.target in singular)
    assert 30 < distracted < 90, "the nearest noun disagrees about half the time"


def test_names_that_are_not_there() -> None:
    tokenizer = whitespace()
    with pytest.raises(UnknownName, match="task named 'iou'; did you mean ioi"):
        task("iou", tokenizer)
    with pytest.raises(UnknownName, match="split named 'tset'; did you mean test"):
        task("ioi", tokenizer, split="tset")
    with pytest.raises(UnknownName, match=r"template set named 'c'.*has a, b"):
        task("ioi", tokenizer, templates="c")
    with pytest.raises(BadInput, match="0 pairs of 'ioi'"):
        task("ioi", tokenizer, count=0)
    with pytest.raises(BadInput, match="has none; load it with its tokenizer"):
        task("ioi", None)


def test_more_pairs_than_there_are() -> None:
    with pytest.raises(
        BadInput, match=r"'capital-of' \(split test, templates a\) has \d+ different pairs .* 9999 were asked"
    ):
        task("capital-of", whitespace(), count=9999, split="test")


def test_a_continuation_leaves_the_tokens_of_the_prompt_alone() -> None:
    tokenizer = words_and_pairs_of_digits()
    assert continuation(tokenizer, "in 17", "60") == tokenizer.known["60"]
    assert continuation(tokenizer, "in 17", "6") == tokenizer.known["6"]
    assert continuation(tokenizer, "in 5", "678") is None, "56, 78: one token more, but the 5 is gone"
    assert continuation(tokenizer, "in 5", "6") is None, "56"
    assert continuation(tokenizer, "in", " the year") is None


@pytest.fixture
def echo():
    """A task of a stranger, gone after the test."""
    listed = ["yes", "no", "maybe", "well", "fine", "right", "good", "bad", "nice", "sure", "wow", "oh"]

    @task_family("echo", question="Which word was said?", templates={"a": ("You said {}. I heard",)})
    def make(draw):
        word, other = draw.some(listed, 2)
        label, text = draw.template()
        return TaskPair(text.format(word), text.format(other), f" {word}", f" {other}", label, word)

    yield make
    del TASKS._entries["echo"]


def test_a_stranger_adds_a_task(echo) -> None:
    assert "echo" in task_names()
    found = task("echo", words_and_digits(), count=5)
    check_contract(found, found_with := words_and_digits())
    assert found_with.known
    with pytest.raises(CutawayError, match="registered already"):
        task_family("echo", question="?", templates={})(echo)
    with pytest.raises(UnknownName, match="has a"):
        task("echo", whitespace(), templates="b")
    with pytest.raises(NotTestable, match="no pair that this tokenizer"):
        task("echo", syllables_of_one_letter(), count=2)


def syllables_of_one_letter():
    from tests.stimuli.tasks.tokenizers import Pattern

    return Pattern(r".")


def test_a_strangers_pair_whose_words_shift_places_is_left_out() -> None:
    @task_family("shifted", question="?", templates={"a": ("",)})
    def make(draw):
        # equally many tokens in all, but the exchanged words are of one and two tokens, then of two and one
        other = draw.choose(["one", "two", "ten", "six"])
        return TaskPair(f"{other} ab abcdef", f"{other} abcdef ab", " x", " y", "a1", other)

    try:
        with pytest.raises(NotTestable, match="exchanged words differ in tokens"):
            task("shifted", syllables(), count=2)
        assert unfit(TaskPair("one ab abcdef", "one abcdef ab", " x", " y"), syllables()) == ""
    finally:
        del TASKS._entries["shifted"]


@pytest.mark.zoo
@pytest.mark.parametrize(("name", "templates"), EVERY_SET)
def test_every_task_works_with_the_tokenizer_of_a_language_model(zoo, name: str, templates: str) -> None:
    tokenizer = zoo("smollm2-135m").tokenizer
    for split in SPLITS:
        found = task(name, tokenizer, count=32, split=split, templates=templates)
        check_contract(found, tokenizer)
        answers = [word for pair in found.pairs for word in (pair.target, pair.against)]
        assert all(len(tokenizer.encode(word, add_special_tokens=False)) == 1 for word in answers)
        assert name == "greater-than" or all(word.startswith(" ") for word in answers)


def test_tasks_load_no_torch() -> None:
    code = "import cutaway.stimuli.tasks, sys; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
