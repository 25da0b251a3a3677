"""Trains the three small networks that ship with cutaway, each within a few minutes of one core.

    python examples/language/train/train_small_networks.py induction --out build/induction
    python examples/language/train/train_small_networks.py modular   --out build/modular
    python examples/language/train/train_small_networks.py forced    --out build/forced

induction   two layers of attention, no MLP: learns to continue a repeated random sequence (Olsson et al. 2022,
            "In-context Learning and Induction Heads").
modular     one layer: a + b modulo a prime, trained with weight decay on part of all pairs until the rest is right too
            (Power et al. 2022, "Grokking"; Nanda et al. 2023, "Progress measures for grokking").
forced      two layers with MLPs that learn the induction program by a circuit fixed beforehand: strict interchange
            intervention training (Gupta et al. 2024, "InterpBench"), here over edges: besides the behaviour, swapping
            a variable must act as in the program, and swapping what any other edge carries must not matter.

The same seed gives the same weights on the same machine.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cutaway.networks.compiled.effects import forced_truth
from cutaway.networks.compiled.folder import from_folder, save
from cutaway.networks.compiled.module import CompiledTransformer
from cutaway.networks.compiled.parts import candidate_edges, run_parts
from cutaway.networks.compiled.spec import CATEGORICAL, Output, Spec
from cutaway.networks.compiled.truth import Pair

OPEN = -100
"""Marks positions without an answer; cross entropy passes over them."""


def letters(count: int) -> tuple[str, ...]:
    return tuple(f"t{place}" for place in range(count))


def language_spec(name: str, words: tuple[str, ...], computes: str, **sizes: int) -> Spec:
    """A causal network whose outputs are its vocabulary."""
    vocab = (*words, "<bos>")
    return Spec(
        name=name, vocab=vocab, bos_id=len(words), causal=True, output=Output(CATEGORICAL, vocab),
        computes=computes, task="causal-lm", **sizes,
    )  # fmt: skip


def fresh(spec: Spec, seed: int) -> CompiledTransformer:
    torch.manual_seed(seed)  # what torch draws its initial weights from
    module = CompiledTransformer(spec)
    for table in (module.token_embed, module.pos_embed):
        nn.init.normal_(table.weight, std=1 / math.sqrt(spec.d_model))
    return module


def fit(
    module: CompiledTransformer,
    loss_of: Callable[[int], Tensor],
    *,
    steps: int,
    rate: float,
    decay: float,
    good: Callable[[], float],
    enough: float,
    every: int = 250,
) -> float:
    """Adam with warm-up and a cosine to a tenth; stops when ``good()`` reaches ``enough``; returns its last value."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=decay, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 100) * (0.55 + 0.45 * math.cos(math.pi * step / steps))
    )
    score, start = 0.0, time.process_time()
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss = loss_of(step)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % every == 0 or step == steps:
            score = good()
            spent = time.process_time() - start
            print(f"{step:6d}  loss {loss.item():.4f}  score {score:.4f}  {spent:.0f} s", flush=True)
            if score >= enough:
                break
    return score


# -- induction -------------------------------------------------------------------------------------------------------


