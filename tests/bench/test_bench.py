"""The benchmarks still run, and their ratio is what a hand count says."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import timing

    return timing


def test_a_ratio_of_known_workloads(timing) -> None:
    found = timing.paired(lambda: time.sleep(0.01), lambda: time.sleep(0.03), rounds=5)
    assert 2 < found.ratio < 4 and found.low <= found.ratio <= found.high
    assert found.rounds == 5 and found.new_seconds > found.base_seconds


def test_smoke() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "bench", "--smoke"], cwd=ROOT, capture_output=True, text=True, timeout=250, check=False
    )
    assert ended.returncode == 0, ended.stderr
    line = next(line for line in ended.stdout.splitlines() if line.startswith("cutaway"))
    assert line.endswith("yes"), "a pass-through capture changed the logits"
