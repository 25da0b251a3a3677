"""Capture overhead on one transformers folder: a pass that keeps every MLP's hidden units against the bare pass.

Run by the interpreter of whatever tool is measured: ``python capture.py TOOL FOLDER BATCH LENGTH ROUNDS THREADS``.
Prints one JSON object. Every tool runs the same weights on the same tokens and is compared with the bare forward pass
of the module that it itself runs, in its own process. ``unchanged`` says whether logits were those of the bare pass.
"""

import contextlib
import json
import sys
from dataclasses import asdict

import torch

try:
    from bench.timing import paired, peak_megabytes
except ImportError:  # run as a file by another interpreter
    from timing import paired, peak_megabytes


def cutaway_workloads(folder, tokens):
    """Ours: every ``layers.*.mlp`` site, all of the output."""
    import cutaway

    network = cutaway.load(folder)
    sites = [site.name for site in network.sites() if site.kind == "mlp"]
    batch = network.prepare(tokens)

    def bare():
        with torch.no_grad():
            return network.module(**batch.inputs, use_cache=False).logits

    def captured():
        run = network.run(batch, capture=sites)
        assert len(run.captured) == len(sites)
        return run.logits

    return bare, captured


def transformer_lens_workloads(folder, tokens):
    """TransformerLens 4: ``run_with_cache`` of the MLPs' hidden activations over its bridge."""
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32)

    def bare():
        with torch.no_grad():
            return bridge.original_model(tokens, use_cache=False).logits

    def captured():
        with torch.no_grad():
            logits, cache = bridge.run_with_cache(tokens, names_filter=lambda name: name.endswith("mlp.out.hook_in"))
        assert len(cache) == bridge.cfg.n_layers, f"{len(cache)} captures"
        return logits

    return bare, captured


def nnsight_workloads(folder, tokens):
    """nnsight: save the input of every ``down_proj`` in one trace."""
    import nnsight
    import transformers

    module = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    wrapped = nnsight.NNsight(module)

    def bare():
        with torch.no_grad():
            return module(tokens, use_cache=False).logits

    def captured():
        with torch.no_grad(), wrapped.trace(tokens, use_cache=False):
            saved = nnsight.save([layer.mlp.down_proj.input for layer in wrapped.model.layers])
            output = nnsight.save(wrapped.output)
        assert len(saved) == len(module.model.layers)
        return output.logits

    return bare, captured


WORKLOADS = {
    "cutaway": cutaway_workloads,
    "transformer-lens": transformer_lens_workloads,
    "nnsight": nnsight_workloads,
}


def measure(tool, folder, *, batch, length, rounds, threads):
    """The overhead of one tool, as plain values."""
    torch.set_num_threads(threads)
    tokens = torch.randint(10, 40, (batch, length), generator=torch.Generator().manual_seed(0))
    # Libraries that print on stdout must not spoil the one JSON object.
    with contextlib.redirect_stdout(sys.stderr):
        bare, captured = WORKLOADS[tool](folder, tokens)
        unchanged = bool(torch.equal(bare(), captured()))
        found = paired(bare, captured, rounds=rounds)
    return {
        "tool": tool,
        **asdict(found),
        "tokens_per_second": batch * length / found.new_seconds,
        "peak_megabytes": peak_megabytes(),
        "unchanged": unchanged,
    }


if __name__ == "__main__":
    name, where, *sizes = sys.argv[1:]
    batch, length, rounds, threads = map(int, sizes)
    print(json.dumps(measure(name, where, batch=batch, length=length, rounds=rounds, threads=threads)))
