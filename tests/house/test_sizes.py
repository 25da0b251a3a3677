"""Functions and modules stay small enough to be read in one sitting."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

from tests.house.source import PACKAGE, ROOT, modules, repository_files, tree

FUNCTION_LINES, MODULE_LINES = 60, 400  # of the package, docstrings not counted in functions
ANY_FUNCTION_LINES, ANY_MODULE_LINES = 80, 600  # of tests and benches too
MEDIAN_FUNCTION_LINES = 12


def function_lengths(code: ast.Module) -> Iterator[tuple[str, int]]:
    """Name and length in lines, without decorators and docstring, of every function."""
    for node in ast.walk(code):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - docstring


def too_long(paths: list[Path], function_lines: int, module_lines: int) -> list[str]:
    found = []
    for path in paths:
        place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        lines = len(path.read_text(encoding="utf-8").splitlines())
        found += [f"{place}: {lines} lines"] if lines > module_lines else []
        found += [f"{place}: {name} has {n} lines" for name, n in function_lengths(tree(path)) if n > function_lines]
    return found


def test_the_package_is_in_small_pieces() -> None:
    assert too_long(list(modules()), FUNCTION_LINES, MODULE_LINES) == []


def test_tests_and_benches_are_too() -> None:
    paths = [path for path in repository_files() if path.suffix == ".py"]
    assert too_long(paths, ANY_FUNCTION_LINES, ANY_MODULE_LINES) == []


def test_the_median_function_is_short() -> None:
    lengths = [length for path in modules() for _, length in function_lengths(tree(path))]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION_LINES


def test_what_is_too_long_would_be_seen(tmp_path: Path) -> None:
    body = "    x = 1\n" * FUNCTION_LINES
    (tmp_path / "long.py").write_text(f"def documented():\n    '''A\n\n    B'''\n    x = 1\n\ndef long():\n{body}")
    assert too_long([tmp_path / "long.py"], FUNCTION_LINES, 10) == [
        f"{tmp_path / 'long.py'}: {7 + FUNCTION_LINES} lines",
        f"{tmp_path / 'long.py'}: long has {FUNCTION_LINES + 1} lines",
    ]


def test_the_tests_mirror_the_rooms() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    tested = {path.name for path in (ROOT / "tests").iterdir() if list(path.rglob("test_*.py"))}
    assert rooms <= tested
