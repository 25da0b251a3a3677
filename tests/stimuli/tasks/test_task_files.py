import json
from pathlib import Path

import pytest

from cutaway.errors import BadFile, BadInput, UnknownName
from cutaway.stimuli.tasks import TaskSet, files, task_file
from tests.stimuli.tasks.tokenizers import words_and_digits

GOOD = [
    {"clean": f"The {a} says", "corrupt": f"The {b} says", "target": f" {c}", "against": f" {d}"}
    for a, b, c, d in [
        ("cow", "dog", "moo", "woof"),
        ("dog", "cow", "woof", "moo"),
        ("cat", "cow", "meow", "moo"),
        ("cat", "dog", "meow", "woof"),
        ("dog", "cat", "woof", "meow"),
    ]
]


@pytest.fixture
def write(tmp_path: Path):
    def written(*lines: object, name: str = "animals.jsonl") -> Path:
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        path = tmp_path / name
        path.write_bytes(b"\n".join(raw))
        return path

    return written


def read(path: Path, **options) -> TaskSet:
    return task_file(path, words_and_digits(), **options)


def test_pairs_come_in_the_order_of_the_lines(write) -> None:
    first = {**GOOD[0], "template": "says", "group": "cow", "split": "test"}
    found = read(write(first, *GOOD[1:]))
    assert (found.name, found.split, found.templates, len(found)) == ("animals", "all", "says", 5)
    assert [pair.clean for pair in found.pairs] == [line["clean"] for line in GOOD]
    assert (found.pairs[0].target, found.pairs[0].against) == (" moo", " woof")
    assert (found.pairs[0].template, found.pairs[0].group, found.pairs[1].group) == ("says", "cow", "")
    assert found.skipped == ()


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_are_no_matter(write) -> None:
    path = write(*GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n  \r\n") + b"\r\n")
    assert len(read(path)) == 5


def test_a_split_keeps_the_lines_that_name_it(write) -> None:
    lines = [{**line, "split": "test" if i < 4 else "train"} for i, line in enumerate(GOOD)]
    found = read(write(*lines), split="test")
    assert (found.split, len(found)) == ("test", 4)
    with pytest.raises(BadInput, match="1 usable pairs of the split 'train' in 1 lines; at least 4 are needed"):
        read(write(*lines), split="train")
    with pytest.raises(UnknownName, match="split named 'tests'"):
        read(write(*lines), split="tests")


DAMAGED = {
    "not-json": (b'{"clean": "a', "not JSON"),
    "not-utf8": (b'{"clean": "\xff"}', "not UTF-8"),
    "zero-bytes": (b"\0\0\0", "not JSON"),
    "array": (["a", "b"], "JSON list where an object"),
    "number": (b"7", "JSON int where an object"),
    "nested": (b"[" * 200_000, "cannot be read"),
    "digits": (b'{"clean": ' + b"9" * 5000 + b"}", "cannot be read"),
    "missing": ({"clean": "a", "corrupt": "b", "target": " c"}, "the field 'against' is missing"),
    "not-a-text": ({**GOOD[0], "target": 7}, "the field 'target' must be a text"),
    "null": ({**GOOD[0], "group": None}, "the field 'group' must be a text"),
    "empty": ({**GOOD[0], "clean": ""}, "the field 'clean' must be a text that is not empty"),
    "surrogate": (b'{"clean": "\\ud800", "corrupt": "b", "target": " c", "against": " d"}', "lone surrogate"),
    "unknown-field": ({**GOOD[0], "taget": " x"}, "unknown field 'taget'"),
    "unknown-split": ({**GOOD[0], "split": "dev"}, "split is 'dev'"),
}


@pytest.mark.parametrize(("line", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_line_is_named_in_one_sentence(write, line: object, message: str) -> None:
    with pytest.raises(BadFile, match=message) as caught:
        read(write(GOOD[0], b"", line, *GOOD[1:]))
    assert str(caught.value).startswith("animals.jsonl, line 3: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


UNSUITABLE = {
    "several-tokens": ({**GOOD[0], "target": " moo moo"}, "target ' moo moo' is not exactly one token"),
    "against-too": ({**GOOD[0], "against": " bow wow"}, "against ' bow wow' is not exactly one token"),
    "merges": ({**GOOD[0], "target": "moo"}, "target 'moo' is not exactly one token after the prompt"),
    "unequal": ({**GOOD[0], "corrupt": "The big dog says"}, "clean has 3 tokens and corrupt 4"),
    "same-prompts": ({**GOOD[0], "corrupt": "The cow says"}, "clean and corrupt are the same tokens"),
    "same-answers": ({**GOOD[0], "against": " moo"}, "target and against are the same token"),
}


@pytest.mark.parametrize(("line", "message"), UNSUITABLE.values(), ids=UNSUITABLE.keys())
def test_a_pair_that_the_tokenizer_cannot_use_is_named(write, line: object, message: str) -> None:
    path = write(*GOOD[1:], line)
    with pytest.raises(BadInput, match=f"animals.jsonl, line 5: {message}"):
        read(path)
    found = read(path, unsuitable="skip")
    assert len(found) == 4
    assert found.skipped[0].source == "animals.jsonl, line 5"
    assert message in found.skipped[0].reason


def test_several_unusable_pairs_are_counted(write) -> None:
    bad = [{**line, "target": " one two"} for line in GOOD[:3]]
    with pytest.raises(BadInput, match=r"line 3: .*\(and 2 more lines cannot be used\)"):
        read(write(*GOOD[3:], *bad))


def test_repeated_prompts_are_left_out_and_said(write) -> None:
    found = read(write(*GOOD, GOOD[1]))
    assert len(found) == 5
    assert [(each.source, each.reason) for each in found.skipped] == [
        ("animals.jsonl, line 6", "the same prompts as line 2")
    ]


def test_too_few_pairs(write) -> None:
    with pytest.raises(BadInput, match="3 usable pairs in 3 lines; at least 4 are needed"):
        read(write(*GOOD[:3]))
    assert len(read(write(*GOOD[:3]), minimum=3)) == 3
    with pytest.raises(BadInput, match="0 usable pairs in 0 lines"):
        read(write(b""), minimum=0)
    with pytest.raises(BadInput, match=r"3 usable pairs in 4 lines, animals.jsonl, line 1 was left out because target"):
        read(write({**GOOD[4], "target": " x y"}, *GOOD[:3]), unsuitable="skip")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no task file"):
        read(tmp_path / "nothing.jsonl")
    with pytest.raises(BadInput, match="There is no task file"):
        read(tmp_path)


def test_a_network_without_a_tokenizer(write) -> None:
    with pytest.raises(BadInput, match="this network has no tokenizer"):
        task_file(write(*GOOD), None)


def test_long_lines_and_many_lines_are_refused(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE", 200)
    with pytest.raises(BadFile, match="line 2: the line is longer than 200 bytes"):
        read(write(GOOD[0], {**GOOD[1], "clean": "x" * 300}, *GOOD[2:]))
    monkeypatch.setattr(files, "MAX_PAIRS", 4)
    with pytest.raises(BadFile, match="line 5: a task file holds at most 4 pairs"):
        read(write(*GOOD))


def test_ids_do_not_depend_on_the_file(write) -> None:
    assert read(write(*GOOD)).ids == read(write(*GOOD, name="other.jsonl")).ids
