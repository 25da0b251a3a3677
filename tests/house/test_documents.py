"""What the documents say is so: commands, options, snippets, links, numbers of decisions."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cutaway.cli.reference import commands, reference
from tests.house.source import ROOT, code_blocks, repository_files

README = ROOT / "README.md"


def pages() -> list[Path]:
    return [path for path in repository_files() if path.suffix == ".md"]


def test_the_reference_of_the_command_line_is_current() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == reference(), "run: python -m cutaway.cli.reference > docs/cli.md"


def undocumented(found: dict[str, Any], text: str) -> list[str]:
    """Commands and options that a page does not name."""
    names = {f"cutaway {name}" for name in found}
    names |= {
        flag for command in found.values() for parameter in command.params for flag in parameter.opts if "-" in flag
    }
    return sorted(name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))


def test_every_command_and_option_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert undocumented(commands(), text) == []
    assert undocumented(commands(), text.replace("--fail-on", "--fail")) == ["--fail-on"]
    assert undocumented(commands(), text.replace("cutaway zoo", "cutaway zooo")) == ["cutaway zoo"]


def test_every_command_has_help_for_each_of_its_words() -> None:
    silent = [f"{name} {p.name}" for name, command in commands().items() for p in command.params if not p.help]
    assert silent == []
    assert all(command.help for command in commands().values())


def wrong_lines(block: str) -> list[str]:
    """Lines of a shell block that name a command, option or make target that is not there."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    wrong = []
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        words = words[1:] if words and words[0] == "$" else words
        if words[:1] == ["make"] and words[1] not in targets:
            wrong.append(line)
        if words[:1] == ["cutaway"] and not parses(words[1:]):
            wrong.append(line)
    return wrong


def parses(words: list[str]) -> bool:
    """True if these words are a command with its options; nothing is run."""
    known = commands()
    if words and words[0] in ("--version", "--help", "--install-completion"):
        return True
    if not words or words[0] not in known:
        return False
    try:
        known[words[0]].make_context(words[0], words[1:])
    except Exception:
        return False
    return True


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_shell_blocks_name_commands_that_exist(page: Path) -> None:
    blocks = code_blocks(page, "bash")
    assert blocks
    assert [line for block in blocks for line in wrong_lines(block)] == []


@pytest.mark.parametrize(
    "line", ["make dmeo", "cutaway adit x", "cutaway audit x --fail-on awful", "cutaway show x --al"]
)
def test_a_wrong_line_would_be_seen(line: str) -> None:
    assert wrong_lines(line) == [line]


def test_commands_in_running_text_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages() if page.name != "cli.md")
    named = set(re.findall(r"`cutaway ([a-z]+)", text))
    assert named
    assert named <= set(commands())


@pytest.mark.zoo
def test_the_example_of_the_readme_prints_what_it_says(zoo: Any) -> None:
    zoo("vgg16-hed")
    (code,), (expected,) = code_blocks(README, "python"), code_blocks(README, "text")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected


def broken_links(page: Path) -> list[str]:
    """Relative links and pictures of a page that lead nowhere."""
    text = page.read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    return [target for target in targets if target and not (page.parent / target).exists()]


def test_links_lead_somewhere(tmp_path: Path) -> None:
    assert {str(page.relative_to(ROOT)): broken for page in pages() if (broken := broken_links(page))} == {}
    (tmp_path / "page.md").write_text("[a](nowhere.md) [b](page.md#part) [c](https://example.org)", encoding="utf-8")
    assert broken_links(tmp_path / "page.md") == ["nowhere.md"]


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    names = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [name[:4] for name in names] == [f"{number:04d}" for number in range(1, len(names) + 1)]
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"({name})" in index for name in names)
    for name in names:
        text = (folder / name).read_text(encoding="utf-8")
        assert text.startswith(f"# {name[:4]} ")
        headings = [line for line in text.splitlines() if line.startswith("## ")]
        assert [heading.split(",")[0].split()[1] for heading in headings] == [
            "Context",
            "Options",
            "Decision",
            "Consequences",
        ]


def test_the_version_is_the_same_everywhere() -> None:
    import tomllib

    import cutaway

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == cutaway.__version__
    assert cutaway.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert cutaway.__version__ in README.read_text(encoding="utf-8")


def test_the_zoo_of_the_readme_is_the_zoo() -> None:
    from cutaway.networks.zoo import ZOO

    rows = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])) == sorted(ZOO)
