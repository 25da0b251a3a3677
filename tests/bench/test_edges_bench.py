"""The edge benchmark still runs, and its plain loop, which shares no code with ours, finds the same scores."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_smoke(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "bench.edges", "--smoke", "--threads", "1", "--json", str(out)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["spearman"] > 0.9999
    assert document["edges"] == 82 and document["over_floor"]["ratio"] > 0
