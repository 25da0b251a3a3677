"""Edge attribution: all component edges of a language model by EAP-IG, against its floor and a plain loop.

    python -m bench.edges            smollm2-135m, indirect objects, 32 pairs, five steps: about six minutes
    python -m bench.edges --smoke    a random network: does it still run?

The floor is the passes that the method cannot do without: corrupted prompts forward, then the steps forward and
backward, to the embeddings, without gradients of parameters, logits at the last token only. The plain loop is written
as the published implementation works: full logits, clean and corrupted passes, in each step one hook and one einsum a
node that fills that node's columns of a [source target] matrix from a table of all sources' differences. It is timed
with gradients of parameters, as published, and without.
"""

import argparse
import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from scipy.stats import spearmanr

from bench.timing import paired, peak_megabytes
from cutaway.circuits.edges import Pairs, attribute, logit_difference, wire
from cutaway.circuits.edges.wiring import frozen
from cutaway.networks import load, wrap
from cutaway.networks.network import Batch

NAMES = ("Mary", "John", "Tom", "James", "Anna", "Lucy", "Paul", "Mark")


def indirect_objects(network, count):
    """Prompts of one length: two names, the second again; corrupted, a third name again."""
    token = lambda text: network.tokenizer(text).input_ids  # noqa: E731
    clean, corrupt, target, against = [], [], [], []
    for a in NAMES:
        for b in NAMES:
            third = next(name for name in NAMES if name not in (a, b))
            texts = [f"When {a} and {b} went to the store, {again} gave a drink to" for again in (b, third)]
            if a == b or len(clean) == count or any(len(token(text)) != 14 for text in texts):
                continue
            clean.append(texts[0])
            corrupt.append(texts[1])
            target.append(token(f" {a}")[0])
            against.append(token(f" {b}")[0])
    return Pairs(network.prepare(clean), network.prepare(corrupt), torch.tensor(target), torch.tensor(against))


def floor(network, pairs, metric, steps, size):
    """The bare passes."""
    module = network.module
    for part in pairs.chunks(size):
        mask = part.clean.mask
        with frozen(module):
            start = [network.run(b, capture=["embed"], stop_at=True)["embed"] for b in (part.clean, part.corrupt)]
            network.run(part.corrupt, stop_at="final")
            for step in range(steps):
                point = torch.lerp(*start, step / steps).detach().requires_grad_()
                output = module(inputs_embeds=point, attention_mask=mask, use_cache=False, logits_to_keep=1).logits
                torch.autograd.grad(metric.read(output, part).sum(), point)


def plain_loop(network, pairs, metric, steps, size, *, lean):
    """EAP-IG for pre-norm models of the Llama family, a hook and an einsum a node; ``lean``: no parameter gradients."""
    with frozen(network.module) if lean else nullcontext():
        return torch.cat([_plain(network, part, metric, steps) for part in pairs.chunks(size)]).mean(0)


def _plain(network, pairs, metric, steps):
    module, config = network.module, network.module.config
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    inputs = [{**batch.inputs, "use_cache": False} for batch in (pairs.clean, pairs.corrupt)]
    nodes = 1 + len(module.model.layers) * (heads + 1)
    columns = len(module.model.layers) * (heads + 2 * groups + 1) + 1
    shape = (len(pairs), pairs.clean.mask.shape[1], config.hidden_size)
    table = torch.zeros(*shape[:2], nodes, shape[2])
    scores = torch.zeros(len(pairs), nodes, columns)
    embeddings = []
    with torch.no_grad():
        for sign, fields in zip((-1, 1), inputs):
            handles = _source_hooks(module, table, sign, heads, embeddings)
            module(**fields)
            _remove(handles)
    for step in range(steps):
        point = embeddings[0] + step / steps * (embeddings[1] - embeddings[0])
        handles = _target_hooks(module, table, scores, heads, groups)
        handles.append(module.model.embed_tokens.register_forward_hook(lambda *_, p=point: p.clone().requires_grad_()))
        metric.read(module(**inputs[0]).logits, pairs).sum().backward()
        _remove(handles)
        module.zero_grad(set_to_none=True)
    return scores / steps


def _remove(handles):
    for handle in handles:
        handle.remove()


def _source_hooks(module, table, sign, heads, embeddings):
    """Every source adds what it writes to its row of the table, clean negative, corrupted positive."""

    def embed(_module, _args, output):
        embeddings.append(output.detach())
        table[:, :, 0] += sign * output

    def attention(at):
        def hook(projection, args):
            split = args[0].unflatten(-1, (heads, -1))
            for head in range(heads):
                weight = projection.weight.unflatten(1, (heads, -1))[:, head]
                table[:, :, at + head] += sign * torch.einsum("bpe,de->bpd", split[:, :, head], weight)

        return hook

    def mlp(at):
        def hook(_module, _args, output):
            table[:, :, at] += sign * output

        return hook

    handles = [module.model.embed_tokens.register_forward_hook(embed)]
    for index, layer in enumerate(module.model.layers):
        at = 1 + index * (heads + 1)
        handles.append(layer.self_attn.o_proj.register_forward_pre_hook(attention(at)))
        handles.append(layer.mlp.register_forward_hook(mlp(at + heads)))
    return handles


