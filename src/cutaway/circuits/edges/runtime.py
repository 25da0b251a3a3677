"""One pass in which every edge carries either what its source computes now or what it said in another pass.

Let z_u be what source u writes in this pass and r_u what it writes in the reference (corrupted prompts, a mean, zero).
Target v then reads

    x_v = stream + sum over u upstream of (1 - keep_uv) (r_u - z_u)

where the stream is the network's own. With all of keep 1 nothing is changed, bit for bit; with all 0 the output is the
reference's (if that was a pass). Heads of one layer may read different things: their norm and maps are then computed
apart. keep may be anything in between, and carries gradients, so that masks can be learned.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.circuits.edges.pairs import Metric, Pairs
from cutaway.circuits.edges.wiring import (
    FINAL_STREAM,
    Wired,
    apply_norm,
    embed_site,
    head_outputs,
    heads_site,
    mlp_in_site,
    mlp_out_site,
    mlp_stream_site,
    projected_site,
    projections,
    stream_site,
)
from cutaway.errors import BadInput
from cutaway.networks.edits import Edit, Replace
from cutaway.networks.network import Batch, Run

Keep = Float[Tensor, "*copy source target"] | Bool[Tensor, "*copy source target"]


@dataclass(frozen=True, eq=False)
class Sources:
    """What every source wrote in one pass: embeddings [batch pos d], heads side by side [batch pos flat], MLPs."""

    embeds: tuple[Tensor, ...]
    heads: tuple[Tensor, ...]
    mlps: tuple[Tensor | None, ...]

    def map(self, function: Callable[[Tensor], Tensor]) -> Sources:
        """The same function of every tensor."""
        return Sources(
            tuple(map(function, self.embeds)),
            tuple(map(function, self.heads)),
            tuple(None if mlp is None else function(mlp) for mlp in self.mlps),
        )

    def rows(self, first: int, last: int, length: int | None = None) -> Sources:
        """Some stimuli of the batch, and of their positions the first ``length`` (a part may need less padding)."""
        return self.map(lambda value: value[first:last, :length])

    def times(self, count: int) -> Sources:
        """``count`` copies of the batch, copy after copy."""
        return self if count == 1 else self.map(lambda value: value.repeat(count, 1, 1))


def source_sites(wired: Wired) -> list[str]:
    """Where sources write."""
    layers = wired.parts.layers
    sites = [embed_site(name) for name, _ in wired.parts.embeds]
    sites += [heads_site(layer.index) for layer in layers]
    return sites + [mlp_out_site(layer.index) for layer in layers if layer.mlp is not None]


def sources_of(wired: Wired, run: Run, count: int) -> Sources:
    """What every source wrote in a pass that captured :func:`source_sites`."""
    layers = wired.parts.layers
    return Sources(
        tuple(_batched(run[embed_site(name)], count) for name, _ in wired.parts.embeds),
        tuple(run[heads_site(layer.index)] for layer in layers),
        tuple(run[mlp_out_site(layer.index)] if layer.mlp is not None else None for layer in layers),
    )


def record(wired: Wired, batch: Batch) -> Sources:
    """What every source writes on a batch; the pass stops after the last of them."""
    return sources_of(wired, wired.network.run(batch, capture=source_sites(wired), stop_at=True), len(batch))


def _batched(value: Tensor, count: int) -> Tensor:
    """Positions are often embedded once for a whole batch."""
    if value.ndim == 2:
        value = value[None]
    return value.expand(count, *value.shape[1:]) if len(value) != count else value


def run_edges(
    wired: Wired, pairs: Pairs, keep: Keep, reference: Sources, *, logits: str = "last", grad: bool = False
) -> Float[Tensor, "row pos out"]:
    """Outputs on the clean prompts with every edge outside ``keep`` carrying the reference.

    ``keep`` [source target], or [copy source target] to try several sets in one pass: rows are then copies of the
    pairs, copy after copy; so may be those of the reference, one for each copy. Raises ``BadInput`` for a keep of
    another shape.
    """
    shape = tuple(wired.graph.possible.shape)
    if tuple(keep.shape[-2:]) != shape or keep.ndim > 3:
        raise BadInput(f"Edges were given as {tuple(keep.shape)}; this network has {shape[0]} sources and {shape[1]} "
                       "targets, so give [source target].")  # fmt: skip
    keep = keep if keep.ndim == 3 else keep[None]
    copies = len(keep)
    repeated = pairs if copies == 1 else pairs.times(copies)
    state = _Pass(wired, keep, reference if _rows(reference) == copies * len(pairs) else reference.times(copies), grad)
    run = wired.network.run(repeated.clean, edits=state.edits(), logits=logits, grad=grad)
    return run.logits


def _rows(reference: Sources) -> int:
    return len(reference.heads[0])


def measure(wired: Wired, pairs: Pairs, keep: Keep, reference: Sources, metric: Metric) -> Float[Tensor, "copy pair"]:
    """The metric of every pair under every set of kept edges."""
    copies = len(keep) if keep.ndim == 3 else 1
    outputs = run_edges(wired, pairs, keep, reference, logits=metric.logits)
    repeated = pairs if copies == 1 else pairs.times(copies)
    return metric.read(outputs.float(), repeated).unflatten(0, (copies, len(pairs)))


class _Written:
    """How far every source that some edge needs is from its reference, [copy source flat], flat being pair pos d.

    One buffer, filled as the pass goes on, is what one product of matrices then reads. Gradients do not pass through
    writing in place, so where they are wanted the parts are joined anew when something was added.
    """

    def __init__(self, sources: Sequence[int], copies: int, grad: bool) -> None:
        self.sources, self.copies, self.grad = list(sources), copies, grad
        self.parts: list[Tensor] = []
        self.buffer: Tensor | None = None
        self.filled = 0

    def add(self, part: Float[Tensor, "source row pos d"]) -> None:
        """The next sources, in order."""
        split = part.unflatten(1, (self.copies, -1)).movedim(0, 1).flatten(2)
        if self.grad:
            self.parts = [torch.cat([*self.parts, split], 1)]
        else:
            if self.buffer is None:
                self.buffer = split.new_empty(self.copies, len(self.sources), split.shape[2])
            self.buffer[:, self.filled : self.filled + split.shape[1]] = split
        self.filled += split.shape[1]

    def before(self, upstream: int) -> tuple[list[int], Tensor | None]:
        """The sources with a number below ``upstream``, and what is known of them."""
        chosen = self.sources[: bisect_left(self.sources, upstream)]
        if not chosen:
            return [], None
        known = self.parts[0] if self.grad else self.buffer
        assert known is not None
        return chosen, known[:, : len(chosen)]


class _Pass:
    """What one pass has written so far, as differences to the reference, and the edits that use it."""

    def __init__(self, wired: Wired, keep: Tensor, reference: Sources, grad: bool) -> None:
        self.wired, self.reference = wired, reference
        cut = 1 - keep.float() if keep.is_floating_point() else (~keep).float()
        self.cut = cut * wired.graph.possible.to(cut.device)
        somewhere = (self.cut.detach() != 0).any(0)
        if self.cut.requires_grad:
            somewhere = wired.graph.possible
        self.touched = somewhere.any(0).tolist()
        needed = somewhere.any(1).nonzero().flatten().tolist()
        self.written = _Written(needed, len(keep), grad)
        self.needed = set(needed)
        self.streams: dict[str, Tensor] = {}
        self.seen: dict[int, tuple[dict[int, int], Tensor]] = {}  # by layer: which target is where, what each reads

    def edits(self) -> list[Edit]:
        """Everything to be replaced or noticed, in any order."""
        edits: list[Edit] = []
        for index, (name, _) in enumerate(self.wired.parts.embeds):
            edits.append(Replace(embed_site(name), self._embed(index)))
        for layer in self.wired.parts.layers:
            edits += self._layer_edits(layer.index)
        edits.append(Replace(FINAL_STREAM, self._final))
        return edits

    def _layer_edits(self, index: int) -> list[Edit]:
        layer = self.wired.parts.layers[index]
        edits: list[Edit] = [Replace(stream_site(index), self._keep(stream_site(index)))]
        for module in dict.fromkeys(projection.module for _, projection in projections(layer)):
            edits.append(Replace(projected_site(index, module), self._projected(index, module)))
        edits.append(Replace(heads_site(index), self._heads(index)))
        if layer.mlp is not None:
            edits.append(Replace(mlp_stream_site(index), self._keep(mlp_stream_site(index))))
            edits.append(Replace(mlp_in_site(index), self._mlp_in(index)))
            edits.append(Replace(mlp_out_site(index), self._mlp_out(index)))
        return edits

    # -- sources -----------------------------------------------------------------------------------------------

    def _embed(self, index: int) -> Callable[[Tensor], Tensor]:
        def notice(value: Tensor) -> Tensor:
            if index in self.needed:
                reference = self.reference.embeds[index]
                self.written.add((reference - _batched(value, len(reference)))[None])
            return value

        return notice

    def _heads(self, index: int) -> Callable[[Tensor], Tensor]:
        first = self.wired.graph.source_index[f"L{index}H0"]
        write = self.wired.weights[index].write
        heads = [head for head in range(len(write)) if first + head in self.needed]

        def notice(value: Tensor) -> Tensor:
            if heads:
                self.written.add(head_outputs(self.reference.heads[index] - value, write, heads))
            return value

        return notice

    def _mlp_out(self, index: int) -> Callable[[Tensor], Tensor]:
        source = self.wired.graph.source_index[f"L{index}MLP"]

        def notice(value: Tensor) -> Tensor:
            reference = self.reference.mlps[index]
            if source in self.needed and reference is not None:
                self.written.add((reference - value)[None])
            return value

        return notice

    # -- targets -----------------------------------------------------------------------------------------------

    def _keep(self, site: str) -> Callable[[Tensor], Tensor]:
        def notice(value: Tensor) -> Tensor:
            self.streams[site] = value
            return value

        return notice

    def _mixed(self, stream: Tensor, columns: list[int]) -> Float[Tensor, "target row pos d"]:
        """What each of the targets reads."""
        sources, known = self.written.before(self.wired.graph.targets[columns[0]].upstream)
        if known is None:
            return stream.expand(len(columns), *stream.shape)
        weights = self.cut[:, sources][:, :, columns].to(known).transpose(1, 2)
        total = torch.bmm(weights, known).movedim(1, 0)  # [target copy flat]
        return stream + total.reshape(len(columns), *stream.shape)

    def _heads_read(self, index: int) -> tuple[dict[int, int], Tensor]:
        """All of a layer's queries, keys and values that read something of their own, behind the norm."""
        if index not in self.seen:
            columns = [c for c in self.wired.graph.layer_targets(index, ("q", "k", "v")) if self.touched[c]]
            mixed = self._mixed(self.streams[stream_site(index)], columns)
            self.seen = {index: (dict(zip(columns, range(len(columns)))), self._normed(index, mixed))}
        return self.seen[index]

    def _normed(self, index: int, mixed: Tensor) -> Tensor:
        return apply_norm(self.wired.weights[index].attn_norm, mixed)

    def _projected(self, index: int, module: str) -> Callable[[Tensor], Tensor]:
        layer, weights = self.wired.parts.layers[index], self.wired.weights[index]

        def read(value: Tensor) -> Tensor:
            for (port, projection), weight, bias in zip(projections(layer), weights.read, weights.bias):
                columns = self.wired.graph.layer_targets(index, (port,))
                heads = [head for head, column in enumerate(columns) if self.touched[column]]
                if projection.module != module or not heads:
                    continue
                place, seen = self._heads_read(index)
                own = seen[[place[columns[head]] for head in heads]]
                made = torch.bmm(own.flatten(1, 2), weight[heads].to(own).transpose(1, 2))
                made = made if bias is None else made + bias[heads][:, None].to(made)
                made = made.movedim(0, 1).flatten(1).unflatten(0, value.shape[:2])
                places = projection.columns[heads].flatten().to(value.device)
                value = value.index_copy(-1, places, made.to(value.dtype))
            return value

        return read

    def _mlp_in(self, index: int) -> Callable[[Tensor], Tensor]:
        (column,) = self.wired.graph.layer_targets(index, ("mlp",))

        def read(value: Tensor) -> Tensor:
            if not self.touched[column]:
                return value
            mixed = self._mixed(self.streams[mlp_stream_site(index)], [column])[0]
            return apply_norm(self.wired.weights[index].mlp_norm, mixed)

        return read

    def _final(self, value: Tensor) -> Tensor:
        column = len(self.wired.graph.targets) - 1
        return self._mixed(value, [column])[0] if self.touched[column] else value
