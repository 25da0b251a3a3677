"""The command line: parse, call the library, print.

What enters: words. What leaves: an answer for a reader on stdout, or with ``--json`` one JSON document and nothing
else there; progress and remarks on stderr; an exit code (0 done, 1 findings at or above ``--fail-on``, 2 bad usage or
input, 3 not testable). What is promised: no traceback unless ``--debug`` asks for one; building the commands and
printing help loads no torch, so commands import the library when they run.

    main, app              the entry point; the commands put together
    common, output         options that every command takes; the two streams
    zoo, show, ...         one thin module per command
    views/                 how a result looks in a terminal
"""

from cutaway.cli.app import app

__all__ = ["app"]
