"""Killed at any moment, by several processes at once: nothing is lost but the batch in flight."""

import random
import subprocess
import sys
import time
from pathlib import Path

from cutaway.atlas import Atlas
from cutaway.observe import observe
from tests.observe.small import network, stimuli
from tests.observe.test_observe_stream import SITE, assert_equal

ROOT = Path(__file__).parents[2]
STIMULI, BATCH = 150, 2
WORKER = f"""
import sys, time, torch
from pathlib import Path
torch.set_num_threads(1)
from cutaway.atlas import Atlas
from cutaway.observe import observe
from tests.observe.small import network, stimuli
folder, log, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
with Atlas(folder) as atlas:
    print("ready", flush=True)
    sys.stdin.readline()
    observe(network(log), stimuli({STIMULI}), sites=["{SITE}"], atlas=atlas, batch_size={BATCH},
            progress=lambda done, total: time.sleep(pause))
"""


def start(folder: Path, log: Path, pause: float = 0.0) -> subprocess.Popen:
    command = [sys.executable, "-c", WORKER, str(folder), str(log), str(pause)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def let_go(*workers: subprocess.Popen) -> None:
    """Waits until all are ready, then starts them together."""
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.close()


def passes(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_killing_loses_at_most_the_batch_in_flight(tmp_path: Path) -> None:
    log, generator = tmp_path / "passes", random.Random(0)
    kills = 0
    for _ in range(4):
        before = passes(log)
        worker = start(tmp_path / "killed", log)
        let_go(worker)
        while passes(log) < before + 3 and worker.poll() is None:
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.1))
        kills += worker.poll() is None
        worker.kill()
        worker.wait()
        assert worker.stdout is not None
        worker.stdout.close()
    assert kills >= 2, "the worker was too fast to be killed"
    with Atlas(tmp_path / "killed") as atlas, Atlas(tmp_path / "straight") as other:
        asked = {"sites": [SITE], "batch_size": BATCH}
        finished = observe(network(log), stimuli(STIMULI), atlas=atlas, **asked)
        assert finished.recomputed == ()
        assert STIMULI // BATCH <= passes(log) <= STIMULI // BATCH + kills
        assert_equal(finished, observe(network(), stimuli(STIMULI), atlas=other, **asked))
        atlas.remove_unreferenced(older_than=0.0)
        assert atlas.check() == []
        assert len(list((atlas.path / "arrays").rglob("*.*"))) == 5, "the results, and nothing half-written"


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    logs = [tmp_path / "left", tmp_path / "right"]
    workers = [start(tmp_path / "shared", log, 0.005) for log in logs]
    let_go(*workers)
    for worker in workers:
        worker.wait(timeout=100)
        assert worker.stdout is not None
        worker.stdout.close()
    assert [worker.returncode for worker in workers] == [0, 0]
    counts = [passes(log) for log in logs]
    assert sum(counts) <= STIMULI // BATCH + 2, "each may do the other's last batch again, out of impatience"
    assert min(counts) >= 10, "both have worked"
    with Atlas(tmp_path / "shared") as atlas, Atlas(tmp_path / "straight") as other:
        asked = {"sites": [SITE], "batch_size": BATCH}
        shared = observe(network(), stimuli(STIMULI), atlas=atlas, **asked)
        assert shared.batches_run == 0
        assert_equal(shared, observe(network(), stimuli(STIMULI), atlas=other, **asked))
