"""The visualization benchmark still runs, and its plain loop climbs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_smoke(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "bench.visualize",
        "--smoke",
        "--threads",
        "1",
        "--json",
        str(tmp_path / "out.json"),
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert document["speed"]["cutaway"]["channels"] == 4
    assert len(document["speed"]["plain loop"]["activations"]) == 2
    assert document["step"]["plain"]["ratio"] > 0
    assert list(document["linear"]) == ["2", "4", "8"]


def test_the_plain_loop_climbs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import visualize as bench
    from cutaway.features.visualize import best_activations
    from tests.networks.tiny import hook_count

    network = bench._tiny()
    start, end = (bench.plain_loop(network, "4", 1, steps, 48) for steps in (0, 25))
    assert best_activations(network, "4", end)[0, 1] > best_activations(network, "4", start)[0, 1] + 0.01
    assert end.shape == (1, 3, 48, 48) and hook_count(network.module) == 0
