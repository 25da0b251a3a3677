"""From a program to a transformer that computes it, with its true circuit.

1. Order the operations; give each its residual dimensions and the earliest layer whose inputs are there (attention
   comes before the MLP of its layer).
2. Lower each to a head or to neurons (:mod:`~cutaway.networks.compiled.lowering`).
3. Put heads and neurons into matrices of equal size; what is left over stays zero: a component that does nothing.
4. Read the true edges off the weights and measure by intervention what each can show.

The idea is Tracr (Lindner et al. 2023); constants come from the dimension "one" (0 at BOS here), no biases are set.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.networks.compiled.effects import truth_of
from cutaway.networks.compiled.lowering import HeadPlan, Neuron, Subspaces, Weights, head_plan, neurons
from cutaway.networks.compiled.module import Block, CompiledTransformer
from cutaway.networks.compiled.rasp import Aggregate, Domains, Indices, Ones, Op, Reciprocal, Tokens, in_order
from cutaway.networks.compiled.spec import CATEGORICAL, NUMERICAL, Output, Spec, Value, Words
from cutaway.networks.compiled.truth import Truth
from cutaway.networks.network import Network

BOS = "<bos>"
PROBES = 12
"""Random inputs of each length from which it is told what edges carry and show."""


@dataclass(frozen=True, eq=False)
class Compiled:
    """A network that computes a program exactly, and the truth about its circuit."""

    network: Network
    truth: Truth

    @property
    def module(self) -> CompiledTransformer:
        """The module, which answers to words: ``compiled.module.answer("a b c")``."""
        assert isinstance(self.network.module, CompiledTransformer)
        return self.network.module


def compile(
    program: Op,
    vocab: Sequence[str],
    max_len: int,
    *,
    causal: bool = False,
    name: str = "program",
    computes: str = "",
    inputs: Iterable[Words] | None = None,
    names: dict[Op, str] | None = None,
    seed: int = 0,
    source: str = "",
) -> Compiled:
    """The transformer that computes ``program`` on 1 to ``max_len`` words of ``vocab``.

    ``inputs`` are what the truth's effects are measured on; without them, random ones drawn from ``seed`` (give
    some where the program is not defined on all). ``names`` name operations in labels and in the truth, ``source``
    is what loads the network again. Raises :class:`BadInput` for a program that has no such transformer, or sizes
    that cannot be.
    """
    words = _checked(vocab, max_len)
    plan = _plan(program, words, max_len, names or {})
    module = _module(plan, program, words, max_len, causal, name, computes)
    shown = list(inputs) if inputs is not None else random_inputs(words, max_len, per_length=PROBES, seed=seed)
    truth = truth_of(module, shown, algorithm=plan.algorithm, seed=seed)
    return Compiled(network_of(module, source=source), truth)


def network_of(module: CompiledTransformer, *, source: str = "") -> Network:
    """The module as a network that takes texts (words with spaces between them)."""
    from cutaway.networks.load import wrap

    spec = module.spec
    return wrap(
        module.requires_grad_(False),
        name=spec.name,
        tokenizer=spec.vocabulary,
        description=spec.computes or f"a compiled program: {spec.name}",
        source=source,
    )


def random_inputs(vocab: Sequence[str], max_len: int, *, per_length: int, seed: int = 0) -> list[tuple[str, ...]]:
    """``per_length`` random inputs of each length from 1 to ``max_len``."""
    draw = random.Random(seed)
    lengths = [length for length in range(1, max_len + 1) for _ in range(per_length)]
    return [tuple(draw.choice(vocab) for _ in range(length)) for length in lengths]


def _checked(vocab: Sequence[str], max_len: int) -> tuple[str, ...]:
    words = tuple(vocab)
    if not words or len(set(words)) != len(words) or BOS in words or any(len(word.split()) != 1 for word in words):
        raise BadInput(f"The vocabulary must be different words without spaces, none of them {BOS}; got {words!r}.")
    if not 1 <= max_len <= 256:
        raise BadInput(f"A greatest length of {max_len} was asked for; it must be 1 to 256.")
    return words


# -- 1. and 2. -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Heads and neurons by layer, over the dimensions of ``spaces``."""

    spaces: Subspaces
    heads: tuple[tuple[HeadPlan, ...], ...]
    neurons: tuple[tuple[Neuron, ...], ...]
    algorithm: tuple[str, ...]


