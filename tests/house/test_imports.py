"""Arrows point one way, `import cutaway` is light, and nobody else's interpretability code is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import EVERYWHERE, ORDER, PACKAGE, dotted, imported, modules, tree

HEAVY = {"torch", "transformers", "numpy", "scipy", "sklearn", "matplotlib", "sqlalchemy", "PIL", "h5py"}
PEERS = {
    "transformer_lens", "nnsight", "nnterp", "captum", "lucent", "sae_lens", "circuitsvis", "pyvene", "baukit",
    "dictionary_learning", "zennit", "quantus", "inseq", "shap", "lime", "tuned_lens", "torchlens", "delphi", "penzai",
    "alibi", "interpret", "netdissect", "easy_transformer", "circuit_tracer", "auto_circuit", "rome", "crosscoders",
}  # fmt: skip


def place_of(name: str) -> str:
    """The room (or top-level module) that a dotted name below ``cutaway`` belongs to; empty for the root itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (*ORDER, *EVERYWHERE) else ""


def wrong_arrows(module: str, code: ast.AST) -> list[str]:
    """Imports of ``module`` that point from an earlier stage to a later one."""
    own = place_of(module)
    wrong = []
    for name in imported(code):
        target = place_of(name) if name.split(".")[0] == "cutaway" else ""
        if not target or target == own or target in EVERYWHERE:
            continue
        if own in EVERYWHERE or ORDER.index(target) > ORDER.index(own):
            wrong.append(f"{module} imports {name}")
    return wrong


@pytest.mark.parametrize("path", [path for path in modules() if path != PACKAGE / "__init__.py"], ids=dotted)
def test_imports_point_from_later_stages_to_earlier_ones(path: Path) -> None:
    assert wrong_arrows(dotted(path), tree(path)) == []


def test_every_folder_and_top_module_has_a_place() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(ORDER)
    assert {path.stem for path in PACKAGE.glob("*.py")} <= {"__init__", "pipeline", *EVERYWHERE}


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("cutaway.features.card", "from cutaway.audits.findings import Finding"),
        ("cutaway.networks.load", "def f():\n    import cutaway.atlas"),
        ("cutaway.evidence.nulls", "from importlib import import_module\nimport_module('cutaway.observe')"),
        ("cutaway.errors", "from cutaway.networks import Network"),
        ("cutaway.report.html", "from cutaway import pipeline"),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, code: str) -> None:
    assert wrong_arrows(module, ast.parse(code))


def test_right_arrows_are_let_through() -> None:
    code = "from cutaway.networks import Network\nfrom cutaway.errors import BadInput\nimport torch\nimport cutaway"
    assert wrong_arrows("cutaway.features.card", ast.parse(code)) == []


def peers_in(code: ast.AST) -> set[str]:
    return {name.split(".")[0] for name in imported(code)} & PEERS


def test_no_other_interpretability_package_is_used() -> None:
    assert {dotted(path): found for path in modules() if (found := peers_in(tree(path)))} == {}


def test_another_interpretability_package_would_be_seen() -> None:
    assert peers_in(ast.parse("def f():\n    from captum.attr import IntegratedGradients")) == {"captum"}


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh Python has loaded after running ``code``."""
    script = f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return {name.split(".")[0] for name in done.stderr.split()} & HEAVY


@pytest.mark.parametrize(
    "code",
    [
        "import cutaway; dir(cutaway)",
        "from cutaway.cli.main import main; main(['--help'])",
        "from cutaway.cli.main import main; main(['audit', '--help'])",
        "from cutaway.cli.main import main; main(['--version'])",
        "from cutaway.cli.main import main; main(['audti'])",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code: str) -> None:
    assert loaded_by(code) == set()


def test_something_heavy_would_be_seen() -> None:
    assert "torch" in loaded_by("import cutaway; cutaway.Measurement; cutaway.load")
