"""Text in passages: from files, from folders, and from the standard library's own documentation.

Files are streamed. A passage of a file is kept as two byte offsets and read again when it is needed, so that
a file of any size costs a few dozen bytes per passage.
"""

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from cutaway.errors import BadFile, BadInput
from cutaway.stimuli.core import Skipped, Stimulus, StimulusSet, content_id

SUFFIXES = (".txt", ".md", ".rst", ".text")
MIN_WORDS = 8
_BLOCK = 1 << 16
_MAX_WORD = 1 << 12  # bytes: what has no white space for longer is not prose
_WORD = re.compile(rb"(\s*)(\S+)")


def text_file(path: str | Path, *, words: int = 80) -> StimulusSet:
    """The passages of a UTF-8 text file, in order.

    A passage ends at the first paragraph or sentence end from ``words`` words on, at ``1.5 * words`` words
    at the latest; short paragraphs such as headings join what follows. White space is folded to single
    spaces. Passages that are not UTF-8 are skipped and counted; a file without any usable passage raises
    :class:`~cutaway.errors.BadInput`.
    """
    file = Path(path)
    if not file.is_file():
        raise BadInput(f"There is no text file {str(file)!r}; give the path of a UTF-8 text.")
    stimuli, skipped = _passages(file, file.name, words)
    if not stimuli:
        raise BadInput(_nothing_usable(file, skipped))
    return StimulusSet(file.name, stimuli, skipped=skipped)


def text_folder(path: str | Path, *, words: int = 80) -> StimulusSet:
    """The passages of all text files below a folder, in the order of their paths; each file is one group."""
    root = Path(path)
    if not root.is_dir():
        raise BadInput(f"There is no folder {str(root)!r}; give a folder that holds text files.")
    files = sorted(f for f in root.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    if not files:
        raise BadInput(f"{str(root)!r} holds no text file; give a folder with {', '.join(SUFFIXES)} files.")
    stimuli: list[Stimulus] = []
    skipped: list[Skipped] = []
    for file in files:
        source = file.relative_to(root).as_posix()
        try:
            found, left_out = _passages(file, source, words)
        except (BadFile, OSError) as error:
            found, left_out = [], [Skipped(source, str(error))]
        stimuli += found
        skipped += left_out
    if not stimuli:
        raise BadInput(_nothing_usable(root, skipped))
    return StimulusSet(root.name or str(root), stimuli, skipped=skipped)


def builtin_text(*, count: int | None = None, seed: int = 0) -> StimulusSet:
    """English prose from the docstrings of Python's standard library: the same for one version of Python.

    Modules are parsed, never imported or run. Only paragraphs of whole sentences are kept (no code, no
    lists, no signatures). ``count`` draws that many with ``seed``. Each module is one group.
    """
    stimuli = [
        Stimulus(content_id(paragraph), "text", source, partial(str, paragraph), group=source.partition(":")[0])
        for source, paragraph in _library_paragraphs()
    ]
    if not stimuli:
        raise BadInput("This Python comes without the sources of its standard library; give a text file.")
    whole = StimulusSet("builtin-text", stimuli)
    return whole if count is None else whole.take(count, seed=seed)


@dataclass(frozen=True)
class _Word:
    start: int
    end: int
    starts_paragraph: bool
    ends_sentence: bool


def _passages(file: Path, source: str, words: int) -> tuple[list[Stimulus], list[Skipped]]:
    if words < MIN_WORDS:
        raise BadInput(f"Passages of {words} words were asked for; ask for at least {MIN_WORDS}.")
    stimuli: list[Stimulus] = []
    skipped: list[Skipped] = []
    for start, end in _spans(file, words):
        where = f"{source} (bytes {start}-{end})"
        try:
            text = _read_passage(file, start, end)
        except BadFile as error:
            skipped.append(Skipped(where, str(error)))
            continue
        load = partial(_read_passage, file, start, end)
        stimuli.append(Stimulus(content_id(text), "text", where, load, group=source))
    return stimuli, skipped


def _read_passage(file: Path, start: int, end: int) -> str:
    with file.open("rb") as stream:
        stream.seek(start)
        data = stream.read(end - start)
    if len(data) < end - start:
        raise BadFile(f"{file.name} has become shorter since it was read; leave it in place while it is in use.")
    try:
        text = " ".join(data.decode("utf-8").split())
    except UnicodeDecodeError as error:
        raise BadFile(f"byte {start + error.start} is not UTF-8") from error
    if not any(character.isalnum() for character in text):
        raise BadFile(f"bytes {start} to {end} hold no word")
    return text


def _spans(file: Path, words: int) -> Iterator[tuple[int, int]]:
    """Start and end byte of each passage."""
    passage: list[_Word] = []
    for word in _words(file):
        full = len(passage) >= words and (word.starts_paragraph or passage[-1].ends_sentence)
        if full or len(passage) >= 1.5 * words:
            yield passage[0].start, passage[-1].end
            passage = []
        passage.append(word)
    if passage:
        yield passage[0].start, passage[-1].end


def _words(file: Path) -> Iterator[_Word]:
    """The words of a file with their places, from blocks; a file with zero bytes is not text."""
    offset, pending = 0, b""
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            if b"\0" in block:
                raise BadFile(f"{file.name} holds zero bytes and is not a text; give a UTF-8 text file.")
            data = pending + block
            # The last word may go on in the next block, unless it is too long to be one. The white space
            # before it stays with it: it says whether a paragraph starts there.
            cut = len(data[: max(data.rfind(b" "), data.rfind(b"\n")) + 1].rstrip())
            cut = cut if len(data) - cut <= _MAX_WORD else len(data)
            yield from _words_in(data[:cut], offset)
            offset, pending = offset + cut, data[cut:]
    yield from _words_in(pending, offset)


def _words_in(data: bytes, offset: int) -> Iterator[_Word]:
    for match in _WORD.finditer(data):
        gap, word = match.groups()
        start, end = match.span(2)
        yield _Word(offset + start, offset + end, gap.count(b"\n") > 1, word[-1:] in b".!?")


def _nothing_usable(path: Path, skipped: list[Skipped]) -> str:
    if skipped:
        return f"{str(path)!r} has no usable passage ({skipped[0].reason}); give UTF-8 text."
    return f"{str(path)!r} is empty; give a file with text in it."


@lru_cache(maxsize=1)
def _library_paragraphs() -> tuple[tuple[str, str], ...]:
    """(``module.py:line``, paragraph) of all prose in the standard library's top-level modules."""
    found: dict[str, str] = {}
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for line, docstring in _docstrings(file):
            for paragraph in _prose(docstring):
                found.setdefault(paragraph, f"{file.name}:{line}")
    return tuple((source, paragraph) for paragraph, source in found.items())


def _docstrings(file: Path) -> Iterator[tuple[int, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):  # A module that cannot be read has no prose for us.
            return
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and (docstring := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), docstring


_PROSE_MIN_WORDS, _PROSE_MAX_WORDS = 15, 150


def _prose(docstring: str) -> Iterator[str]:
    """Paragraphs of whole English sentences."""
    for block in re.split(r"\n\s*\n", docstring):
        paragraph = " ".join(block.split())
        count = paragraph.count(" ") + 1
        whole = paragraph[:1].isupper() and paragraph[-1:] == "."
        indented = any(line.startswith("  ") for line in block.splitlines())
        plain = re.sub(r"[A-Za-z ,.;:'()\"-]", "", paragraph)
        odd = len(plain) / max(len(paragraph), 1)
        if whole and not indented and _PROSE_MIN_WORDS <= count <= _PROSE_MAX_WORDS and odd < 0.03:
            yield paragraph
