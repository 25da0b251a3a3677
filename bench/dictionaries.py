"""Training sparse autoencoders: tokens a second, explained variance, memory and recovery, against SAELens.

    python -m bench.dictionaries --saelens PATH     PATH: a Python with SAELens (tested with 6.54.12)
    python -m bench.dictionaries --smoke            tiny sizes; ours only where no PATH is given

Both tools train a TopK autoencoder by their own trainers (``cutaway.bases.training.train``; ``SAETrainer.fit`` with
``TopKTrainingSAE``) on the same file of rows, in the same order, with the same learning rates, warm-up and decay. Each
tool is a process of its own that stops after every round of steps, so that rounds alternate; ratios are of neighbouring
rounds. Processor time is kept beside time, for machines that are not quiet. SAELens runs twice, with dense and with
sparse codes (its option; without its rescaling by decoder norms, with which the sparse backward raises on this
PyTorch); the faster one counts. Rows are scaled so that their mean squared norm is their width before any tool sees
them. AuxK is on in all, for latents that are silent for 50 batches. Explained variance is measured on rows that no
tool saw. Memory is the growth of the process's peak from before training to its end. Recovery: MCC of decoder rows with
the true features of planted rows (256 features in 64 dimensions, 5 % active). ``--rows FILE`` takes cached activations
(.npy, [row unit]) instead of planted ones.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()
SIZES = {"d": 576, "width": 4608, "k": 32, "batch": 4096, "steps": 20, "rounds": 8, "lr": 1e-3, "lr_theirs": 1e-3}
TINY = {"d": 32, "width": 64, "k": 4, "batch": 64, "steps": 3, "rounds": 2, "lr": 1e-3, "lr_theirs": 1e-3}
RECOVERY = {"d": 64, "width": 256, "k": 13, "batch": 512, "steps": 1000, "rounds": 1, "lr": 2e-3, "lr_theirs": 2e-3}
RECOVERY_TINY = {**RECOVERY, "batch": 128, "steps": 20}
WARMUP, DECAY, HELD_OUT = 0.05, 0.2, 4096
DEAD_BATCHES = 50  # silent for so many batches: AuxK works on it
PEERS = ("saelens-dense", "saelens-sparse")


def main():
    """Runs the comparison and prints it; ``--json FILE`` keeps the numbers."""
    options = _options()
    if options.worker:
        return work(options.worker[0], *(json.loads(text) for text in options.worker[1:]))
    sizes = {**(TINY if options.smoke else SIZES), **json.loads(options.sizes)}
    tools = ["cutaway", *(PEERS if options.saelens else ())]
    with tempfile.TemporaryDirectory() as place:
        speed = _speed(options, sizes, tools, Path(place))
        recovery = _recovery(options, RECOVERY_TINY if options.smoke else RECOVERY, tools, Path(place))
    document = {"threads": options.threads, "sizes": sizes, "speed": speed, "recovery": recovery}
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    print(_table(document))
    return 0


def _options():
    parser = argparse.ArgumentParser(prog="python -m bench.dictionaries", description="Dictionary training.")
    parser.add_argument("--saelens", type=Path, help="a Python interpreter that imports sae_lens")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="cached activations, .npy [row unit]")
    parser.add_argument("--sizes", default="{}", help="JSON that changes sizes, e.g. '{\"rounds\": 4}'")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


# --- the parent: alternating rounds ---


def _speed(options, sizes, tools, place):
    rows = np.load(options.rows).astype(np.float32) if options.rows else _planted(sizes, 16 * sizes["batch"])[0]
    file = _stored(place / "speed.npy", rows)
    workers = [_Worker(tool, options, file, sizes) for tool in tools]
    seconds, busy = ({worker.tool: [] for worker in workers} for _ in range(2))
    for turn in range(sizes["rounds"]):
        for worker in workers if turn % 2 == 0 else workers[::-1]:
            for kept, value in zip((seconds, busy), worker.round()):
                kept[worker.tool].append(value)
            print(f"round {turn} {worker.tool}: {seconds[worker.tool][-1]:.1f} s", file=sys.stderr, flush=True)
    results = {
        worker.tool: {**worker.end(), "seconds": seconds[worker.tool], "busy": busy[worker.tool]} for worker in workers
    }
    for found in results.values():
        kept = found["seconds"][1:] or found["seconds"]  # the first round warms up
        found["tokens_per_second"] = sizes["batch"] * sizes["steps"] / float(np.median(kept))
    return results


def _recovery(options, sizes, tools, place):
    from cutaway.evidence.metrics import mcc

    rows, truth = _planted(sizes, 60_000 if not options.smoke else 8_000, features=sizes["width"], share=0.05)
    file, found = _stored(place / "recovery.npy", rows), {}
    for tool in tools:
        worker = _Worker(tool, options, file, sizes)
        seconds = worker.round()[0]
        decoder = worker.end()
        learned = np.load(decoder["decoder"])
        found[tool] = {"mcc": mcc(learned, truth), "explained": decoder["explained"], "seconds": seconds}
    return found


def _planted(sizes, count, features=None, share=None):
    """Rows of sparse features: as many as latents, each active with ``share`` (None: a power law, k in all a row)."""
    chance = np.random.default_rng(0)
    features = features or sizes["width"]
    truth = chance.standard_normal((features, sizes["d"])).astype(np.float32)
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    rates = np.full(features, share) if share else np.arange(1, features + 1) ** -0.7
    rates = rates if share else np.minimum(0.5, rates * sizes["k"] / rates.sum())
    parts = []
    for at in range(0, count, 4096):
        active = chance.random((min(4096, count - at), features), dtype=np.float32) < rates
        parts.append((active * (0.5 + chance.random(active.shape, dtype=np.float32))) @ truth)
    return np.concatenate(parts).astype(np.float32), truth


def _stored(file, rows):
    """Shuffled, scaled so that the mean squared norm is the width."""
    rows = rows[np.random.default_rng(1).permutation(len(rows))]
    np.save(file, rows * np.float32(np.sqrt(rows.shape[1] / np.square(rows).sum(1).mean())))
    return file


class _Worker:
    """A tool in a process of its own that trains when told to."""

    def __init__(self, tool, options, file, sizes):
        self.tool = tool
        python = sys.executable if tool == "cutaway" else str(options.saelens)
        job = json.dumps({"file": str(file), "threads": options.threads})
        command = [python, str(HERE), "--worker", tool, json.dumps(sizes), job]
        source = str(HERE.parent.parent / "src")
        threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        environment = {**os.environ, **threads, "WANDB_MODE": "disabled", "TQDM_DISABLE": "1"}
        if tool == "cutaway":
            environment["PYTHONPATH"] = source
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._read()  # ready

    def round(self):
        """Seconds of one round of steps, and seconds of processor time in it."""
        self._write("go")
        found = self._read()
        return found["seconds"], found["busy"]

    def end(self):
        """What the tool measured after training."""
        self._write("end")
        found = self._read()
        self.process.wait()
        return found

    def _write(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("BENCH "):
                return json.loads(line[6:])
        raise SystemExit(f"{self.tool} ended with {self.process.wait()}; see its error above.")


# --- the worker: runs under either interpreter ---


def work(tool, sizes, job):
    """Trains when told to on stdin, and says on stdout how long it took."""
    import torch

    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    rows = torch.from_numpy(np.load(job["file"]))
    held = min(HELD_OUT, len(rows) // 8)
    seen, unseen = rows[held:], rows[:held]
    gate = _Gate(sizes["steps"])
    trained = (_ours if tool == "cutaway" else _theirs)(tool, sizes, seen, gate)
    gate.stop()
    with torch.no_grad():
        found = trained(unseen)
        error, spread = (found - unseen).square().mean(), (unseen - unseen.mean(0)).square().mean()
    decoder = Path(job["file"]).with_suffix(f".{tool}.npy")
    np.save(decoder, trained.decoder.detach().numpy())
    _say({"explained": float(1 - error / spread), "megabytes": gate.grown, "peak": _peak(), "decoder": str(decoder)})
    return 0


class _Gate:
    """Lets ``steps`` batches pass for every word on stdin."""

    def __init__(self, steps):
        self.steps, self.passed, self.since, self.before = steps, 0, None, None

    def __call__(self, batches):
        """The batches, with stops."""
        for batch in batches:
            if self.passed % self.steps == 0:
                self.stop()
                self.since = time.perf_counter(), time.process_time()
            self.passed += 1
            yield batch

    def stop(self):
        """Says how long the round took and waits."""
        if self.since is None:
            self.before = _peak()
            _say({"ready": True})
        else:
            self.grown = _peak() - self.before
            _say({"seconds": time.perf_counter() - self.since[0], "busy": time.process_time() - self.since[1]})
        sys.stdin.readline()


def _batches(rows, size, epochs=1_000_000):
    import torch

    for epoch in range(epochs):
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(epoch))
        for part in order[: len(rows) // size * size].split(size):
            yield rows[part]


def _ours(tool, sizes, rows, gate):
    from cutaway.bases import TensorSource
    from cutaway.bases.training import Recipe, train

    class Gated(TensorSource):
        """The same batches as the peers', behind the gate (the first batch alone is the sample for the start)."""

        calls = 0

        def batches(self, size, *, seed=0, start=0):
            type(self).calls += 1
            each = _batches(rows, size)
            for x in each if self.calls == 1 else gate(each):
                yield x, x

    steps = sizes["steps"] * sizes["rounds"]
    recipe = Recipe(
        kind="topk", width=sizes["width"], k=sizes["k"], batch=sizes["batch"], steps=steps, lr=sizes["lr"],
        warmup=WARMUP, decay=DECAY, dead_after=DEAD_BATCHES * sizes["batch"],
    )  # fmt: skip
    dictionary = train(Gated(rows), recipe, every=10)[0].dictionary

    def reconstruct(x):
        return dictionary.reconstruct(x)

    reconstruct.decoder = dictionary.W_dec
    return reconstruct