def _plan(program: Op, vocab: Sequence[str], max_len: int, names: dict[Op, str]) -> Plan:
    spaces = Subspaces(Domains(vocab, max_len))
    heads: dict[int, list[HeadPlan]] = {}
    hidden: dict[int, list[Neuron]] = {}
    stage: dict[Op, int] = {}  # 2 * layer for heads, 2 * layer + 1 for MLPs, -1 for the embeddings
    algorithm: list[str] = []
    for place, op in enumerate(in_order(program)):
        name = names.get(op, _name(op, place))
        if isinstance(op, Ones):
            spaces.dims[op] = {None: spaces.one}
        else:
            spaces.add(op, name)
        ready = max((stage[each] for each in op.inputs), default=-1)
        if isinstance(op, (Aggregate, Reciprocal)):
            layer = ready // 2 + 1
            row = heads.setdefault(layer, [])
            row.append(head_plan(op, spaces))
            stage[op], who = 2 * layer, f"L{layer}H{len(row) - 1}"
        elif op.inputs:
            layer = (ready + 1) // 2
            hidden.setdefault(layer, []).extend(neurons(op, spaces))
            stage[op], who = 2 * layer + 1, f"L{layer}MLP"
        else:
            stage[op] = -1
            continue
        read = ", ".join(dict.fromkeys(names.get(each, _label(each, spaces)) for each in op.inputs))
        algorithm.append(f"{who} computes {name} from {read}.")
    layers = range(max([*heads, *hidden], default=0) + 1)
    return Plan(
        spaces,
        tuple(tuple(heads.get(layer, ())) for layer in layers),
        tuple(tuple(hidden.get(layer, ())) for layer in layers),
        tuple(algorithm),
    )


def _name(op: Op, place: int) -> str:
    plain = {Tokens: "tokens", Indices: "indices", Ones: "one"}
    return plain.get(type(op), f"{type(op).__name__.lower()}_{place}")


def _label(op: Op, spaces: Subspaces) -> str:
    return spaces.labels[next(iter(spaces.dims[op].values()))].split(":")[0]


# -- 3. ------------------------------------------------------------------------------------------------------------


def _module(
    plan: Plan, program: Op, vocab: Sequence[str], max_len: int, causal: bool, name: str, computes: str
) -> CompiledTransformer:
    spaces = plan.spaces
    every = [head for row in plan.heads for head in row]
    values = tuple(_plain(value) for value in spaces.dims[program])
    spec = Spec(
        name=name,
        vocab=(*vocab, BOS),
        bos_id=len(vocab),
        max_len=max_len,
        d_model=len(spaces.labels),
        num_layers=len(plan.heads),
        num_heads=max(1, *(len(row) for row in plan.heads)),
        key_size=max([1, *(max(len(head.matches), len(head.moves)) for head in every)]),
        mlp_hidden=max(len(row) for row in plan.neurons),
        causal=causal,
        output=Output(NUMERICAL) if program.numerical else Output(CATEGORICAL, values),
        labels=tuple(spaces.labels),
        computes=computes,
    )
    module = CompiledTransformer(spec)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        _fill_embeddings(module, spaces)
        for block, heads, hidden in zip(module.layers, plan.heads, plan.neurons):
            assert isinstance(block, Block)
            for place, head in enumerate(heads):
                _fill_head(block, place, head)
            for place, neuron in enumerate(hidden):
                _fill(block.mlp.linear_1.weight[place], neuron.reads)
                _fill(block.mlp.linear_2.weight[:, place], neuron.writes)
        for row, dim in enumerate(spaces.dims[program].values()):
            module.unembed.weight[row, dim] = 1.0
    return module.eval()


def _plain(value: Any) -> Value:
    """A value as it can be written down: exact fractions as numbers, tuples as their text."""
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    return value if isinstance(value, (str, bool, int, float)) else str(value)


def _fill_embeddings(module: CompiledTransformer, spaces: Subspaces) -> None:
    spec, token, position = module.spec, module.token_embed.weight, module.pos_embed.weight
    for op, dims in spaces.dims.items():
        if isinstance(op, Tokens):
            for word, dim in dims.items():
                token[spec.vocab.index(word), dim] = 1.0
        if isinstance(op, Indices):
            for index, dim in dims.items():
                position[index + 1, dim] = 1.0
    token[: spec.bos_id, spaces.one] = 1.0
    token[spec.bos_id, spaces.bos] = 1.0


def _fill_head(block: Block, place: int, head: HeadPlan) -> None:
    attention = block.attn
    start = place * attention.key_size
    for unit, (query, key) in enumerate(head.matches, start):
        _fill(attention.query.weight[unit], query)
        _fill(attention.key.weight[unit], key, math.sqrt(attention.key_size))
    for unit, (value, out) in enumerate(head.moves, start):
        _fill(attention.value.weight[unit], value)
        _fill(attention.linear.weight[:, unit], out)


def _fill(row: Tensor, weights: Weights, factor: float = 1.0) -> None:
    for dim, weight in weights.items():
        row[dim] = weight * factor
