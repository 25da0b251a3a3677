"""What the residual stream says about the output: by depth (logit lens) and part by part (direct logit attribution).

    logit lens                W_U norm_f(x_l): what would be answered if the network ended here (nostalgebraist 2020)
    direct attribution        z_c / sigma_f . (W_U[y] - W_U[y']): what part c adds to a logit difference directly, the
    final
                              norm's scale frozen, its gain, centring and bias folded in (Elhage et al. 2021)

Both leave out what later parts make of a contribution. Attributions add up to the network's own logit difference, the
bias and an ``error`` entry included; ``gap`` says how nearly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.circuits.transformer.stream import Stream, stream_parts
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.anatomy import anatomy, weight_in_out
from cutaway.networks.folded import inverse_scale, norm_at, pass_through, unembedding
from cutaway.networks.network import Batch, Network

OUTPUT_BIAS = "output bias"
_TOGETHER = 8  # prompts that are taken apart at once: parts x positions x width is large


@dataclass(frozen=True, eq=False)
class Attribution:
    """Contributions to logit(target) - logit(against), in logits, for each prompt and part.

    Parts are named as in :class:`cutaway.circuits.transformer.Stream`; the last one is ``output bias``. ``difference``
    is the network's own, before a softcap of its outputs. ``gap`` [prompt] is difference - sum of contributions.
    """

    names: tuple[str, ...]
    values: Float[Tensor, "prompt part"]
    difference: Float[Tensor, " prompt"]

    @property
    def gap(self) -> Float[Tensor, " prompt"]:
        """What the contributions do not add up to: floating point."""
        return self.difference - self.values.sum(1)

    def top(self, count: int = 10) -> list[tuple[str, float]]:
        """Parts by their mean contribution over prompts, the largest in size first."""
        mean = self.values.mean(0)
        return [
            (self.names[k], float(mean[k])) for k in mean.abs().argsort(descending=True, stable=True)[:count].tolist()
        ]


@dataclass(frozen=True, eq=False)
class Lens:
    """The answer read off at each depth, at one position of each prompt.

    Row 0 is the embedding's, row l the one before block l, the last one the network's own. ``log_probs`` in nats.
    """

    log_probs: Float[Tensor, "depth prompt out"]

    def rank(self, token: Int[Tensor, " prompt"]) -> Int[Tensor, "depth prompt"]:
        """The place of a token among all at each depth; 0 is the top."""
        own = self.log_probs.gather(-1, token.expand(len(self.log_probs), -1)[..., None])
        return (self.log_probs > own).sum(-1)


@torch.no_grad()
def logit_lens(network: Network, stimuli: Any, *, position: int = -1) -> Lens:
    """Reads every depth of one pass through the final norm and the unembedding.

    ``position`` counts from the end of each prompt if negative. Raises ``NotTestable`` without an unembedding.
    """
    weight, bias = unembedding(network)
    body = anatomy(network)
    batch = stimuli if isinstance(stimuli, Batch) else network.prepare(stimuli)
    rows, places = torch.arange(len(batch), device=network.device), _places(batch, position)
    depths = []
    for stream in _depths(network, batch):
        x = stream[rows, places]
        scaled = x * inverse_scale(norm_at(network, body.final_norm), x)[:, None]
        depths.append(_capped(network, scaled @ weight.T + bias).log_softmax(-1))
    return Lens(torch.stack(depths))


def direct_attribution(
    network: Network,
    stimuli: Any,
    target: Int[Tensor, " prompt"],
    against: Int[Tensor, " prompt"] | None = None,
    *,
    position: int = -1,
) -> Attribution:
    """What each part adds directly to logit(target) - logit(against) at a position of each prompt.

    Without ``against`` the mean logit over the vocabulary stands there. Exact up to floating point
    (``Attribution.gap``).
    """
    batch = stimuli if isinstance(stimuli, Batch) else network.prepare(stimuli)
    directions, biases = _directions(network, batch, target, against)
    pieces = []
    for rows in torch.arange(len(batch)).split(_TOGETHER):
        part = _part(batch, rows)
        pieces.append(_attributed(network, part, directions[rows], biases[rows], _places(part, position)))
    names = pieces[0][0]
    values, logits = torch.cat([each[1] for each in pieces]), torch.cat([each[2] for each in pieces])
    return Attribution(names, values, _difference(logits, target, against))


@torch.no_grad()
def neuron_attribution(
    network: Network,
    stimuli: Any,
    layer: int,
    target: Int[Tensor, " prompt"],
    against: Int[Tensor, " prompt"] | None = None,
    *,
    position: int = -1,
) -> Float[Tensor, "prompt neuron_and_bias"]:
    """An MLP's direct contribution neuron by neuron, its output bias last; they add up to ``L{layer}MLP``.

    Raises ``NotTestable`` for a layer without an MLP.
    """
    batch = stimuli if isinstance(stimuli, Batch) else network.prepare(stimuli)
    layers = anatomy(network).layers
    if not 0 <= layer < len(layers) or layers[layer].down is None:
        raise NotTestable(f"Neurons of layer {layer} were asked for; {network.name} has no MLP there.")
    directions, _ = _directions(network, batch, target, against)
    rows, places = torch.arange(len(batch), device=network.device), _places(batch, position)
    hidden_site, last = f"layers.{layer}.mlp", stream_at_end(network, batch)
    hidden = network.run(batch, capture=[hidden_site], stop_at=hidden_site)[hidden_site][rows, places]
    writes, scale, tail = _mlp_writes(network, layer, hidden)
    x = last[rows, places]
    read = directions * inverse_scale(norm_at(network, anatomy(network).final_norm), x)[:, None]
    neurons = hidden * (read @ writes[:-1].T) * scale
    bias = read @ writes[-1:].T * scale + read @ tail[:, None]
    return torch.cat([neurons, bias], 1)


def stream_at_end(network: Network, batch: Batch) -> Float[Tensor, "prompt pos d_model"]:
    """The stream that leaves the last block."""
    return list(_depths(network, batch))[-1]


def _depths(network: Network, batch: Batch) -> Iterator[Tensor]:
    """The stream before the first block and after each one."""
    blocks = [layer.index for layer in anatomy(network).layers]
    stream = stream_parts(network, batch, layer=0, capture=tuple(f"layers.{index}.resid" for index in blocks))
    yield stream.values
    for index in blocks:
        yield stream.run[f"layers.{index}.resid"]


def _attributed(
    network: Network, batch: Batch, directions: Tensor, biases: Tensor, places: Tensor
) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Names, contributions [prompt part] and the network's own logits [prompt out]."""
    stream: Stream = stream_parts(network, batch, capture=("logits",))
    rows = torch.arange(len(batch), device=network.device)
    scale = inverse_scale(norm_at(network, anatomy(network).final_norm), stream.values[rows, places])
    values = torch.einsum("cbd,bd->bc", stream.parts[:, rows, places], directions) * scale[:, None]
    names = (*stream.names, OUTPUT_BIAS)
    return names, torch.cat([values, biases[:, None]], 1), stream.run["logits"][rows, places]


