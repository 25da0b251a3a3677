"""Neurons by their weights: what they write to the output tokens, and pairs that undo each other.

- prediction and suppression: a few tokens' logits move far more than the rest (kurtosis), up or down (skew)
- entropy: a large write that moves no logit against another, so that only the final norm's scale feels it
- antipodal pairs: two neurons of a layer that read opposite directions

(Gurnee et al. 2024; Stolfo et al. 2024 for entropy neurons.) Nulls: random directions with the covariance of the
layer's write vectors; input weights moved among neurons, coordinate by coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.errors import NotTestable
from cutaway.evidence.measurement import Measurement
from cutaway.evidence.nulls import random_directions
from cutaway.evidence.permutation import permutation_p, permutation_p_units
from cutaway.networks.anatomy import LayerParts, anatomy, weight_in_out
from cutaway.networks.folded import norm_at, pass_through, read_through, unembedding
from cutaway.networks.network import Network

DIRECTIONS, SAMPLED, SHUFFLES = 199, 2048, 19


@dataclass(frozen=True)
class OutputNeuron:
    """A neuron of one output family (``prediction``, ``suppression``, ``entropy``).

    ``score``: excess kurtosis of its effects on the logits (prediction, suppression), or the variance of these effects
    in units of an average direction's of the same length (entropy: near 0). ``norm`` is the length of what it writes.
    """

    layer: int
    neuron: int
    family: str
    score: Measurement
    norm: float

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"layer": self.layer, "neuron": self.neuron, "family": self.family, "score": self.score.to_json(),
                "norm": self.norm}  # fmt: skip


@dataclass(frozen=True)
class AntipodalPair:
    """Two neurons of a layer with opposite reading directions; cosines of what they read and of what they write."""

    layer: int
    first: int
    second: int
    reads: Measurement
    writes: float

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"layer": self.layer, "neurons": [self.first, self.second], "reads": self.reads.to_json(),
                "writes": self.writes}  # fmt: skip


@torch.no_grad()
def output_neurons(network: Network, *, count: int = 10, seed: int = 0) -> list[OutputNeuron]:
    """The ``count`` clearest neurons of each output family. ``NotTestable`` without an unembedding."""
    weight = unembedding(network)[0].float()
    weight = weight - weight.mean(0)
    gram = weight.T @ weight / len(weight)
    chosen = torch.randperm(len(weight), generator=torch.Generator().manual_seed(seed))[:SAMPLED]
    found: list[OutputNeuron] = []
    for layer in anatomy(network).layers:
        if layer.down is not None:
            found += _of_layer(layer.index, write_vectors(network, layer), weight[chosen], gram, count, seed)
    kept: list[OutputNeuron] = []
    for family in ("prediction", "suppression", "entropy"):
        members = [each for each in found if each.family == family]
        sign = 1 if family == "entropy" else -1
        kept += sorted(members, key=lambda each: sign * each.score.value)[:count]
    return kept


def write_vectors(network: Network, layer: LayerParts) -> Float[Tensor, "neuron d_model"]:
    """What each neuron adds to the stream per unit of activation (a norm behind the MLP without its scale)."""
    assert layer.down is not None
    weight = weight_in_out(network.module.get_submodule(layer.down)).detach().float()
    return pass_through(norm_at(network, layer.mlp_added) if layer.mlp_added != layer.down else None, weight)


def logit_spread(
    writes: Float[Tensor, "neuron d_model"], gram: Float[Tensor, "d_model d_model"]
) -> Float[Tensor, " neuron"]:
    """Variance of the effects on all logits, over that of an average direction of the same length; 0 moves none."""
    energy = writes.square().sum(1).clamp(min=1e-30)
    return ((writes @ gram) * writes).sum(1) / energy / (gram.diagonal().sum() / len(gram))


def shape_of_effects(
    effects: Float[Tensor, "neuron token"],
) -> tuple[Float[Tensor, " neuron"], Float[Tensor, " neuron"]]:
    """Skewness and excess kurtosis over tokens."""
    centred = effects - effects.mean(1, keepdim=True)
    unit = centred / centred.square().mean(1, keepdim=True).sqrt().clamp(min=1e-30)
    return unit.pow(3).mean(1), unit.pow(4).mean(1) - 3


def _of_layer(layer: int, writes: Tensor, sample: Tensor, gram: Tensor, count: int, seed: int) -> list[OutputNeuron]:
    null = random_directions(writes, DIRECTIONS, seed=seed)
    skew, kurtosis = shape_of_effects(writes @ sample.T)
    spread, norms = logit_spread(writes, gram), writes.norm(dim=1)
    null_kurtosis = shape_of_effects(null @ sample.T)[1].cpu().double().numpy()
    null_spread = logit_spread(null, gram).cpu().double().numpy()
    loud = norms > norms.median()
    picks = [
        ("prediction", kurtosis.masked_fill(skew <= 0, -torch.inf), null_kurtosis, True),
        ("suppression", kurtosis.masked_fill(skew >= 0, -torch.inf), null_kurtosis, True),
        ("entropy", (-spread).masked_fill(~loud, -torch.inf), null_spread, False),
    ]
    found = []
    for family, rank, draws, high in picks:
        best = [k for k in rank.argsort(descending=True, stable=True)[:count].tolist() if torch.isfinite(rank[k])]
        values = (kurtosis if high else spread)[best].cpu().double().numpy()
        p = permutation_p_units(
            values, np.repeat(draws[:, None], len(values), 1), alternative="greater" if high else "less"
        )
        found += [
            OutputNeuron(layer, k, family, Measurement(float(v), null_mean=float(draws.mean()),
                         null_std=float(draws.std(ddof=1)), p=float(q), n=len(sample), seed=seed), float(norms[k]))
            for k, v, q in zip(best, values, p)
        ]  # fmt: skip
    return found


@torch.no_grad()
def antipodal_pairs(network: Network, *, count: int = 10, seed: int = 0) -> list[AntipodalPair]:
    """The ``count`` pairs with the most opposite reading directions; p against the most opposite pair of shuffles."""
    layers = {layer.index: layer for layer in anatomy(network).layers if layer.down is not None}
    reads = {index: read_vectors(network, layer) for index, layer in layers.items()}
    pairs = [(*pair, index) for index in layers for pair in opposite_rows(reads[index], count)]
    best = sorted(pairs)[:count]
    null = {index: _shuffled_extremes(reads[index], seed + index) for index in {each[3] for each in best}}
    found = []
    for value, a, b, index in best:
        writes, draws = write_vectors(network, layers[index]), null[index]
        measured = Measurement(value, null_mean=float(np.mean(draws)), null_std=float(np.std(draws, ddof=1)),
                               p=permutation_p(value, draws, alternative="less"), n=len(reads[index]),
                               seed=seed)  # fmt: skip
        cosine = float(torch.nn.functional.cosine_similarity(writes[a], writes[b], dim=0))
        found.append(AntipodalPair(index, a, b, measured, cosine))
    return found


def opposite_rows(vectors: Float[Tensor, "row d"], count: int) -> list[tuple[float, int, int]]:
    """The pairs of rows with the lowest cosines: (cosine, row, row), the lowest first."""
    unit = torch.nn.functional.normalize(vectors.float(), dim=1)
    cosines = (unit @ unit.T).triu(1)
    flat = cosines.flatten()
    lowest = (-flat).topk(min(count, len(flat))).indices.tolist()
    return [(float(flat[k]), k // len(unit), k % len(unit)) for k in lowest]


def read_vectors(network: Network, layer: LayerParts) -> Float[Tensor, "neuron d_model"]:
    """What each neuron reads, its norm's gain folded in; of a gated MLP the gate, which decides when it is open."""
    assert layer.down is not None and layer.mlp is not None
    hidden = weight_in_out(network.module.get_submodule(layer.down)).shape[0]
    root = network.module.get_submodule(layer.mlp)
    maps: list[Any] = [
        part for part in root.modules() if hasattr(part, "weight") and _features(part) in (hidden, 2 * hidden)
    ]
    if not maps:
        raise NotTestable(f"What neurons of layer {layer.index} of {network.name} read is not one linear map.")
    weight = weight_in_out(maps[0]).detach().float()[:, :hidden].T
    return read_through(norm_at(network, layer.mlp_norm), weight)[0]


def _features(module: nn.Module) -> int:
    weight: Any = module.weight
    return int(weight_in_out(module).shape[1]) if getattr(weight, "ndim", 0) == 2 else -1


def _shuffled_extremes(reads: Tensor, seed: int) -> list[float]:
    """The lowest cosine after each coordinate's values were turned around among the neurons, each by its own number."""
    generator = torch.Generator().manual_seed(seed)
    rows, extremes = torch.arange(len(reads))[:, None], []
    for _ in range(SHUFFLES):
        turns = torch.randint(len(reads), (reads.shape[1],), generator=generator)
        extremes.append(opposite_rows(reads.gather(0, ((rows + turns) % len(reads)).to(reads.device)), 1)[0][0])
    return extremes
