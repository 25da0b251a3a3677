"""The entry point: runs a command and turns whatever happens into an exit code and one sentence."""

import os
import sys
import traceback
from collections.abc import Sequence

import typer

from cutaway.cli.app import app
from cutaway.cli.common import BAD_INPUT, INTERRUPTED
from cutaway.cli.output import document
from cutaway.errors import CutawayError

# Newer versions of Typer carry click inside; the class is found under either roof through what Typer itself exports.
_UsageError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")


def main(words: Sequence[str] | None = None) -> int:
    """Runs ``cutaway`` on ``words`` (the process's own without any) and returns the exit code."""
    given = list(sys.argv[1:] if words is None else words)
    try:
        code = typer.main.get_command(app).main(args=given, prog_name="cutaway", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except _UsageError as error:
        return _fail(given, error, _usage_sentence(error), BAD_INPUT)
    except CutawayError as error:
        return _fail(given, error, str(error), error.exit_code)
    except OSError as error:
        return _fail(given, error, _system_sentence(error), BAD_INPUT)
    except MemoryError as error:
        return _fail(given, error, "The memory does not suffice; use a smaller network or fewer sites.", BAD_INPUT)
    except Exception as error:
        return _fail(given, error, _surprise(error), BAD_INPUT)
    if code == INTERRUPTED:
        print("Interrupted; what was finished is kept, and the same command goes on from there.", file=sys.stderr)
    return int(code or 0)


def _fail(words: Sequence[str], error: BaseException, sentence: str, code: int) -> int:
    if "--debug" in words or os.environ.get("CUTAWAY_DEBUG"):
        traceback.print_exception(error)
    print(sentence, file=sys.stderr)
    if "--json" in words:
        command = next((word for word in words if not word.startswith("-")), "")
        kind = "BadUsage" if isinstance(error, _UsageError) else type(error).__name__
        print(document(command, {"error": {"kind": kind, "message": sentence, "exit_code": code}}))
    return code


def _usage_sentence(error: BaseException) -> str:
    message = " ".join(error.format_message().split()).replace("Value error, ", "")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "cutaway"
    if not message.endswith((".", "?", ")")):
        message += "."
    return f"{message} See: {path} --help"


def _system_sentence(error: OSError) -> str:
    place = f" ({error.filename})" if error.filename else ""
    reason = error.strerror or str(error)
    return f"The system refused: {reason}{place}; mend that and run the same command again."


def _surprise(error: Exception) -> str:
    first_line = (str(error).splitlines() or [""])[0]
    return (
        f"An unexpected error, which is a defect of cutaway: {type(error).__name__}: {first_line}; "
        "run it again with --debug and report what it shows."
    )


if __name__ == "__main__":
    sys.exit(main())
