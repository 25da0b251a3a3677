"""The notebooks of ``examples/``: what is committed is whole and clean, and every one runs in the small profile."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cutaway.networks import Network

nbformat = pytest.importorskip("nbformat")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FOLDERS = ("vision", "language", "polysemanticity")
NOTEBOOKS = [path for folder in FOLDERS for path in sorted((EXAMPLES / folder).glob("*.ipynb"))]
EMBEDDED = re.compile(r"vgg16-hed|efficientnet-lite\d|smollm2-135m|minilm-l6")  # networks that have to be fetched
HEADER = "| claim | effect | null | verdict |"
VERDICTS = {"reproduced", "not found", "not testable"}
SECONDS_PER_CELL = 240  # on a busy machine; a whole notebook takes less than 60 on a quiet one
MOST_BYTES = 3_000_000
# Absolute paths of a machine (also inside warnings of the kernel), file addresses, hosts that serve packages.
MACHINE = re.compile(
    r"""(?<![\w./])/(home|root|Users|work|tmp|opt|usr|var|mnt|data)/|[A-Z]:\\|file://|/simple/|ipykernel_\d"""
)

by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")


def outputs(notebook: Any) -> Iterator[Any]:
    """All outputs of all code cells."""
    for cell in notebook.cells:
        yield from cell.get("outputs", ())


def texts(notebook: Any) -> str:
    """Everything that was printed or shown as text."""
    said = []
    for output in outputs(notebook):
        said.append(output.get("text", ""))
        said += [str(data) for kind, data in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(said)


def claims(notebook: Any) -> list[list[str]]:
    """The rows of the table of claims, each with its cells; empty without a table."""
    for output in outputs(notebook):
        lines = str(output.get("data", {}).get("text/markdown", "")).splitlines()
        if lines and lines[0] == HEADER:
            return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]
    return []


def errors(notebook: Any) -> list[str]:
    """Names of exceptions that cells ended in."""
    return [output["ename"] for output in outputs(notebook) if output["output_type"] == "error"]


def check_claims(notebook: Any) -> None:
    """Rows of four filled cells, a known verdict in each, and one row for each verdict that was printed."""
    rows = claims(notebook)
    assert rows, "no table of claims"
    assert all(len(row) == 4 and all(row) for row in rows)
    assert {row[3] for row in rows} <= VERDICTS
    assert len(rows) == len(re.findall(r"(?m)^  verdict ", texts(notebook)))


@pytest.mark.parametrize("folder", FOLDERS)
def test_there_are_notebooks(folder: str) -> None:
    assert sum(path.parent.name == folder for path in NOTEBOOKS) >= 3


@pytest.mark.parametrize("folder", FOLDERS)
def test_readme_names_every_notebook(folder: str) -> None:
    readme = (EXAMPLES / folder / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\(([\w-]+\.ipynb)\)", readme))
    assert named == {path.name for path in NOTEBOOKS if path.parent.name == folder}


@by_name
def test_committed_notebook_is_whole(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert "CUTAWAY_EXAMPLES" in first.source
    assert "profile: " in texts(notebook)
    assert not errors(notebook)
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "run all cells in order before committing"
    check_claims(notebook)


@by_name
def test_committed_notebook_is_small_and_names_no_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert path.stat().st_size < MOST_BYTES
    shown = texts(notebook) + "\n".join(cell.source for cell in notebook.cells)
    assert not MACHINE.search(shown)


def test_machine_paths_are_noticed() -> None:
    assert MACHINE.search("see /home/someone/x.py") and MACHINE.search("/tmp/ipykernel_12/1.py:6: Warning")
    assert not MACHINE.search("[decision](../../docs/decisions/0007-curve-criterion.md), a/home/b, 5 px / data")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Any]]:
    """One kernel a folder, so that libraries load once; what a notebook defined is forgotten before the next one."""
    jupyter = pytest.importorskip("jupyter_client")
    pytest.importorskip("ipykernel")
    fields = {"CUTAWAY_EXAMPLES": "small", "OMP_NUM_THREADS": "1", "IPYTHONDIR": os.fspath(tmp_path_factory.mktemp("ipy"))}
    started: dict[Path, Any] = {}

    def of(folder: Path) -> Any:
        if folder not in started:
            environment = {name: value for name, value in os.environ.items() if name != "CUTAWAY_NETWORK"}
            manager = jupyter.KernelManager(kernel_name="python3")
            manager.start_kernel(cwd=os.fspath(folder), env=environment | fields)
            started[folder] = manager
        client = started[folder].blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=120)
        client.execute_interactive("%reset -f", silent=True, store_history=False, timeout=60)
        client.stop_channels()
        return started[folder]

    yield of
    for manager in started.values():
        manager.shutdown_kernel(now=True)


def in_its_folders_worker(path: Path) -> Any:
    marks = [pytest.mark.xdist_group(f"notebooks-{path.parent.name}")]
    return pytest.param(path, marks=marks, id=f"{path.parent.name}/{path.stem}")


@pytest.mark.zoo
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", [in_its_folders_worker(path) for path in NOTEBOOKS])
def test_notebook_runs(path: Path, zoo: Callable[[str], Network], kernels: Callable[[Path], Any]) -> None:
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    for name in sorted(set(EMBEDDED.findall("\n".join(cell.source for cell in notebook.cells)))):
        zoo(name)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(notebook, timeout=SECONDS_PER_CELL, km=kernels(path.parent))
    try:
        client.execute()
    finally:
        client.kc.stop_channels()
        client.kc.context.destroy()
    assert not errors(notebook)
    assert "profile: small" in texts(notebook)
    check_claims(notebook)
