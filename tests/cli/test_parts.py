"""The pieces of the command line by themselves: streams, folding, completion, reference."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.console import Console

from cutaway.cli import audit, completion, output
from cutaway.cli.output import Output, Shared
from cutaway.cli.views.network import Fold, fold, ranges
from cutaway.cli.workplace import command_line, folder_of


def test_completion_knows_what_the_library_knows() -> None:
    from cutaway.audits import PROFILES, Severity
    from cutaway.networks.zoo import ZOO

    assert tuple(ZOO) == completion.ZOO_NAMES
    assert get_args(audit.ProfileName) == tuple(PROFILES)
    assert get_args(audit.SeverityName) == tuple(Severity)


def completed(line: str) -> list[str]:
    """What bash is offered at the end of a line, and what the process has loaded for it."""
    words = line.split(" ")
    environment = {"_CUTAWAY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; from cutaway.cli.main import main\ntry: main([])\nfinally: assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert "AssertionError" not in done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("cutaway show eff", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]),
        ("cutaway zoo ver", ["verify"]),
        ("cutaway zoo fetch sm", ["smollm2-135m"]),
        ("cutaway au", ["audit"]),
        ("cutaway audit vgg16-hed --fail", ["--fail-on"]),
        ("cutaway show zzz", []),
    ],
)
def test_the_shell_is_offered_names(line: str, offered: list[str]) -> None:
    assert completed(line) == offered


@pytest.mark.parametrize(
    ("numbers", "text"), [([0], "0"), ([0, 1, 2], "0-2"), ([2, 0, 5, 1], "0-2,5"), ([1, 3, 4], "1,3-4")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_alike_names_fold_into_one_row() -> None:
    things = [
        ("layers.0.mlp", 4),
        ("layers.0.attn", 2),
        ("layers.1.mlp", 4),
        ("layers.1.attn", 3),
        ("conv3_3", 4),
        ("7", 1),
    ]
    assert fold(things, lambda thing: thing) == [
        Fold("layers.{0-1}.mlp", 2, ("layers.0.mlp", 4)),
        Fold("layers.0.attn", 1, ("layers.0.attn", 2)),
        Fold("layers.1.attn", 1, ("layers.1.attn", 3)),
        Fold("conv3_3", 1, ("conv3_3", 4)),
        Fold("7", 1, ("7", 1)),
    ]


def test_a_command_can_be_typed_again() -> None:
    words = command_line(
        "audit", "my net", profile="quick", rules=["a", "b"], stimuli=None, seed=0, fail_on="high", x=False
    )
    assert words == "cutaway audit 'my net' --profile quick --rules a --rules b --seed 0 --fail-on high"


@pytest.mark.parametrize(
    ("name", "folder"), [("vgg16-hed", "vgg16-hed"), ("org/../net", "org_.._net"), ("..", "network"), ("a b", "a_b")]
)
def test_any_network_has_a_folder_of_its_own(name: str, folder: str) -> None:
    class Named:
        pass

    network: Any = Named()
    network.name = name
    assert folder_of(network) == folder


def test_progress_in_a_file_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with Output("observe", Shared()) as out:
        for done in range(101):
            out.progress(done, 100, "observe")
        out.progress(0, 2, "then")
    assert capsys.readouterr().err.splitlines() == ["observe: 0/100", "observe: 100/100", "then: 0/2"]


def test_progress_goes_on_after_some_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100, 2))
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock))
    with Output("observe", Shared()) as out:
        for done in range(7):
            out.progress(done, 100, "observe")
    assert capsys.readouterr().err.splitlines() == ["observe: 0/100", "observe: 3/100", "observe: 6/100"]


def test_progress_in_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(output, "_console", lambda _stream: Console(file=terminal, force_terminal=True, width=80))
    with Output("observe", Shared()) as out:
        out.progress(3, 9, "observing")
        out.say("a remark")
    assert "observing" in terminal.getvalue()
    assert "3/9" in terminal.getvalue()
    assert "a remark" in terminal.getvalue()


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Output("observe", Shared(quiet=True)) as out:
        out.progress(1, 2, "observe")
        out.say("a remark")
        out.result({}, lambda: "the result")
    assert capsys.readouterr() == ("the result\n", "")


def test_stdout_holds_the_document_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with Output("show", Shared(as_json=True)) as out:
        print("from somebody else's code")
        out.result({"sites": [1], "name": "Zürich [b]"}, lambda: "unused")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "command": "show", "version": output.__version__, "network": None, "fingerprint": None, "sites": [1],
        "name": "Zürich [b]",
    }  # fmt: skip
    assert captured.err == "from somebody else's code\n"


def test_a_number_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        output.document("show", {"value": float("nan")})


def test_brackets_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with Output("show", Shared()) as out:
        out.say("[red]layers[0][/red] :smile:")
    assert capsys.readouterr().err == "[red]layers[0][/red] :smile:\n"


def test_every_command_takes_the_shared_options() -> None:
    from cutaway.cli.reference import commands

    shared = {"--json", "--atlas", "--seed", "--device", "--quiet", "--debug"}
    for command in commands().values():
        assert shared <= {flag for parameter in command.params for flag in parameter.opts}


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cutaway.cli.main", "--version"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.startswith(
        "cutaway "
    )
