"""The strongest weights into and out of a feature, named by the addresses at their other end.

Convolutions: for each channel at the other end the kernel's sum (its response to a uniform patch, signed) and L2 norm,
by which rows are ordered. Language models: the input matrices of an MLP unit against token embeddings (cosine) and
against the write vectors of MLP units in earlier layers (virtual weights, Elhage et al. 2021: the direct path through
the stream, the norm's gain folded in, its scale and everything in between left out).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cutaway.errors import NotTestable, UnknownName
from cutaway.features.card import Effect, Weights, WeightTable
from cutaway.features.direct import linear_weight, through_norm, write_vectors
from cutaway.features.examples import token_text
from cutaway.features.wiring import Call, Wiring, wiring
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import HEAD_STREAM, HEADS, PATTERN, Site

SHOWN = 8


def strongest_weights(network: Network, site: Site, unit: int, batch: Batch) -> Weights:
    """Strongest input and output weights; a table without rows says why. ``batch`` is for tracing what reads what."""
    if site.kind == "mlp" and network.modality == "text":
        return _mlp_weights(network, site, unit)
    if site.layout in (HEADS, HEAD_STREAM, PATTERN):
        return _head_weights(network, site, unit)
    if site.kind in ("embed", "resid", "resid_mid", "attn_out", "mlp_out"):
        reason = "a coordinate of the residual stream has no weights of its own: everything earlier may write to it"
        return Weights((WeightTable("input weights", reason=reason),), (WeightTable("output weights", reason=reason),))
    return _traced_weights(network, site, unit, batch)


# -- convolutions and linear maps --------------------------------------------------------------------------------


def _traced_weights(network: Network, site: Site, unit: int, batch: Batch) -> Weights:
    graph = wiring(network, batch)
    call = graph.call_of(site)
    if call is None or site.port != "output":
        reason = "the module of this site has parts of its own or was not reached, so its wiring is not known"
        return Weights((WeightTable("input weights", reason=reason),), (WeightTable("output weights", reason=reason),))
    return Weights((_inputs(network, graph, call, unit),), tuple(_outputs(network, graph, call, unit)))


def _inputs(network: Network, graph: Wiring, call: Call, unit: int) -> WeightTable:
    producer = graph.producer(call)
    title = "input weights"
    if producer is None:
        return WeightTable(title, reason="it is not the plain output of one convolution or linear map")
    names = _channel_names(network, graph, producer)
    kernels, first = _kernels_in(producer.module, unit)
    return WeightTable(f"{title} ({producer.path})", _rows(kernels, names, first))


def _outputs(network: Network, graph: Wiring, call: Call, unit: int) -> Iterator[WeightTable]:
    readers = graph.readers(call)
    if not readers:
        yield WeightTable(
            "output weights", reason="no convolution or linear map reads it without a function in between"
        )
    for reader in readers:
        if graph.shapes[reader.given][1] != graph.shapes[call.gave][1]:
            yield WeightTable(f"output weights ({reader.path})", reason="it is reshaped on the way")
            continue
        kernels, first = _kernels_out(reader.module, unit)
        yield WeightTable(f"output weights ({reader.path})", _rows(kernels, _site_after(network, reader), first))


def _rows(kernels: Float[Tensor, "channel tap"], name: str, first: int) -> tuple[Effect, ...]:
    norms, sums = kernels.norm(dim=1), kernels.sum(dim=1)
    order = norms.topk(min(SHOWN, len(norms))).indices.tolist()
    return tuple(Effect(f"{name}:{first + c}", float(sums[c]), float(norms[c])) for c in order)


def _kernels_in(module: nn.Module, unit: int) -> tuple[Float[Tensor, "channel tap"], int]:
    """The kernel from each input channel that is read, and the number of the first of these (grouped convolutions)."""
    weight = linear_or_conv_weight(module)
    per_group = weight.shape[1]
    group = unit // (weight.shape[0] // _groups(module))
    return weight[unit].reshape(per_group, -1), group * per_group


def _kernels_out(module: nn.Module, unit: int) -> tuple[Float[Tensor, "channel tap"], int]:
    """The kernel to each output channel that reads the unit, and the number of the first of these."""
    weight, groups = linear_or_conv_weight(module), _groups(module)
    group, within = divmod(unit, weight.shape[1])
    size = weight.shape[0] // groups
    return weight[group * size : (group + 1) * size, within].reshape(size, -1), group * size


def linear_or_conv_weight(module: nn.Module) -> Float[Tensor, "out in *taps"]:
    """The weight of a convolution or linear map, in float32."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().float()


