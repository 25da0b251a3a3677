"""One pass over one prompt, written down in double precision: what every part read, wrote and attended to.

Attention patterns and the scales of norms are held at these values. Then heads and the output are linear in the stream,
and neurons are the only parts that bend; their tangents are in :mod:`cutaway.circuits.tracing.neurons`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.bases import Basis
from cutaway.circuits.edges.nodes import neuron_site, opened
from cutaway.circuits.edges.wiring import (
    FINAL_STREAM,
    Wired,
    embed_site,
    heads_site,
    mlp_stream_site,
    stream_site,
)
from cutaway.circuits.tracing.features.places import MLP_OUT, Place, places_of
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.anatomy import NormMath, weight_in_out
from cutaway.networks.edits import Edit
from cutaway.networks.folded import head_maps, inverse_scale, norm_at, pass_through, read_through
from cutaway.networks.network import Batch, Network


@dataclass(frozen=True, eq=False)
class Written:
    """What sources wrote, by layer: token embeddings, heads before their output map, hidden units of MLPs."""

    embeds: tuple[Float[Tensor, "pos d"], ...]
    heads: tuple[Float[Tensor, "head pos r"], ...]
    hidden: tuple[Float[Tensor, "pos n"] | None, ...]


@dataclass(frozen=True, eq=False)
class Pass:
    """A prompt's pass: what was written, the stream where each part reads it, the patterns [head query key].

    ``coded`` holds what lies at the sites that bases read and write.
    """

    written: Written
    streams: tuple[Float[Tensor, "pos d"], ...]  # at the heads of each layer
    mids: tuple[Float[Tensor, "pos d"] | None, ...]  # at its MLP
    final: Float[Tensor, "pos d"]
    patterns: tuple[Float[Tensor, "head pos pos"], ...]
    logits: Float[Tensor, " out"]
    coded: dict[str, Tensor] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of tokens."""
        return int(self.final.shape[0])


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """A layer's value and output maps, the norm folded in, in double precision; ``bias`` belongs to no head."""

    value: Float[Tensor, "head r d"]
    value_bias: Float[Tensor, "head r"]
    out: Float[Tensor, "head d r"]
    bias: Float[Tensor, " d"]
    norm: NormMath | None


@dataclass(frozen=True, eq=False)
class Body:
    """The network opened up, and its weights as the analysis needs them: on the CPU, in double precision.

    ``places``: where bases take the place of what lies there.
    """

    network: Network
    wired: Wired
    places: tuple[Place, ...] = ()

    @classmethod
    def of(cls, network: Network, bases: Sequence[Basis] = ()) -> Body:
        """Opens a pre-norm transformer; raises ``NotTestable`` for what cannot be taken apart."""
        wired = opened(network)
        for layer in wired.parts.layers:
            if layer.mlp_added != layer.down:
                raise NotTestable(
                    f"{network.name} puts a norm behind its MLPs, so that neurons do not just add up in the stream; a "
                    "graph of them is not defined."
                )
        return cls(network, wired, places_of(network, bases))

    @property
    def rounding(self) -> float:
        """How far numbers that are equal on paper may be apart, as a share of their size."""
        halves = (torch.bfloat16, torch.float16)
        return 5e-2 if next(self.network.module.parameters()).dtype in halves else 1e-3

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.wired.parts.layers)

    @property
    def coded_sites(self) -> list[str]:
        """Sites that bases read or write."""
        return list(dict.fromkeys(site for place in self.places for site in (place.reads, place.writes)))

    def place(self, layer: int, part: str) -> Place | None:
        """The basis behind a part of a layer, if there is one."""
        return next((each for each in self.places if (each.layer, each.part) == (layer, part)), None)

    def transcoder(self, layer: int) -> Place | None:
        """What stands in for the neurons of a layer, if anything does."""
        found = self.place(layer, MLP_OUT)
        return found if found is not None and found.transcodes else None

    def heads(self, layer: int) -> HeadWeights:
        """The maps of a layer's heads."""
        maps = head_maps(self.network, layer)
        return HeadWeights(wide(maps.value), wide(maps.value_bias), wide(maps.out), wide(maps.out_bias), maps.norm)

    def down(self, layer: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, " d"]] | None:
        """What each neuron writes, and the bias behind them; None without an MLP."""
        path = self.wired.parts.layers[layer].down
        if path is None:
            return None
        module = self.wired.module(path)
        weight = wide(weight_in_out(module))
        bias = getattr(module, "bias", None)
        return weight, torch.zeros_like(weight[0]) if bias is None else wide(bias)

    def norm(self, path: str | None) -> NormMath | None:
        """The norm at a module path."""
        return norm_at(self.network, path)


def wide(value: Tensor) -> Tensor:
    """A copy for the analysis: on the CPU, in double precision."""
    return value.detach().to("cpu", torch.float64)


