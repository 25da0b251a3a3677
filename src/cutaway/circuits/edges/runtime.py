"""One pass in which every edge carries either what its source computes now or what it said in another pass.

Let z_u be what source u writes in this pass and r_u what it writes in the reference (corrupted prompts, a mean, zero).
Target v then reads

    x_v = stream + sum over u upstream of (1 - keep_uv) (r_u - z_u)

where the stream is the network's own. With all of keep 1 nothing is changed, bit for bit; with all 0 the output is the
reference's (if that was a pass). Heads of one layer may read different things: their norm and maps are then computed
apart. keep may be anything in between, and carries gradients, so that masks can be learned.
"""

from __future__ import annotations

from collections.abc import Callable
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

    def rows(self, first: int, last: int) -> Sources:
        """Some stimuli of the batch."""
        return self.map(lambda value: value[first:last])

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
    pairs, copy after copy. Raises ``BadInput`` for a keep of another shape.
    """
    shape = tuple(wired.graph.possible.shape)
    if tuple(keep.shape[-2:]) != shape or keep.ndim > 3:
        raise BadInput(f"Edges were given as {tuple(keep.shape)}; this network has {shape[0]} sources and {shape[1]} "
                       "targets, so give [source target].")  # fmt: skip
    keep = keep if keep.ndim == 3 else keep[None]
    copies = len(keep)
    repeated = pairs if copies == 1 else pairs.times(copies)
    state = _Pass(wired, keep, reference.times(copies))
    run = wired.network.run(repeated.clean, edits=state.edits(), logits=logits, grad=grad)
    return run.logits


def measure(wired: Wired, pairs: Pairs, keep: Keep, reference: Sources, metric: Metric) -> Float[Tensor, "copy pair"]:
    """The metric of every pair under every set of kept edges."""
    copies = len(keep) if keep.ndim == 3 else 1
    outputs = run_edges(wired, pairs, keep, reference, logits=metric.logits)
    repeated = pairs if copies == 1 else pairs.times(copies)
    return metric.read(outputs.float(), repeated).unflatten(0, (copies, len(pairs)))


class _Pass:
    """What one pass has written so far, as differences to the reference, and the edits that use it."""

    def __init__(self, wired: Wired, keep: Tensor, reference: Sources) -> None:
        self.wired, self.reference = wired, reference
        self.cut = 1 - keep.float() if keep.is_floating_point() else (~keep).float()
        possible = wired.graph.possible.to(self.cut.device)
        self.cut = self.cut * possible
        self.touched = (self.cut.detach() != 0).any(1).any(0) | torch.full(
            (keep.shape[2],), self.cut.requires_grad, device=self.cut.device
        )
        self.differences: list[Tensor] = []  # [source batch pos d], one entry per part
        self.streams: dict[str, Tensor] = {}

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
            reference = self.reference.embeds[index]
            self.differences.append((reference - _batched(value, len(reference)))[None])
            return value

        return notice

    def _heads(self, index: int) -> Callable[[Tensor], Tensor]:
        def notice(value: Tensor) -> Tensor:
            write = self.wired.weights[index].write
            self.differences.append(head_outputs(self.reference.heads[index] - value, write))
            return value

        return notice

    def _mlp_out(self, index: int) -> Callable[[Tensor], Tensor]:
        def notice(value: Tensor) -> Tensor:
            reference = self.reference.mlps[index]
            assert reference is not None
            self.differences.append((reference - value)[None])
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
        upstream = self.wired.graph.targets[columns[0]].upstream
        cut = self.cut[:, :upstream, columns].to(stream.device)
        total: Tensor | int = 0
        at = 0
        for part in self.differences:
            if at >= upstream:
                break
            weights = cut[:, at : at + len(part)].to(stream.dtype)
            at += len(part)
            if weights.requires_grad or bool((weights != 0).any()):
                split = part.unflatten(1, (len(cut), -1))
                total = total + torch.einsum("cst,scbpd->tcbpd", weights, split)
        if isinstance(total, int):
            return stream.expand(len(columns), *stream.shape)
        return stream + total.flatten(1, 2)

    def _projected(self, index: int, module: str) -> Callable[[Tensor], Tensor]:
        layer, weights = self.wired.parts.layers[index], self.wired.weights[index]

        def read(value: Tensor) -> Tensor:
            stream = self.streams[stream_site(index)]
            for (port, projection), weight, bias in zip(projections(layer), weights.read, weights.bias):
                if projection.module != module:
                    continue
                columns = self.wired.graph.layer_targets(index, (port,))
                heads = [head for head, column in enumerate(columns) if self.touched[column]]
                if not heads:
                    continue
                mixed = self._mixed(stream, [columns[head] for head in heads])
                seen = apply_norm(weights.attn_norm, mixed)
                made = torch.einsum("tbpd,ted->bpte", seen, weight[heads].to(seen))
                made = made if bias is None else made + bias[heads].to(made)
                places = projection.columns[heads].flatten().to(value.device)
                value = value.index_copy(-1, places, made.flatten(-2).to(value.dtype))
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