def _groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, nn.Conv2d) else 1


def _channel_names(network: Network, graph: Wiring, reader: Call) -> str:
    """The nearest site behind a reader: what its input channels are called."""
    named = {(site.module, site.call): site.name for site in network.sites() if site.port == "output"}
    for before in graph.chain_before(reader):
        name = named.get((before.path, 0))
        if name is not None and not isinstance(before.module, (nn.MaxPool2d, nn.AvgPool2d)):
            return name
    return "input"


def _site_after(network: Network, reader: Call) -> str:
    """The site that a reader's output channels belong to."""
    names = [site.name for site in network.sites() if site.module == reader.path and site.port == "output"]
    return names[0] if names else reader.path


# -- language models ---------------------------------------------------------------------------------------------


def _mlp_weights(network: Network, site: Site, unit: int) -> Weights:
    try:
        rows = _input_rows(network, site, unit)
    except NotTestable as error:
        return Weights((WeightTable("input weights", reason=str(error)),), (_writes_to(network, site, unit),))
    tables = [_tokens_read(network, name, row) for name, row in rows.items()]
    tables += [_units_read(network, site, name, row) for name, row in rows.items()]
    return Weights(tuple(tables), (_writes_to(network, site, unit),))


def _input_rows(network: Network, site: Site, unit: int) -> dict[str, Float[Tensor, " d_model"]]:
    """What the unit reads from the stream: a direction for each of its input maps (gate and up, or one)."""
    block = site.module.rsplit(".", 2)[0]
    gain = _input_norm(network, site)
    rows = {}
    for name, module in network.module.get_submodule(block).named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim != 2:
            continue
        weight = linear_weight(module)
        if weight.shape[0] == site.width and weight.shape[1] != site.width:
            rows[name.rpartition(".")[2]] = through_norm(gain, weight[unit]) if gain is not None else weight[unit]
    if not rows:
        raise NotTestable(f"The maps that feed {site.name} are not named in a way that is known.")
    return rows


def _input_norm(network: Network, site: Site) -> nn.Module | None:
    """The norm before an MLP, where the stream enters through one (pre-norm families)."""
    try:
        before = network.site(site.name.removesuffix(".mlp") + ".resid_mid")
    except UnknownName:
        return None
    return network.module.get_submodule(before.module) if before.port == "input" else None


def _tokens_read(network: Network, name: str, row: Float[Tensor, " d_model"]) -> WeightTable:
    title = f"tokens whose embedding {name} reads (cosine)"
    embedding = getattr(network.module, "get_input_embeddings", lambda: None)()
    if embedding is None or embedding.weight.shape[1] != len(row):
        return WeightTable(title, reason="the network has no token embedding of the stream's width")
    cosines = functional.normalize(embedding.weight.detach().float(), dim=1) @ functional.normalize(row, dim=0)
    return WeightTable(title, _both_ends(cosines, lambda i: token_text(network, i)))