def normed(norm: NormMath | None, stream: Float[Tensor, "*row d"]) -> Float[Tensor, "*row d"]:
    """What a part is given for a stream."""
    if norm is None:
        return stream
    math = _wide_norm(norm)
    scaled = pass_through(math, stream) * inverse_scale(math, stream)[..., None]
    return scaled if math.bias is None else scaled + math.bias


def scaled(
    norm: NormMath | None, change: Float[Tensor, "*row d"], scale: Float[Tensor, "*row 1"]
) -> Float[Tensor, "*row d"]:
    """What a change of the stream is to a part behind a norm whose scale is held."""
    return change if norm is None else pass_through(_wide_norm(norm), change) * scale


def _wide_norm(norm: NormMath) -> NormMath:
    return NormMath(wide(norm.gain), None if norm.bias is None else wide(norm.bias), norm.centred, norm.eps)


def readings(
    norm: NormMath | None, rows: Float[Tensor, "*row d"]
) -> tuple[Float[Tensor, "*row d"], Float[Tensor, "*row"]]:
    """Readings of the normed stream as readings of the stream, but for its scale, and what the norm's bias adds."""
    return read_through(None if norm is None else _wide_norm(norm), rows)


def written_sites(body: Body) -> list[str]:
    """Where sources write."""
    layers = body.wired.parts.layers
    sites = [embed_site(name) for name, _ in body.wired.parts.embeds]
    sites += [heads_site(layer.index) for layer in layers]
    return sites + [neuron_site(layer.index) for layer in layers if layer.down is not None]


def record(body: Body, batch: Batch, position: int) -> Pass:
    """One untouched pass over one prompt; ``logits`` are those at ``position``."""
    layers = body.wired.parts.layers
    sites = [*written_sites(body), *body.coded_sites, FINAL_STREAM]
    for layer in layers:
        sites += [stream_site(layer.index), f"layers.{layer.index}.attn.pattern"]
        sites += [mlp_stream_site(layer.index)] if layer.down is not None else []
    with torch.no_grad():
        run = body.wired.network.run(batch, capture=sites, logits=_asked(body, batch, position))
    found = run.captured
    return Pass(
        written(body, found, row=0),
        tuple(wide(found[stream_site(layer.index)][0]) for layer in layers),
        tuple(None if layer.down is None else wide(found[mlp_stream_site(layer.index)][0]) for layer in layers),
        wide(found[FINAL_STREAM][0]),
        tuple(wide(found[f"layers.{layer.index}.attn.pattern"][0]) for layer in layers),
        wide(_at(run.logits, position)[0]),
        {site: wide(found[site][0]) for site in body.coded_sites},
    )


def written(body: Body, found: dict[str, Tensor], row: int) -> Written:
    """What one stimulus of a pass wrote."""
    layers = body.wired.parts.layers
    embeds = (found[embed_site(name)] for name, _ in body.wired.parts.embeds)
    return Written(
        tuple(wide(value if value.ndim == 2 else value[min(row, len(value) - 1)]) for value in embeds),
        tuple(
            wide(found[heads_site(layer.index)][row]).unflatten(-1, (layer.heads, -1)).transpose(0, 1)
            for layer in layers
        ),
        tuple(None if layer.down is None else wide(found[neuron_site(layer.index)][row]) for layer in layers),
    )


def outputs(body: Body, batch: Batch, rows: int, position: int, edits: Sequence[Edit] = ()) -> Float[Tensor, "row out"]:
    """The outputs at a position of ``rows`` copies of the prompt, edited."""
    return outputs_and(body, batch, rows, position, edits)[0]


def outputs_and(
    body: Body, batch: Batch, rows: int, position: int, edits: Sequence[Edit] = (), capture: Sequence[str] = ()
) -> tuple[Float[Tensor, "row out"], dict[str, Tensor]]:
    """The outputs of edited copies of the prompt, and what lies at some sites of theirs."""
    copies = Batch(
        {name: value.expand(rows, *value.shape[1:]) for name, value in batch.inputs.items()},
        tuple(f"copy{row}" for row in range(rows)),
        None if batch.mask is None else batch.mask.expand(rows, -1),
    )
    with torch.no_grad():
        run = body.wired.network.run(copies, capture=capture, edits=edits, logits=_asked(body, batch, position))
    return wide(_at(run.logits, position)), run.captured


def _asked(body: Body, batch: Batch, position: int) -> str:
    last = position == next(iter(batch.inputs.values())).shape[1] - 1
    return "last" if last and body.network.task == "causal-lm" else "all"


def _at(logits: Tensor, position: int) -> Tensor:
    if not bool(logits.isfinite().all()):
        raise BadInput("The network's outputs are not numbers; mend the checkpoint or load it in float32.")
    return logits[:, position if logits.shape[1] > 1 else 0]