@torch.no_grad()
def _directions(network: Network, batch: Batch, target: Tensor, against: Tensor | None) -> tuple[Tensor, Tensor]:
    """Folded unembedding differences [prompt d_model] and their biases [prompt]."""
    weight, bias = unembedding(network)
    for tokens in (target, against):
        if tokens is not None and (
            len(tokens) != len(batch) or int(tokens.min()) < 0 or int(tokens.max()) >= len(weight)
        ):
            raise BadInput(
                f"{len(tokens)} output tokens from {int(tokens.min())} to {int(tokens.max())} were given for "
                f"{len(batch)} prompts; give one for each, from 0 to {len(weight) - 1}."
            )
    other = (weight.mean(0), bias.mean()) if against is None else (weight[against], bias[against])
    return weight[target] - other[0], bias[target] - other[1]


def _difference(logits: Tensor, target: Tensor, against: Tensor | None) -> Tensor:
    rows = torch.arange(len(logits), device=logits.device)
    return logits[rows, target] - (logits.mean(-1) if against is None else logits[rows, against])


def _mlp_writes(network: Network, layer: int, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What each neuron (and, last, the bias) writes; the frozen scale of a norm behind it; that norm's own bias."""
    parts = anatomy(network).layers[layer]
    assert parts.down is not None and parts.mlp_added is not None
    module: Any = network.module.get_submodule(parts.down)
    writes = weight_in_out(module).detach()
    bias = getattr(module, "bias", None)
    writes = torch.cat([writes, torch.zeros_like(writes[:1]) if bias is None else bias.detach()[None]])
    norm = norm_at(network, parts.mlp_added) if parts.mlp_added != parts.down else None
    written = hidden @ writes[:-1] + writes[-1]
    tail = torch.zeros_like(writes[0]) if norm is None or norm.bias is None else norm.bias
    return pass_through(norm, writes), inverse_scale(norm, written)[:, None], tail


def _places(batch: Batch, position: int) -> Int[Tensor, " prompt"]:
    if batch.mask is None:
        raise BadInput("Output tokens were asked about; the stimuli hold no tokens.")
    last = batch.last
    places = last + 1 + position if position < 0 else torch.full_like(last, position)
    if bool((places < 0).any()) or bool((places > last).any()):
        raise BadInput(f"Position {position} was asked for; the shortest prompt has {int(last.min()) + 1} tokens.")
    return places


def _part(batch: Batch, rows: Tensor) -> Batch:
    return dataclasses.replace(
        batch,
        inputs={name: value[rows] for name, value in batch.inputs.items()},
        ids=tuple(batch.ids[row] for row in rows.tolist()),
        mask=None if batch.mask is None else batch.mask[rows],
    )


def _capped(network: Network, logits: Tensor) -> Tensor:
    cap = getattr(getattr(network.module, "config", None), "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)
