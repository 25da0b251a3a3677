"""Runs the benchmarks and prints one table; ``--json FILE`` also keeps the numbers."""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import peers
from bench.capture import WORKLOADS

HERE = Path(__file__).parent


def main() -> int:
    """Every tool on the same weights and tokens, each in a process of its own."""
    options = _options()
    if options.install:
        for tool in peers.PACKAGES:
            print(f"installing {tool} ...", file=sys.stderr, flush=True)
            peers.install(tool)
    with tempfile.TemporaryDirectory() as workplace:
        folder = _tiny_folder(Path(workplace)) if options.smoke else _smollm2()
        sizes = (2, 8, 3, 1) if options.smoke else (options.batch, options.length, options.rounds, options.threads)
        results = [found for tool in WORKLOADS if (found := _run(tool, folder, sizes)) is not None]
    document = {
        "machine": _machine(options.threads),
        "sizes": dict(zip(("batch", "length", "rounds", "threads"), sizes)),
    }
    document["capture"] = results
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    print(_table(results))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Capture overhead against peers.")
    parser.add_argument("--install", action="store_true", help="make the peers' environments first")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, ours only where peers are absent")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _run(tool: str, folder: Path, sizes: tuple[int, ...]) -> dict | None:
    interpreter = Path(sys.executable) if tool == "cutaway" else peers.python_of(tool)
    if interpreter is None:
        print(f"{tool}: skipped, no environment (python -m bench --install)", file=sys.stderr)
        return None
    module = ["-m", "bench.capture"] if tool == "cutaway" else [str(HERE / "capture.py")]
    command = [str(interpreter), *module, tool, str(folder), *map(str, sizes)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, check=False)
    if ended.returncode:
        print(f"{tool}: failed\n{ended.stderr[-2000:]}", file=sys.stderr)
        return None
    return json.loads(ended.stdout.strip().splitlines()[-1])


def _smollm2() -> Path:
    from cutaway.networks.zoo import hf_folder

    return hf_folder("smollm2-135m", progress=lambda sentence: print(sentence, file=sys.stderr))


def _tiny_folder(workplace: Path) -> Path:
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.LlamaConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32, vocab_size=50
    )
    transformers.LlamaForCausalLM(config).save_pretrained(workplace)
    return workplace


def _machine(threads: int) -> dict:
    import torch

    return {"python": platform.python_version(), "torch": torch.__version__, "cpu": _cpu(), "threads": threads}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _table(results: list[dict]) -> str:
    head = f"{'tool':18} {'overhead':>9} {'95 % interval':>17} {'tokens/s':>9} {'peak MB':>8}  unchanged"
    rows = [
        f"{r['tool']:18} {r['ratio']:9.3f} {'[{:.3f}, {:.3f}]'.format(r['low'], r['high']):>17} "
        f"{r['tokens_per_second']:9.0f} {r['peak_megabytes']:8.0f}  {'yes' if r['unchanged'] else 'no'}"
        for r in results
    ]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    sys.exit(main())