def repeated(spec: Spec, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids [count pos] of random sequences that repeat after 5 to 16 tokens, and what follows each (OPEN at first)."""
    words, length = spec.vocab_size - 1, spec.max_len
    order = torch.rand(count, words, generator=generator).argsort(1)
    period = torch.randint(5, min(16, words) + 1, (count, 1), generator=generator)
    places = torch.arange(length + 1)[None]
    tokens = order.gather(1, places % period)
    ids = torch.cat([torch.full((count, 1), spec.bos_id), tokens[:, :-1]], 1)
    # The token at place t of the text is predictable from its second period on.
    return ids, tokens.where(places > period, OPEN)


def train_induction(seed: int, steps: int) -> tuple[CompiledTransformer, dict]:
    spec = language_spec(
        "induction-lm", letters(32), "Continues a repeated random sequence; two layers of attention, trained.",
        max_len=32, d_model=64, num_layers=2, num_heads=4, key_size=16, mlp_hidden=0,
    )  # fmt: skip
    generator, module = torch.Generator().manual_seed(seed), fresh(spec, seed)

    def loss_of(_step: int) -> Tensor:
        ids, following = repeated(spec, 64, generator)
        return cross_entropy(module(ids).transpose(1, 2), following, ignore_index=OPEN)

    def good() -> float:
        ids, following = repeated(spec, 256, torch.Generator().manual_seed(seed + 1))
        return accuracy(module, ids, following)

    score = fit(module, loss_of, steps=steps, rate=2e-3, decay=0.01, good=good, enough=0.995)
    return module, {"accuracy_on_repeated": score}


@torch.no_grad()
def accuracy(module: CompiledTransformer, ids: Tensor, following: Tensor) -> float:
    known = following != OPEN
    return float((module(ids).argmax(-1) == following)[known].float().mean())


# -- modular addition ------------------------------------------------------------------------------------------------


def train_modular(seed: int, steps: int, prime: int = 53, share: float = 0.7) -> tuple[CompiledTransformer, dict]:
    words = (*map(str, range(prime)), "=")
    spec = language_spec(
        "modular-addition", words, f"a + b modulo {prime}, answered at '='; one layer, trained.",
        max_len=3, d_model=64, num_layers=1, num_heads=4, key_size=16, mlp_hidden=256,
    )  # fmt: skip
    generator, module = torch.Generator().manual_seed(seed), fresh(spec, seed)
    pairs = torch.cartesian_prod(torch.arange(prime), torch.arange(prime))
    ids = torch.cat([torch.full((len(pairs), 1), spec.bos_id), pairs, torch.full((len(pairs), 1), prime)], 1)
    answers = pairs.sum(1) % prime
    order = torch.randperm(len(pairs), generator=generator)
    seen, held = order[: int(share * len(pairs))], order[int(share * len(pairs)) :]

    def loss_of(_step: int) -> Tensor:
        batch = seen[torch.randint(len(seen), (512,), generator=generator)]
        return cross_entropy(module(ids[batch])[:, -1], answers[batch])

    @torch.no_grad()
    def good() -> float:
        return float((module(ids[held])[:, -1].argmax(-1) == answers[held]).float().mean())

    score = fit(module, loss_of, steps=steps, rate=3e-3, decay=1.0, good=good, enough=0.9995)
    return module, {"test_accuracy": score, "train_share": share}


# -- a forced circuit ------------------------------------------------------------------------------------------------

BEFORE, ANSWER = "L0H1", "L1H2"
"""The head that must hold the token before, and the head that must hold the answer."""

FORCED: dict[Pair, str] = {
    ("embed", f"{BEFORE}.v"): "data",
    ("pos_embed", f"{BEFORE}.q"): "position",
    ("pos_embed", f"{BEFORE}.k"): "position",
    ("embed", f"{ANSWER}.q"): "data",
    (BEFORE, f"{ANSWER}.k"): "data",
    ("embed", f"{ANSWER}.v"): "data",
    (ANSWER, "unembed"): "data",
}


def random_ids(spec: Spec, count: int, generator: torch.Generator) -> Tensor:
    tokens = torch.randint(spec.vocab_size - 1, (count, spec.max_len), generator=generator)
    return torch.cat([torch.full((count, 1), spec.bos_id), tokens], 1)


def program(own: Tensor, before: Tensor) -> Tensor:
    """The induction program: the token at the place whose token before is this one, OPEN if none or several differ."""
    match = (before[:, None, :] == own[:, :, None]).tril()
    match[:, 0] = match[:, :, 0] = False
    first = match.float().argmax(2)
    answer = own.gather(1, first)
    same = (own[:, None, :] == answer[:, :, None]) | ~match
    return answer.where(match.any(2) & same.all(2), OPEN)


def preceding(ids: Tensor) -> Tensor:
    return torch.cat([ids[:, :1], ids[:, :-1]], 1)


def run_cut(module: CompiledTransformer, ids: Tensor, donors: dict[str, Tensor], cut: dict[Pair, Tensor]) -> Tensor:
    """Logits with false edges cut: ``cut`` [batch] is 1 where an edge carries the donor's content. No norms.

    The same as ``run_parts`` with those edges replaced, with all readers of a layer in one product.
    """
    spec, heads = module.spec, module.spec.num_heads
    names, total = ["embed", "pos_embed"], module.token_embed(ids) + module.pos_embed(torch.arange(ids.shape[1]))
    changes = [donors["embed"] - module.token_embed(ids), donors["pos_embed"] - module.pos_embed.weight[: ids.shape[1]]]
    nothing, visible = torch.zeros(len(ids)), module.visible(ids.shape[1], None)

    def read(targets: list[str]) -> Tensor:
        mask = torch.stack([torch.stack([cut.get((name, target), nothing) for name in names]) for target in targets])
        return total + torch.einsum("rsb,sbpd->rbpd", mask, torch.stack(changes))

    def wrote(name: str, value: Tensor) -> None:
        names.append(name)
        changes.append(donors[name] - value)

    for index, block in enumerate(module.layers):
        who = [f"L{index}H{head}" for head in range(heads)]
        attention = block.attn
        maps = [attention.query, attention.key, attention.value]
        weight = torch.cat([each.weight for each in maps]).unflatten(0, (3 * heads, -1))
        bias = torch.cat([each.bias for each in maps]).unflatten(0, (3 * heads, 1, 1, -1))
        x = read([f"{head}.{port}" for port in "qkv" for head in who])
        q, k, v = (torch.einsum("rbpd,rkd->rbpk", x, weight) + bias).chunk(3)
        scores = (q @ k.transpose(-1, -2) / math.sqrt(spec.key_size)).masked_fill(~visible[0], -1e30)
        out = attention.linear.weight.unflatten(1, (heads, -1))
        written = torch.einsum("hbpk,dhk->hbpd", scores.softmax(-1) @ v, out)
        for head, value in zip(who, written):
            wrote(head, value)
        total = total + written.sum(0) + attention.linear.bias
        value = block.mlp(read([f"L{index}MLP"])[0])
        wrote(f"L{index}MLP", value)
        total = total + value
    return module.unembed(read(["unembed"])[0])


def train_forced(seed: int, steps: int) -> tuple[CompiledTransformer, dict]:
    spec = language_spec(
        "forced-induction", tuple("abcdefgh"),
        "The token after the previous occurrence of this one, by a circuit that training forced.",
        max_len=10, d_model=32, num_layers=2, num_heads=3, key_size=8, mlp_hidden=16,
    )  # fmt: skip
    generator, module = torch.Generator().manual_seed(seed), fresh(spec, seed)
    candidates = candidate_edges(spec)
    # A variable is interchanged where all that reads it reads the donor's: the first half of a batch swaps one of
    # the two, the second half cuts a random part of the false edges (every third step all of them).
    batch, half = 64, 32

    def edge_masks(step: int) -> dict[Pair, Tensor]:
        share = 0.5 if step % 3 else 1.1
        masks = {}
        for pair in candidates:
            swapped = torch.full((half,), float(pair[0] == (BEFORE, ANSWER)[step % 2]))
            strict = (torch.rand(half, generator=generator) < share).float() * float(pair not in FORCED)
            masks[pair] = torch.cat([swapped, strict])
        return masks

    def loss_of(step: int) -> Tensor:
        own, donor = random_ids(spec, 2 * batch, generator).chunk(2)
        parts = run_parts(module, torch.cat([own, donor]))
        clean, (expected, donated) = parts.logits, (program(each, preceding(each)) for each in (own, donor))
        lent = {name: written[batch:] for name, written in parts.written.items()}
        # pos_embed is the same in every input: a cut edge carries it shuffled over positions instead.
        lent["pos_embed"] = lent["pos_embed"][:, torch.randperm(own.shape[1], generator=generator)]
        logits = run_cut(module, own, lent, edge_masks(step))
        swapped = (program(own, preceding(donor)), donated)[step % 2][:half]
        return (
            answered(clean, torch.cat([expected, donated]))
            + answered(logits[:half], swapped)
            + answered(logits[half:], expected[half:])
            + drift(logits[half:], clean[half:batch])
        )

    def good() -> float:
        ids = random_ids(spec, 512, torch.Generator().manual_seed(seed + 1))
        return accuracy(module, ids, program(ids, preceding(ids)))

    score = fit(module, loss_of, steps=steps, rate=2e-3, decay=0.01, good=good, enough=2.0, every=100)
    return module, {"accuracy": score}


def answered(logits: Tensor, answers: Tensor) -> Tensor:
    return cross_entropy(logits.transpose(1, 2), answers, ignore_index=OPEN)


def drift(logits: Tensor, clean: Tensor) -> Tensor:
    """How far the answers moved that should not have: the divergence from the clean ones (nats), after BOS."""
    found, wanted = logits[:, 1:].log_softmax(-1), clean[:, 1:].detach().log_softmax(-1)
    return (wanted.exp() * (wanted - found)).sum(-1).mean()


TRAINERS = {
    "induction": (train_induction, 4000),
    "modular": (train_modular, 6000),
    "forced": (train_forced, 3000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=TRAINERS)
    parser.add_argument("--out", type=Path, required=True, help="folder for config.json and weights.safetensors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="fewer steps than it takes, to see it run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, steps = TRAINERS[arguments.network]
    steps = arguments.steps or steps
    start = time.process_time()
    module, measured = train(arguments.seed, steps)
    module = module.eval()
    save(module, arguments.out, torch.float16)
    if arguments.network == "forced":
        write_truth(arguments.out, arguments.seed)
    record = {"network": arguments.network, "seed": arguments.seed, "most_steps": steps, **measured}
    record["seconds_on_one_core"] = round(time.process_time() - start)
    (arguments.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


def write_truth(folder: Path, seed: int) -> None:
    """The truth of the network as it was saved, in half precision."""
    module = from_folder(folder).module
    assert isinstance(module, CompiledTransformer)
    ids = random_ids(module.spec, 60, torch.Generator().manual_seed(seed + 2))
    texts = [module.spec.vocabulary.decode(row[1:]) for row in ids]
    texts += [" ".join(text.split()[:7]) for text in texts[:20]]
    truth = forced_truth(module, FORCED, texts, seed=seed)
    (folder / "truth.json").write_text(json.dumps(truth.to_json(), indent=1) + "\n")


if __name__ == "__main__":
    main()
