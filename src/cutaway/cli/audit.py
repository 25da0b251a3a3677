"""``cutaway audit``: the main job."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cutaway.cli.common import DONE, FINDINGS, NOT_TESTABLE
from cutaway.cli.output import Output
from cutaway.cli.show import Net
from cutaway.cli.stimuli import Limit, Stimuli, chosen
from cutaway.cli.workplace import RUNS, atlas_for, command_line, folder_of

ProfileName = Literal["quick", "full"]
SeverityName = Literal["note", "low", "medium", "high", "critical"]

Profile = Annotated[
    ProfileName,
    typer.Option("--profile", metavar="quick|full", help="How much the audit may spend: minutes, or hours."),
]
Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rules", metavar="RULE", help="A rule to apply; repeat for more. [default: all]", show_default=False
    ),
]  # fmt: skip
Folder = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Where the report goes. [default: runs/NETWORK/report]", show_default=False,
        file_okay=False,
    ),
]  # fmt: skip
FailOn = Annotated[
    SeverityName | None,
    typer.Option(
        "--fail-on", metavar="note|low|medium|high|critical", show_default=False,
        help="Exit with 1 if a finding is this severe or more.",
    ),
]  # fmt: skip


def audit(
    out: Output,
    net: Net,
    profile: Profile = "quick",
    rules: Rules = None,
    stimuli: Stimuli = None,
    limit: Limit = None,
    folder: Folder = None,
    fail_on: FailOn = None,
) -> int:
    """Ask a network an auditor's questions; write a report of what was found, with the evidence for it.

    Writes report.html, report.md and report.json. Exits with 1 if --fail-on says so, with 3 if no question could be
    asked of this network.
    """
    from cutaway import pipeline
    from cutaway.networks import load
    from cutaway.report import summary, write_report

    network = load(net, device=out.shared.device, progress=out.say)
    shown = chosen(network, stimuli, limit=limit, seed=out.shared.seed)
    command = command_line(
        "audit", net, profile=profile, rules=rules, stimuli=stimuli, limit=limit, seed=out.shared.seed,
        device=out.shared.device,
    )  # fmt: skip
    with atlas_for(out, network) as atlas:
        result = pipeline.audit(
            network, profile=profile, rules=rules, stimuli=shown, atlas=atlas, seed=out.shared.seed,
            progress=out.progress, command=command,
        )  # fmt: skip
    paths = write_report(result, folder or RUNS / folder_of(network) / "report")
    out.result(facts(result, paths), lambda: summary(result, paths=paths), network=network)
    return exit_code(result, fail_on)


def facts(result: Any, paths: Mapping[str, Path]) -> dict[str, Any]:
    """The report's own JSON, with the command that gives it again under ``reproduce``, and where the files are."""
    from cutaway.report import document

    report = document(result)
    reproduce = report.pop("command")
    head = ("version", "network", "fingerprint")  # named by every document of the command line
    rest = {key: value for key, value in report.items() if key not in head}
    return {"reproduce": reproduce, **rest, "files": {name: str(path) for name, path in paths.items()}}


def exit_code(result: Any, fail_on: SeverityName | None) -> int:
    """1 for findings at or above ``fail_on``, 3 if no rule could be applied, else 0."""
    from cutaway.audits.findings import Severity, exceeds

    if fail_on is not None and exceeds(result.findings, Severity(fail_on)):
        return FINDINGS
    answered = [answer.findings or answer.not_found or not answer.not_testable for answer in result.results]
    return DONE if any(answered) or not answered else NOT_TESTABLE
