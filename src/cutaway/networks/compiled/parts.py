"""A compiled transformer run part by part: each reader's input is the sum of what its sources wrote, any term replaced.

This is the plain, slow and exact way to cut single edges. It serves as the oracle of the ground truth and as the
training loop of forced circuits (gradients pass through), and knows nothing of hooks.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.networks.compiled.module import Block, CompiledTransformer
from cutaway.networks.compiled.spec import Spec
from cutaway.networks.compiled.truth import Pair

PORTS = ("q", "k", "v")

#: What single edges carry instead of what their source wrote: (source, target) -> [batch pos d_model].
Replaced = Mapping[Pair, Tensor]


def candidate_edges(spec: Spec) -> tuple[Pair, ...]:
    """Every pair of an earlier component and a later component's input, in the order of the forward pass."""
    found: list[Pair] = []
    sources = ["embed", "pos_embed"]
    for layer in range(spec.num_layers):
        heads = [f"L{layer}H{head}" for head in range(spec.num_heads)]
        found += [(source, f"{head}.{port}") for head in heads for port in PORTS for source in sources]
        sources = [*sources, *heads]
        if spec.mlp_hidden:
            found += [(source, f"L{layer}MLP") for source in sources]
            sources = [*sources, f"L{layer}MLP"]
    return (*found, *((source, "unembed") for source in sources))


def named_components(spec: Spec) -> Iterator[tuple[str, str]]:
    """Name and kind of every component, in the order of the forward pass."""
    yield from (("embed", "embed"), ("pos_embed", "pos_embed"))
    for layer in range(spec.num_layers):
        yield from ((f"L{layer}H{head}", "head") for head in range(spec.num_heads))
        if spec.mlp_hidden:
            yield f"L{layer}MLP", "mlp"
    yield "unembed", "unembed"


@dataclass(frozen=True, eq=False)
class Parts:
    """The logits of one pass and what every source wrote into the stream in it."""

    logits: Float[Tensor, "batch pos out"]
    written: dict[str, Float[Tensor, "batch pos d_model"]]


def run_parts(
    module: CompiledTransformer,
    ids: Int[Tensor, "batch pos"],
    replaced: Replaced | None = None,
    overwritten: Mapping[str, Tensor] | None = None,
) -> Parts:
    """One pass with single edges ``replaced``, and with whole sources ``overwritten`` for all their readers.

    What is not replaced is recomputed. The bias of an attention layer belongs to no head and cannot be cut.
    """
    stream = _Stream(replaced or {}, overwritten or {})
    stream.write("embed", module.token_embed(ids))
    places = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    stream.write("pos_embed", module.pos_embed(places))
    visible = module.visible(ids.shape[1], None)
    for index, block in enumerate(module.layers):
        assert isinstance(block, Block)
        for head, written in enumerate(_heads(block, index, stream, visible)):
            stream.write(f"L{index}H{head}", written)
        stream.total = stream.total + block.attn.linear.bias
        if hasattr(block, "mlp"):
            x = stream.read(f"L{index}MLP")
            stream.write(f"L{index}MLP", block.mlp(block.norm2(x) if hasattr(block, "norm2") else x))
    x = stream.read("unembed")
    return Parts(module.unembed(module.final_norm(x) if hasattr(module, "final_norm") else x), stream.written)


class _Stream:
    """The residual stream as a running sum that remembers its terms."""

    def __init__(self, replaced: Replaced, overwritten: Mapping[str, Tensor]) -> None:
        self.by_target: dict[str, list[tuple[str, Tensor]]] = {}
        for (source, target), value in replaced.items():
            self.by_target.setdefault(target, []).append((source, value))
        self.overwritten = overwritten
        self.written: dict[str, Tensor] = {}
        self.total = torch.zeros(())

    def write(self, source: str, value: Tensor) -> None:
        """Adds what a source wrote."""
        value = self.overwritten.get(source, value)
        self.written[source] = value
        self.total = self.total + value

    def read(self, target: str) -> Tensor:
        """The sum as this reader gets it."""
        x = self.total
        for source, value in self.by_target.get(target, ()):
            x = x + (value - self.written[source])
        return x


def _heads(block: Block, index: int, stream: _Stream, visible: Tensor | None) -> Iterator[Tensor]:
    """What each head of a layer writes; all read the same stream, each through its own replaced edges."""
    attention = block.attn
    q, k, v = (
        _projected(block, index, stream, port, map_)
        for port, map_ in zip(PORTS, (attention.query, attention.key, attention.value))
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(attention.key_size)
    if visible is not None:
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    mixed = scores.softmax(-1) @ v
    maps = attention.linear.weight.unflatten(1, (attention.num_heads, attention.key_size))
    for head in range(attention.num_heads):
        yield mixed[:, head] @ maps[:, head].T


def _projected(block: Block, index: int, stream: _Stream, port: str, map_: torch.nn.Linear) -> Tensor:
    """Queries, keys or values [batch head pos key_size]."""
    shared = _read_by(block, map_, stream.total)
    targets = [f"L{index}H{head}.{port}" for head in range(block.attn.num_heads)]
    if not any(target in stream.by_target for target in targets):
        return shared
    own = [
        _read_by(block, map_, stream.read(target))[:, head] if target in stream.by_target else shared[:, head]
        for head, target in enumerate(targets)
    ]
    return torch.stack(own, 1)


def _read_by(block: Block, map_: torch.nn.Linear, x: Tensor) -> Tensor:
    return block.attn._split(map_(block.norm1(x) if hasattr(block, "norm1") else x))
