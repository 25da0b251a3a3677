"""Files appear whole or not at all; the terminal summary."""

import errno
import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from cutaway.audits.findings import RuleResult
from cutaway.errors import BadInput, UnknownName
from cutaway.report import render_html, summary, write_report
from tests.report.samples import bare, finding, hostile, realistic


def test_three_files_in_a_new_folder(tmp_path):
    paths = write_report(realistic(), tmp_path / "deep" / "folder")
    assert {name: path.name for name, path in paths.items()} == {
        "html": "report.html",
        "md": "report.md",
        "json": "report.json",
    }
    assert paths["html"].read_text(encoding="utf-8") == render_html(realistic())
    assert sorted(path.name for path in paths["html"].parent.iterdir()) == ["report.html", "report.json", "report.md"]


def test_only_the_formats_that_were_asked_for(tmp_path):
    assert list(write_report(bare(), tmp_path, formats=("json",))) == ["json"]
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_an_unknown_format_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(UnknownName, match="no report format named 'htm'; did you mean html"):
        write_report(bare(), tmp_path / "new", formats=("htm",))
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_the_old_report_and_nothing_half_written(tmp_path, monkeypatch):
    before = write_report(bare(), tmp_path)["html"].read_bytes()
    flushed = []

    def full_at_the_second(descriptor):
        flushed.append(descriptor)
        if len(flushed) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_at_the_second)
    with pytest.raises(BadInput, match=r"but the disk is full; free some space .*\(nothing was written\)\.$"):
        write_report(realistic(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]
    assert (tmp_path / "report.html").read_bytes() == before


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(BadInput, match="that path is a file; choose a folder"):
        write_report(bare(), tmp_path / "taken")
    with pytest.raises(BadInput, match="that path is a file; choose a folder"):
        write_report(bare(), tmp_path / "taken" / "below")


def test_a_forbidden_folder(tmp_path, monkeypatch):
    def forbidden(self, *_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(BadInput, match="writing there is not permitted"):
        write_report(bare(), tmp_path / "locked")


def printed(renderable) -> str:
    out = io.StringIO()
    Console(file=out, width=120, color_system=None).print(renderable)
    return out.getvalue()


def test_the_summary_says_the_verdict_the_findings_and_the_paths():
    text = printed(summary(realistic(), paths={"html": Path("somewhere/report.html")}))
    assert "5 findings: 1 high (causal)" in text and "somewhere/report.html" in text
    assert "0.684 [0.541, 0.789]" in text and "Religion lowers the odds" in text
    assert "not testable: Which channels decide that a pixel is an edge?" in text


def test_the_summary_reads_no_markup():
    audit = bare(network="[bold red]x[/bold red]", description="[/]")
    assert "[bold red]x[/bold red]  [/]" in printed(summary(audit))
    audit = bare(results=(RuleResult("r", "[b]Q[/b]?", (finding("[red]claim[/red]"),)),))
    assert "[red]claim[/red]" in printed(summary(audit))
    assert "\x07" not in printed(summary(hostile()))
