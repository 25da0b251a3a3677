"""A user's own task: a JSON Lines file, one pair a line.

    {"clean": "...", "corrupt": "...", "target": " Paris", "against": " Rome", "template": "t1", "group": "France"}

``template``, ``group`` and ``split`` may be left out. Nothing of the file is executed; a line that is not a pair is an
error with its number, never skipped in silence.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cutaway.errors import BadFile, BadInput, UnknownName
from cutaway.stimuli.core import Skipped
from cutaway.stimuli.tasks.pairs import SPLITS, TaskPair, TaskSet, Tokenizer, unfit

REQUIRED = ("clean", "corrupt", "target", "against")
OPTIONAL = ("template", "group", "split")
MAX_LINE, MAX_PAIRS = 1 << 20, 100_000


class _Line(NamedTuple):
    number: int
    pair: TaskPair
    split: str


def task_file(
    path: str | Path,
    tokenizer: Tokenizer | None,
    *,
    split: str | None = None,
    minimum: int = 4,
    unsuitable: Literal["raise", "skip"] = "raise",
) -> TaskSet:
    """The pairs of a JSON Lines file, in order, repeated prompts left out.

    ``split`` keeps the lines that name it. A damaged line raises :class:`BadFile` with its number. A pair that this
    tokenizer cannot use (a target of several tokens, prompts of unequal length) raises :class:`BadInput` with the
    number of the first such line and how many there are; ``unsuitable="skip"`` enters them in ``skipped`` instead.
    Fewer than ``minimum`` usable pairs raise too.
    """
    file = Path(path)
    if tokenizer is None:
        raise BadInput(f"{file.name} holds prompts, and this network has no tokenizer; load it with its tokenizer.")
    if split is not None and split not in SPLITS:
        raise UnknownName("split", split, SPLITS, f"There are {', '.join(SPLITS)}.")
    lines = [line for line in _lines(file) if split is None or line.split == split]
    usable, skipped = _sorted_out(lines, file.name, tokenizer)
    unfit_lines = [each for each in skipped if not each.reason.startswith(_REPEATED)]
    if unfit_lines and unsuitable == "raise":
        first, others = unfit_lines[0], len(unfit_lines) - 1
        more = f" (and {others} more lines cannot be used)" if others else ""
        raise BadInput(f"{first.source}: {first.reason} for this tokenizer{more}; change or remove the line.")
    if len(usable) < max(minimum, 1):
        why = f", {skipped[0].source} was left out because {skipped[0].reason}" if skipped else ""
        where = f" of the split {split!r}" if split else ""
        raise BadInput(
            f"{file.name} has {len(usable)} usable pairs{where} in {len(lines)} lines{why}; "
            f"at least {max(minimum, 1)} are needed."
        )
    names = ",".join(dict.fromkeys(pair.template for pair in usable if pair.template))
    return TaskSet(file.stem, split or "all", names, tuple(usable), tuple(skipped))


_REPEATED = "the same prompts as line"


def _sorted_out(lines: list[_Line], name: str, tokenizer: Tokenizer) -> tuple[list[TaskPair], list[Skipped]]:
    usable: list[TaskPair] = []
    skipped: list[Skipped] = []
    seen: dict[tuple[str, str], int] = {}
    for number, pair, _ in lines:
        first = seen.setdefault((pair.clean, pair.corrupt), number)
        reason = f"{_REPEATED} {first}" if first != number else unfit(pair, tokenizer)
        if reason:
            skipped.append(Skipped(f"{name}, line {number}", reason))
        else:
            usable.append(pair)
    return usable, skipped


def _lines(file: Path) -> Iterator[_Line]:
    if not file.is_file():
        raise BadInput(f"There is no task file {str(file)!r}; give a JSON Lines file with one pair a line.")
    for count, (number, raw) in enumerate(_raw_lines(file), start=1):
        where = f"{file.name}, line {number}"
        pair, split = _pair(_document(raw, where), where)
        if count > MAX_PAIRS:
            raise BadFile(f"{where}: a task file holds at most {MAX_PAIRS} pairs; split the file.")
        yield _Line(number, pair, split)


def _raw_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Numbers and bytes of the lines that are not blank; a line of any length costs bounded memory."""
    number = 0
    with file.open("rb") as stream:
        while raw := stream.readline(MAX_LINE + 1):
            number += 1
            if len(raw) > MAX_LINE:
                raise BadFile(f"{file.name}, line {number}: the line is longer than {MAX_LINE} bytes; shorten it.")
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if raw.strip():
                yield number, raw


def _document(raw: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadFile(f"{where}: byte {error.start} is not UTF-8; save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise BadFile(f"{where}: not JSON ({error.msg} at column {error.colno}); write one object a line.") from error
    except (RecursionError, ValueError) as error:  # nested without end; a number of thousands of digits
        raise BadFile(f"{where}: JSON that cannot be read; write one flat object a line.") from error
    if not isinstance(document, dict):
        raise BadFile(f"{where}: a JSON {type(document).__name__} where an object with {', '.join(REQUIRED)} belongs.")
    return document


def _pair(document: dict[str, Any], where: str) -> tuple[TaskPair, str]:
    missing = [name for name in REQUIRED if name not in document]
    if missing:
        raise BadFile(f"{where}: the field {missing[0]!r} is missing; a pair has {', '.join(REQUIRED)}.")
    unknown = sorted(set(document) - {*REQUIRED, *OPTIONAL})
    if unknown:
        raise BadFile(f"{where}: unknown field {unknown[0]!r}; a pair has {', '.join((*REQUIRED, *OPTIONAL))}.")
    for name, value in document.items():
        _check_text(name, value, where)
    split = document.get("split", "")
    if split not in ("", *SPLITS):
        raise BadFile(f"{where}: split is {split!r}; it can be {', '.join(SPLITS)}.")
    fields = {name: document[name] for name in (*REQUIRED, "template", "group") if name in document}
    return TaskPair(**fields), split


def _check_text(name: str, value: Any, where: str) -> None:
    if not isinstance(value, str) or (name in REQUIRED and not value):
        raise BadFile(f"{where}: the field {name!r} must be a text that is not empty, found {str(value)[:40]!r}.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadFile(f"{where}: the field {name!r} holds half a character (a lone surrogate); remove it.") from error
