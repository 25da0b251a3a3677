"""The source of the package as syntax trees, for the tests that watch over the house."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "cutaway"

#: From the first stage of knowledge to the last; a module imports from its own place and from earlier ones only.
ORDER = (
    "networks", "stimuli", "evidence", "atlas", "observe", "bases", "features", "circuits", "structure", "theories",
    "audits", "report", "pipeline", "explorer", "cli",
)  # fmt: skip
EVERYWHERE = ("errors", "registry")  # what any room may import


@cache
def modules() -> tuple[Path, ...]:
    """Every module of the package."""
    return tuple(sorted(PACKAGE.rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def dotted(path: Path) -> str:
    """``.../cutaway/networks/load.py`` as ``cutaway.networks.load``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def rooms() -> list[str]:
    """The folders of the package that are there now."""
    return [name for name in ORDER if (PACKAGE / name).is_dir()]


def imported(code: ast.AST) -> Iterator[str]:
    """Every dotted name that a piece of code imports, at any depth, also through ``import_module("...")``."""
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports in the package are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            yield from (
                each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )


@cache
def repository_files() -> tuple[Path, ...]:
    """Files that are in the repository or would be with the next commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is not a git checkout")
    return tuple(ROOT / name for name in sorted(set(listed.split("\0"))) if name and (ROOT / name).is_file())


def code_blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a Markdown page in one language."""
    pattern = rf"^```{language}\n(.*?)^```"
    return re.findall(pattern, page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