def _theirs(tool, sizes, rows, gate):
    from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig

    steps = sizes["steps"] * sizes["rounds"]
    sparse = tool == "saelens-sparse"  # whose backward fails with the default rescaling (6.54.12, torch 2.13 on CPU)
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=sizes["d"], d_sae=sizes["width"], k=sizes["k"],
            use_sparse_activations=sparse, rescale_acts_by_decoder_norm=not sparse,
        )
    )  # fmt: skip
    config = SAETrainerConfig(
        total_training_samples=steps * sizes["batch"], train_batch_size_samples=sizes["batch"],
        lr=sizes["lr_theirs"], lr_end=0.0, lr_warm_up_steps=int(WARMUP * steps), lr_decay_steps=int(DECAY * steps),
        dead_feature_window=DEAD_BATCHES,
    )  # fmt: skip
    SAETrainer(config, sae, gate(_batches(rows, sizes["batch"]))).fit()

    def reconstruct(x):
        return sae.decode(sae.encode(x))

    reconstruct.decoder = sae.W_dec
    return reconstruct


def _say(content):
    print("BENCH " + json.dumps(content), flush=True)


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- the table ---


def _table(document):
    speed, recovery = document["speed"], document["recovery"]
    lines = [f"{'tool':16} {'tokens/s':>9} {'explained':>10} {'grown MB':>9} {'peak MB':>8} {'MCC':>7}"]
    for tool, found in speed.items():
        lines.append(
            f"{tool:16} {found['tokens_per_second']:9.0f} {found['explained']:10.4f} {found['megabytes']:9.0f} "
            f"{found['peak']:8.0f} {recovery[tool]['mcc']:7.4f}"
        )
    peers = [tool for tool in speed if tool != "cutaway"]
    if peers:
        best = max(peers, key=lambda tool: speed[tool]["tokens_per_second"])
        low, middle, high = _ratio(speed[best]["seconds"], speed["cutaway"]["seconds"])
        lines.append(f"{middle:.2f} [{low:.2f}, {high:.2f}] times the tokens a second of {best}, the faster peer")
        low, middle, high = _ratio(speed[best]["busy"], speed["cutaway"]["busy"])
        lines.append(f"{middle:.2f} [{low:.2f}, {high:.2f}] times its tokens a second of processor time")
    return "\n".join(lines)


def _ratio(theirs, ours):
    """Median of neighbouring rounds' ratios without the first, with its 95 % bootstrap interval."""
    ratios = np.array(theirs[1:] or theirs) / np.array(ours[1:] or ours)
    drawn = ratios[np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))]
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(np.median(ratios)), float(high)


if __name__ == "__main__":
    sys.exit(main())