def _target_hooks(module, table, scores, heads, groups):
    """Every target has its own copy of the stream, so that autograd gives its gradient alone."""
    handles, at = [], 0

    def watch(stream, column, sources):
        def fill(gradient):
            scores[:, :sources, column] += torch.einsum("bpnd,bpd->bn", table[:, :, :sources], gradient)

        copy = stream.clone()
        copy.register_hook(fill)
        return copy

    def projected(norm, column, sources, count):
        def hook(projection, _args, _output):
            stream, parts = norm.kept, []
            for head in range(count):
                weight = projection.weight.unflatten(0, (count, -1))[head]
                parts.append(norm(watch(stream, column + head, sources)) @ weight.T)
            return torch.cat(parts, -1)

        return hook

    def normed(column, sources):
        def hook(_norm, args):
            return (watch(args[0], column, sources),)

        return hook

    for index, layer in enumerate(module.model.layers):
        sources = 1 + index * (heads + 1)
        norm, attention = _Held(layer.input_layernorm), layer.self_attn
        handles.append(layer.input_layernorm.register_forward_pre_hook(norm.keep))
        for projection, count in ((attention.q_proj, heads), (attention.k_proj, groups), (attention.v_proj, groups)):
            handles.append(projection.register_forward_hook(projected(norm, at, sources, count)))
            at += count
        handles.append(layer.post_attention_layernorm.register_forward_pre_hook(normed(at, sources + heads)))
        at += 1
    handles.append(module.model.norm.register_forward_pre_hook(normed(at, table.shape[2])))
    return handles


class _Held:
    """A norm and the stream that it last read."""

    def __init__(self, module):
        self.module, self.kept, self.busy = module, None, False

    def keep(self, _module, args):
        if not self.busy:
            self.kept = args[0]

    def __call__(self, stream):
        self.busy = True
        try:
            return self.module(stream)
        finally:
            self.busy = False


def run(network, counts, steps, size, rounds):
    """Ratios for the largest number of pairs, agreement with the plain loop, seconds for each number of pairs."""
    wired, metric = wire(network), logit_difference()
    everything = indirect_objects(network, max(counts)) if network.tokenizer is not None else _random_pairs(max(counts))
    found = {}
    ours = lambda pairs=everything: attribute(wired, pairs, metric, steps=steps, size=size)  # noqa: E731
    to_floor = paired(lambda: floor(network, everything, metric, steps, size), ours, rounds=rounds)
    peak = peak_megabytes()
    print("floor", to_floor, f"peak {peak:.0f} MB", flush=True)
    few = everything.part(range(min(4, len(everything))))  # the loop takes minutes
    loops = {}
    for name, lean in (("as published", False), ("without parameter gradients", True)):

        def loop(lean=lean):
            found["loop"] = plain_loop(network, few, metric, steps, size, lean=lean)

        loops[name] = paired(lambda: ours(few), loop, rounds=1, warm_up=0)
        print(name, loops[name], flush=True)
    mine, possible = ours(few).mean, wired.graph.possible
    agreement = spearmanr(mine[possible], found["loop"][possible]).statistic
    cost = {count: paired(lambda: None, lambda c=count: ours(everything.part(range(c))), rounds=1) for count in counts}
    return {
        "edges": wired.graph.count,
        "pairs": len(everything),
        "over_floor": asdict(to_floor),
        "plain_loop_over_ours": {name: asdict(ratio) for name, ratio in loops.items()},
        "spearman": float(agreement),
        "peak_mb": peak,
        "seconds_by_pairs": {count: ratio.new_seconds for count, ratio in cost.items()},
    }


def _random_pairs(count):
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(3, 50, (count, 6), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 2] = 3 + (clean[:, 2] + 5) % 47
    real = torch.ones_like(clean, dtype=torch.bool)
    ids = tuple(str(row) for row in range(count))
    batches = [Batch({"input_ids": x, "attention_mask": real.long()}, ids, real) for x in (clean, corrupt)]
    return Pairs(*batches, torch.arange(count) % 10, torch.arange(count) % 10 + 20)


def _tiny():
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=32,
        vocab_size=50,
    )  # fmt: skip
    return wrap(transformers.LlamaForCausalLM(config).eval())


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.edges", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    small = options.smoke
    network = _tiny() if small else load("smollm2-135m")
    document = run(network, (2, 4) if small else (8, 16, 32), 5, 8, 1 if small else options.rounds)
    print(json.dumps(document, indent=1))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
