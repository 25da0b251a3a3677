"""The two streams of a command: its result on stdout, everything else on stderr."""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cutaway import __version__

PLAIN_WIDTH = 120  # of what goes to a file or a pipe
SECONDS_BETWEEN_LINES = 5.0  # of progress where stderr is no terminal


@dataclass(frozen=True)
class Shared:
    """The options that every command takes."""

    as_json: bool = False
    atlas: Path | None = None
    seed: int = 0
    device: str | None = None
    quiet: bool = False


class Output:
    """Where a command puts its result, remarks and progress; use it in a ``with`` block.

    While it is open, whatever else writes to ``sys.stdout`` (a user's own code, say) ends up on stderr, so that
    stdout holds the result alone.
    """

    def __init__(self, command: str, shared: Shared) -> None:
        self.command, self.shared = command, shared
        self._stdout = sys.stdout
        self._result = _console(self._stdout)
        self._remarks = _console(sys.stderr)
        self._progress = _Progress(self._remarks)
        self._redirection = contextlib.redirect_stdout(sys.stderr)

    def __enter__(self) -> "Output":
        self._redirection.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.close()
        self._redirection.__exit__(kind, error, traceback)

    def say(self, sentence: str) -> None:
        """One remark for the person at the terminal."""
        if not self.shared.quiet:
            self._remarks.print(sentence, style="dim" if self._remarks.is_terminal else None)

    def progress(self, done: int, total: int, what: str) -> None:
        """How far ``what`` has come: a bar in a terminal, a line now and then elsewhere."""
        if not self.shared.quiet:
            self._progress.update(done, total, what)

    def result(self, facts: dict[str, Any], view: Callable[[], RenderableType], *, network: Any = None) -> None:
        """The command's answer: ``view()`` for a reader, or with ``--json`` the facts as one document."""
        self._progress.close()
        if self.shared.as_json:
            print(document(self.command, facts, network), file=self._stdout)
        else:
            self._result.print(view())

    def flush(self) -> None:
        """Hands everything to the reader of stdout now; raises ``BrokenPipeError`` if there is none left."""
        self._stdout.flush()


def document(command: str, facts: dict[str, Any], network: Any = None) -> str:
    """The JSON document of a command: its name, the version, the network (None without one), then the facts."""
    head = {
        "command": command,
        "version": __version__,
        "network": network.name if network is not None else None,
        "fingerprint": network.fingerprint if network is not None else None,
    }
    return json.dumps({**head, **facts}, indent=2, ensure_ascii=False, allow_nan=False)


def _console(stream: Any) -> Console:
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=width is not None)


class _Progress:
    """One bar per task in a terminal; lines, at most one every few seconds and one at the end, elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._tasks: dict[str, Any] = {}
        self._last: tuple[str, float] = ("", 0.0)

    def update(self, done: int, total: int, what: str) -> None:
        if self._console.is_terminal:
            self._bar(done, total, what)
            return
        now = time.monotonic()
        task, shown = self._last
        if what != task or done >= total or now - shown >= SECONDS_BETWEEN_LINES:
            self._last = (what, now)
            self._console.print(f"{what}: {done}/{total}")

    def _bar(self, done: int, total: int, what: str) -> None:
        if self._bars is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bars = Progress(*columns, console=self._console, transient=True)
            self._bars.start()
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total, visible=done < total)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks = {}
