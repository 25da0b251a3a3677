"""Every way to end: the code, one sentence on stderr, and with --json one document on stdout."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cutaway import pipeline
from cutaway.audits.findings import AuditResult, Finding, NotFound, NotTestable, RuleResult, Severity
from cutaway.cli import audit, zoo
from cutaway.evidence import Verdict

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["shwo"], "No such command 'shwo'. Did you mean 'show'? See: cutaway --help"),
        (["show"], "Missing argument 'NET'. See: cutaway show --help"),
        (["show", "x", "--jsno"], "--json"),
        (["audit", "x", "--fail-on", "awful"], "'awful' is not one of 'note', 'low', 'medium', 'high', 'critical'"),
        (["observe", "x", "--limit", "0"], "--limit"),
        (["show", "x", "--seed", "one"], "--seed"),
        (["show", "vgg16-hde"], "did you mean vgg16-hed?"),
        (["zoo", "minilm"], "did you mean minilm-l6?"),
        (["zoo", "fetch"], "fetch was given no name; name one or more of vgg16-hed,"),
        (["show", "module:nowhere.py:f"], "nowhere.py, which is not there"),
    ],
)
def test_bad_usage_and_input_is_one_sentence_and_code_2(cutaway: Run, words: list[str], says: str) -> None:
    ran = cutaway(*words)
    assert (ran.code, ran.stdout) == (2, "")
    assert says in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["feature", "NET", "1"], "'1' is not an address"),
        (["feature", "NET", "7:0"], "There is no site named '7'"),
        (["feature", "NET", "1:6"], "it has units 0 to 5"),
        (["observe", "NET", "--sites", "conv"], "There is no site named 'conv'"),
        (["observe", "NET", "--stimuli", "empty"], "empty"),
        (["observe", "NET", "--stimuli", "nowhere"], "nowhere"),
        (["observe", "NET", "--stimuli", "IMAGES", "--atlas", "file"], "file"),
        (["audit", "NET", "--rules", "powerful-unit"], "did you mean powerful-units?"),
        (["show", "NET", "--device", "cuda:99"], "Device 'cuda:99' was asked for"),
    ],
)
def test_bad_input_to_a_network(cutaway: Run, own: Run, images: str, words: list[str], says: str) -> None:
    Path("empty").mkdir()
    Path("file").write_text("not a folder")
    names = {"NET": own("image"), "IMAGES": images}
    ran = cutaway(*[names.get(word, word) for word in words], "--quiet")
    assert (ran.code, ran.stdout) == (2, "")
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_users_own_mistake_is_told_apart(cutaway: Run, own: Run) -> None:
    ran = cutaway("show", own("fails"))
    assert ran.code == 2
    assert "fails() in" in ran.stderr
    assert "ValueError: two and two is five" in ran.stderr


def test_an_error_is_also_a_document(cutaway: Run) -> None:
    ran = cutaway("zoo", "minilm", "--json")
    assert ran.code == 2
    assert ran.document["command"] == "zoo"
    assert ran.document["network"] is None
    assert ran.document["error"] == {"kind": "UnknownName", "message": ran.stderr.strip(), "exit_code": 2}
    assert cutaway("shwo", "--json").document["error"]["kind"] == "BadUsage"


def test_a_defect_is_one_sentence_and_debug_shows_where(cutaway: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_words: list[str]) -> tuple[str, list[str]]:
        raise KeyError("left")

    monkeypatch.setattr(zoo, "_split", broken)
    ran = cutaway("zoo")
    assert ran.code == 2
    assert ran.stderr.startswith("An unexpected error, which is a defect of cutaway: KeyError: 'left'; ")
    assert len(ran.stderr.splitlines()) == 1
    assert "Traceback" in cutaway("zoo", "--debug").stderr
    monkeypatch.setenv("CUTAWAY_DEBUG", "1")
    assert "Traceback" in cutaway("zoo").stderr


def test_a_full_disk_is_one_sentence(cutaway: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_words: list[str]) -> tuple[str, list[str]]:
        raise OSError(28, "No space left on device", "runs/x")

    monkeypatch.setattr(zoo, "_split", full)
    ran = cutaway("zoo")
    assert ran.code == 2
    assert ran.stderr.startswith("The system refused: No space left on device (runs/x);")


def test_an_interruption_says_that_work_goes_on(cutaway: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_words: list[str]) -> tuple[str, list[str]]:
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "_split", interrupted)
    ran = cutaway("zoo")
    assert (ran.code, ran.stdout) == (130, "")
    assert "the same command goes on from there" in ran.stderr


def an_audit(*results: RuleResult) -> AuditResult:
    return AuditResult(
        network="tiny", fingerprint="f" * 64, description="", profile="quick", seed=0, command="", version="0",
        started="2026-01-01T00:00:00+00:00", seconds=0.0, stimuli=(), results=results,
    )  # fmt: skip


def found(severity: Severity) -> RuleResult:
    return RuleResult("r", "Is it so?", findings=(Finding("r", "It is.", Verdict.CAUSAL, severity),))


UNTESTABLE = RuleResult("u", "Is it so?", not_testable=(NotTestable("u", "Is it so?", "no words"),))
NOTHING = RuleResult("n", "Is it so?", not_found=(NotFound("n", "Is it so?", "It is not."),))


@pytest.mark.parametrize(
    ("results", "fail_on", "code"),
    [
        ([found(Severity.HIGH)], None, 0),
        ([found(Severity.HIGH)], "high", 1),
        ([found(Severity.HIGH)], "medium", 1),
        ([found(Severity.HIGH)], "critical", 0),
        ([UNTESTABLE, found(Severity.NOTE)], "note", 1),
        ([UNTESTABLE], None, 3),
        ([UNTESTABLE, NOTHING], None, 0),
        ([NOTHING], "note", 0),
        ([], None, 0),
    ],
)
def test_what_an_audit_ends_with(results: list[RuleResult], fail_on: str | None, code: int) -> None:
    assert audit.exit_code(an_audit(*results), fail_on) == code


def test_the_code_of_an_audit_reaches_the_shell(cutaway: Run, own: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "audit", lambda *_args, **_options: an_audit(found(Severity.HIGH)))
    assert cutaway("audit", own("image"), "--fail-on", "high").code == 1
    monkeypatch.setattr(pipeline, "audit", lambda *_args, **_options: an_audit(UNTESTABLE))
    assert cutaway("audit", own("image")).code == 3


def test_a_network_of_tensors_cannot_be_shown_images(cutaway: Run, own: Run, images: str) -> None:
    ran = cutaway("observe", own("tensors"), "--stimuli", images, "-q")
    assert ran.code == 2
    assert "takes tensors, not images or texts" in ran.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    code = "import sys; from cutaway.cli.main import main; sys.exit(main(['zoo', '--json']))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_in_the_middle_of_work_and_the_same_command_again(tmp_path: Path, own: Run) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(40):
        Image.new("RGB", (16, 16), (number, 2 * number, 99)).save(folder / f"{number}.png")
    words = ["observe", own("slow"), "--stimuli", "images", "--sites", "1", "--atlas", "atlas"]
    command = [sys.executable, "-m", "cutaway.cli.main", *words]
    # A shell gives its background jobs SIGINT ignored, and children inherit that: tests may themselves be such a job.
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 90
    # The second file appears after the row of the first: one batch is safe then.
    while len(list(tmp_path.glob("atlas/arrays/**/*.safetensors"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert stderr.splitlines()[-1].startswith("Interrupted; what was finished is kept")
    again = subprocess.run(
        [*command, "--json", "-q"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    document = json.loads(again.stdout)
    assert document["seen"] == 40
    assert 0 < document["batches_run"] < 5  # of five batches of eight images
