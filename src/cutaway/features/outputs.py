"""What a feature does downstream, by the best method that its place in the network allows.

exact      a channel that a linear readout turns into the output: side outputs of an edge detector, channels that a
           classifier averages over the picture and weighs
direct     a language model's MLP unit or stream coordinate: its write vector through the unembedding
ablation   everything else: set to its mean, on the stimuli that activate it most, against random other units
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import measure_against_null
from cutaway.features.ablation import ablation_effect
from cutaway.features.activity import Activity
from cutaway.features.card import Effect, Outputs
from cutaway.features.collect import prepared
from cutaway.features.direct import STREAM, direct_effect
from cutaway.features.edges import EdgeDecision, decompose_edges, edge_share, readout_sites
from cutaway.features.wiring import mean_readout
from cutaway.networks.network import Network

EDGE_PICTURES = 8
SHOWN = 8


class Downstream:
    """Measures the downstream effect of units of one site; what units share is computed once."""

    def __init__(self, network: Network, activity: Activity, *, nulls: int = 8, seed: int = 0) -> None:
        self._network, self._activity = network, activity
        self._nulls, self._seed = nulls, seed
        self._decision: EdgeDecision | None = None

    def of(self, unit: int, others: Sequence[int]) -> Outputs:
        """What ``unit`` does, compared with ``others`` where the method is ablation."""
        network, site = self._network, self._activity.site
        if site.kind == "output":
            return Outputs("none", "It is the output itself.", reason="nothing lies downstream of it")
        if network.task == "causal-lm" and site.kind in ("mlp", *STREAM):
            try:
                return direct_effect(network, site, unit, seed=self._seed)
            except NotTestable:  # its write is not linear: measure instead
                pass
        if network.task == "edges" and site.name in readout_sites(network):
            return self._edge_share(unit)
        if network.task == "classifier":
            linear = mean_readout(network, site, prepared(network, [self._activity.stimuli[0].loaded()]))
            if linear is not None:
                return class_weights(network, linear, unit, seed=self._seed)
        return ablation_effect(network, self._activity, unit, others, nulls=self._nulls, seed=self._seed)

    def _edge_share(self, unit: int) -> Outputs:
        try:
            if self._decision is None:
                self._decision = decompose_edges(self._network, self._pictures(), sites=[self._activity.site.name])
        except BadInput as error:
            return Outputs("none", "Nothing was measured.", reason=str(error))
        return edge_share(self._decision, self._activity.site.name, unit, seed=self._seed)

    def _pictures(self) -> list:
        stimuli = self._activity.stimuli
        count = min(EDGE_PICTURES, len(stimuli))
        chosen = np.random.default_rng(self._seed).choice(len(stimuli), count, replace=False)
        return [stimuli[row].loaded() for row in sorted(chosen)]


def class_weights(network: Network, linear: nn.Linear, unit: int, *, seed: int = 0) -> Outputs:
    """The exact effect on every class of a channel whose spatial mean the classifier weighs.

    Class weights are centred: adding one number to all logits changes nothing. The measure is their spread over
    classes (standard deviation, logits per unit of mean activation); null: the spreads of all other channels.
    """
    weight = linear.weight.detach().double()
    weight = weight - weight.mean(dim=0, keepdim=True)
    mine, spreads = weight[:, unit], weight.std(dim=0, correction=0)
    others = torch.cat([spreads[:unit], spreads[unit + 1 :]]).tolist()
    spread = measure_against_null(float(spreads[unit]), others, n=len(mine), alternative="greater", seed=seed)
    count = min(SHOWN, len(mine))
    names = [network.labels[i] if i < len(network.labels) else f"class {i}" for i in range(len(mine))]
    raised = tuple(Effect(names[i], float(mine[i])) for i in mine.topk(count).indices.tolist())
    lowered = tuple(Effect(names[i], float(mine[i])) for i in (-mine).topk(count).indices.tolist())
    return Outputs(
        "exact",
        "The classifier reads its mean over the picture linearly; these are its class weights, centred over classes.",
        "logits per unit of mean activation",
        raised,
        lowered,
        (("spread of its class weights", spread),),
        "the spreads of the site's other channels",
    )
