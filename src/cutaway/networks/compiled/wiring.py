"""The circuit as a fact about weights: which residual dimensions each component reads and writes, through used units.

A unit (a neuron, a query-key or a value-output dimension of a head) is used if its weights are nonzero on both sides.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.errors import NotTestable
from cutaway.networks.compiled.module import Block, CompiledTransformer
from cutaway.networks.compiled.parts import candidate_edges
from cutaway.networks.compiled.truth import Component, Pair

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Wiring:
    """All components, and the residual dimensions that each true edge runs over."""

    components: tuple[Component, ...]
    shared: dict[Pair, Dims]


def wiring(module: CompiledTransformer) -> Wiring:
    """Components and true edges of a network whose dimensions are kept apart; raises ``NotTestable`` with norms.

    A layer norm mixes every dimension into every other, so weights alone say nothing there.
    """
    if module.spec.layer_norm:
        raise NotTestable(f"The wiring of {module.spec.name} was asked for; its layer norms join every edge.")
    components = tuple(_components(module))
    writes = {each.name: set(each.writes) for each in components}
    reads = {_target(each.name, port): dims for each in components for port, dims in each.reads}
    shared = {
        (source, target): tuple(dim for dim in reads[target] if dim in writes[source])
        for source, target in candidate_edges(module.spec)
    }
    shared = {pair: dims for pair, dims in shared.items() if dims}
    path = on_path(tuple(shared))
    return Wiring(tuple(replace(each, in_circuit=each.name in path) for each in components), shared)


def on_path(edges: tuple[Pair, ...]) -> frozenset[str]:
    """The components on a path along ``edges`` from an embedding to the output."""
    steps = {(source, target.split(".")[0]) for source, target in edges}
    forward = _reached({"embed", "pos_embed"}, steps)
    backward = _reached({"unembed"}, {(target, source) for source, target in steps})
    return frozenset(forward & backward)


def _reached(start: set[str], steps: set[Pair]) -> set[str]:
    found = set(start)
    while new := {target for source, target in steps if source in found} - found:
        found |= new
    return found


def _target(name: str, port: str) -> str:
    return f"{name}.{port}" if port else name


def _components(module: CompiledTransformer) -> list[Component]:
    found = [
        _component("embed", "embed", _nonzero(module.token_embed.weight, 0), {}),
        _component("pos_embed", "pos_embed", _nonzero(module.pos_embed.weight, 0), {}),
    ]
    for index, block in enumerate(module.layers):
        assert isinstance(block, Block)
        found += [_head(block, index, head) for head in range(module.spec.num_heads)]
        if hasattr(block, "mlp"):
            found.append(_mlp(block, index))
    return [*found, _component("unembed", "unembed", (), {"": _nonzero(module.unembed.weight, 0)})]


def _component(name: str, kind: str, writes: Dims, reads: dict[str, Dims]) -> Component:
    return Component(name, kind, bool(writes) or any(reads.values()), False, writes, tuple(reads.items()))


def _head(block: Block, index: int, head: int) -> Component:
    attention = block.attn
    rows = slice(head * attention.key_size, (head + 1) * attention.key_size)
    query, key, value = (map_.weight[rows] for map_ in (attention.query, attention.key, attention.value))
    out = attention.linear.weight[:, rows]
    matched = query.ne(0).any(1) & key.ne(0).any(1)
    moved = value.ne(0).any(1) & out.ne(0).any(0)
    reads = {"q": _nonzero(query[matched], 0), "k": _nonzero(key[matched], 0), "v": _nonzero(value[moved], 0)}
    return _component(f"L{index}H{head}", "head", _nonzero(out[:, moved], 1), reads)


def _mlp(block: Block, index: int) -> Component:
    inward, outward = block.mlp.linear_1.weight, block.mlp.linear_2.weight
    used = inward.ne(0).any(1) & outward.ne(0).any(0)
    return _component(f"L{index}MLP", "mlp", _nonzero(outward[:, used], 1), {"": _nonzero(inward[used], 0)})


def _nonzero(weight: Float[Tensor, "a b"], over: int) -> Dims:
    """Places along the other axis that hold a nonzero anywhere."""
    return tuple(torch.nonzero(weight.ne(0).any(over)).flatten().tolist())