def _units_read(network: Network, site: Site, name: str, row: Float[Tensor, " d_model"]) -> WeightTable:
    title = f"earlier MLP units that {name} reads (virtual weight)"
    earlier = [other for other in network.sites() if other.kind == "mlp" and other.depth < site.depth]
    found: list[Effect] = []
    for other in earlier:
        try:
            weights = write_vectors(network, other) @ row
        except NotTestable as error:
            return WeightTable(title, reason=str(error))
        found += [Effect(f"{other.name}:{i}", float(weights[i])) for i in _largest(weights)]
    if not found:
        return WeightTable(title, reason="no MLP comes before it")
    return WeightTable(title, _top(found))


def _writes_to(network: Network, site: Site, unit: int) -> WeightTable:
    """Virtual weights from the unit to the first input map of every later MLP."""
    title = "later MLP units that read it (virtual weight)"
    later = [other for other in network.sites() if other.kind == "mlp" and other.depth > site.depth]
    found: list[Effect] = []
    try:
        mine = write_vectors(network, site)[unit]
        for other in later:
            found += _readers_of(network, other, mine)
    except NotTestable as error:
        return WeightTable(title, reason=str(error))
    return WeightTable(title, _top(found)) if found else WeightTable(title, reason="no MLP comes after it")


def _readers_of(network: Network, site: Site, direction: Float[Tensor, " d_model"]) -> list[Effect]:
    norm = _input_norm(network, site)
    seen = through_norm(norm, direction) if norm is not None else direction
    block = network.module.get_submodule(site.module.rsplit(".", 2)[0])
    for module in block.modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim != 2:
            continue
        matrix = linear_weight(module)
        if matrix.shape[0] == site.width and matrix.shape[1] == len(direction):
            weights = matrix @ seen
            return [Effect(f"{site.name}:{i}", float(weights[i])) for i in _largest(weights)]
    return []


def _largest(weights: Float[Tensor, " unit"]) -> list[int]:
    return weights.abs().topk(min(SHOWN, len(weights))).indices.tolist()


def _top(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    return tuple(sorted(effects, key=lambda effect: -abs(effect.value))[:SHOWN])


def _both_ends(values: Float[Tensor, " item"], name) -> tuple[Effect, ...]:  # type: ignore[no-untyped-def]
    half = min(SHOWN // 2, len(values) // 2)
    chosen = values.topk(half).indices.tolist() + (-values).topk(half).indices.tolist()
    return tuple(Effect(name(i), float(values[i])) for i in chosen)


# -- heads -------------------------------------------------------------------------------------------------------


def _head_weights(network: Network, site: Site, unit: int) -> Weights:
    """Frobenius norms of a head's own matrices, where query, key and value are maps of their own."""
    layer = site.name.rpartition(".")[0].removesuffix(".attn")
    attention = network.module.get_submodule(network.site(f"{layer}.attn.pattern").module)
    sizes = {part: network.site(f"{layer}.attn.{part}").width or 1 for part in ("q", "k", "v")}
    heads = sizes["q"]
    inputs = []
    for part, name in (("q", "query"), ("k", "key"), ("v", "value")):
        own = unit if site.width == sizes[part] else unit * sizes[part] // heads  # grouped heads share keys and values
        for path, module in attention.named_modules():
            if path in (f"{part}_proj", name):
                inputs.append(Effect(f"{part} ({path})", _block_norm(module, own, sizes[part], 0)))
    output = network.module.get_submodule(network.site(f"{layer}.attn.heads").module)
    if not inputs or site.width != heads:
        reason = "query, key and value are stored in one map" if not inputs else "it is shared by several heads"
        return Weights((WeightTable("input maps of the head", tuple(inputs), "" if inputs else reason),), ())
    out = Effect("output map", _block_norm(output, unit, heads, 1))
    return Weights((WeightTable("input maps of the head (Frobenius norm)", tuple(inputs)),),
                   (WeightTable("output map of the head (Frobenius norm)", (out,)),))  # fmt: skip


def _block_norm(module: nn.Module, index: int, count: int, axis: int) -> float:
    return float(linear_weight(module).chunk(count, dim=axis)[index].norm())
