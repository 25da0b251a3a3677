"""Passages from files and folders, hostile bytes, and the standard library's documentation."""

import ast
import bisect
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.errors import BadFile, BadInput
from cutaway.stimuli import builtin_text, text_file, text_folder
from cutaway.stimuli.text import _words

SENTENCE = "One two three four five six seven eight nine ten."


def contents(found) -> list[str]:
    return [stimulus.load() for stimulus in found]


def test_a_passage_ends_at_the_first_sentence_end_after_enough_words(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join([f"{i} {SENTENCE}" for i in range(4)]))
    found = text_file(tmp_path / "a.txt", words=12)
    assert contents(found) == [
        f"0 {SENTENCE} 1 One two three four five six",
        f"seven eight nine ten. 2 {SENTENCE}",
        f"3 {SENTENCE}",
    ]
    assert [s.group for s in found] == ["a.txt"] * 3


def test_a_paragraph_end_ends_a_full_passage_and_headings_join_what_follows(tmp_path):
    (tmp_path / "a.txt").write_text(f"Title\n\n{SENTENCE}\n  \n{SENTENCE[:-1]} eleven\n\nlast words")
    found = text_file(tmp_path / "a.txt", words=10)
    assert contents(found) == [f"Title {SENTENCE}", f"{SENTENCE[:-1]} eleven", "last words"]
    assert found[0].source == f"a.txt (bytes 0-{len(SENTENCE) + 7})"


def test_a_passage_is_never_longer_than_one_and_a_half_times_the_wish(tmp_path):
    (tmp_path / "a.txt").write_text(" ".join(f"w{i}" for i in range(1000)))
    assert [len(t.split()) for t in contents(text_file(tmp_path / "a.txt", words=20))] == [30] * 33 + [10]


def test_a_passage_that_is_not_utf8_is_skipped_and_counted(tmp_path):
    good = SENTENCE.encode()
    (tmp_path / "a.txt").write_bytes(b"0 " + good + b"\n\n1 caf\xe9 " + good + b"\n\n2 " + good)
    found = text_file(tmp_path / "a.txt", words=10)
    assert contents(found) == [f"0 {SENTENCE}", f"2 {SENTENCE}"]
    assert [skip.reason for skip in found.skipped] == [f"byte {len(good) + 9} is not UTF-8"]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", BadInput, "is empty; give a file with text"),
        (b" \n\n ", BadInput, "is empty"),
        (b"\xff\xfe\xfa", BadInput, "byte 0 is not UTF-8"),
        (b"text\0text", BadFile, "zero bytes"),
        (b"*** --- \x1c", BadInput, "bytes 0 to 9 hold no word"),
    ],
)
def test_a_file_without_usable_text_is_one_clear_error(tmp_path, content, error, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(error, match=message):
        text_file(tmp_path / "a.txt")


def test_absent_paths_and_silly_sizes_are_refused(tmp_path):
    with pytest.raises(BadInput, match="There is no text file"):
        text_file(tmp_path / "absent.txt")
    with pytest.raises(BadInput, match="There is no folder"):
        text_folder(tmp_path / "absent")
    with pytest.raises(BadInput, match="holds no text file"):
        text_folder(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(BadInput, match="ask for at least 8"):
        text_file(tmp_path / "a.txt", words=1)


def test_a_folder_skips_what_is_no_text_and_groups_by_file(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.md").write_text("second file")
    (tmp_path / "a.txt").write_text("first file")
    (tmp_path / "sub" / "c.rst").write_text("third file")
    (tmp_path / "bad.txt").write_bytes(b"\0\1")
    (tmp_path / "image.png").write_bytes(b"ignored")
    found = text_folder(tmp_path)
    assert contents(found) == ["first file", "second file", "third file"]
    assert [s.group for s in found] == ["a.txt", "b.md", "sub/c.rst"]
    assert [skip.source for skip in found.skipped] == ["bad.txt"]


def test_a_folder_with_only_binary_files_is_one_clear_error(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"\0\1")
    with pytest.raises(BadInput, match="no usable passage"):
        text_folder(tmp_path)


def test_a_file_cut_short_after_reading_is_dropped(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(f"{SENTENCE}\n\n{SENTENCE[:-1]} more")
    found = text_file(path, words=10)
    path.write_text(SENTENCE)
    assert [[s.load() for s in batch] for batch in found.batches(5)] == [[SENTENCE]]
    assert "has become shorter" in found.skipped[0].reason


@pytest.mark.parametrize("block", [1, 2, 7, 64])
def test_the_size_of_blocks_does_not_matter(tmp_path, monkeypatch, block):
    path = tmp_path / "a.txt"
    path.write_text("One two.\n\nThree  four\nfive!\n \n\n six")
    whole = list(_words(path))
    assert [w.starts_paragraph for w in whole] == [False, False, True, False, False, True]
    monkeypatch.setattr("cutaway.stimuli.text._BLOCK", block)
    assert list(_words(path)) == whole


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_any_bytes_give_passages_or_one_clear_error(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    try:
        found = text_file(tmp_path / "a.txt", words=8)
    except BadInput:
        return
    assert all(text.strip() for text in contents(found))


def test_built_in_text_is_prose_from_docstrings_and_reproducible():
    found = builtin_text()
    assert len(found) > 800 and found.skipped == []
    sample = builtin_text(count=40, seed=2)
    assert len(sample) == 40 and sample.ids == builtin_text(count=40, seed=2).ids
    for stimulus in sample:
        text = stimulus.load()
        assert text[0].isupper() and text[-1] == "." and ">>>" not in text
        assert stimulus.group.endswith(".py") and stimulus.source.startswith(stimulus.group)


def test_built_in_text_stands_in_the_docstring_that_its_source_names():
    stimulus = next(s for s in builtin_text() if s.group == "bisect.py")
    tree = ast.parse(Path(bisect.__file__).read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef)]
    docstrings = [ast.get_docstring(node) for node in nodes]
    assert any(stimulus.load() in " ".join((d or "").split()) for d in docstrings)
