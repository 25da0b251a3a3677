"""The peers' own environments: each tool with what it pins, away from ours."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HOME = HERE / ".peers"
PACKAGES = {
    "transformer-lens": ["transformer-lens==4.3.0"],
    "nnsight": ["nnsight==0.8.1", "transformers>=5", "accelerate"],
}


def python_of(tool: str) -> Path | None:
    """The interpreter of a peer's environment; None where it was not made."""
    path = HOME / tool / "bin" / "python"
    return path if path.exists() else None


def install(tool: str) -> None:
    """Makes a peer's environment with the same PyTorch build as ours."""
    environment = HOME / tool
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    constraints = HERE.parent / "constraints.txt"
    packages = ["torch", "numpy", *PACKAGES[tool]]
    pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "-c", constraints]
    subprocess.run([*pip, *packages], check=True)
