"""What changes downstream when a feature is set to its mean: measured, on stimuli that activate it most.

The null is the same measurement for random other units of the site on the same stimuli. Values are with the feature
minus without it, so that a positive number is what the feature's presence adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.evidence import Measurement, mean_interval, measure_against_null
from cutaway.features.activity import Activity
from cutaway.features.card import Effect, Outputs
from cutaway.features.collect import prepared
from cutaway.features.examples import token_text, top_picks
from cutaway.networks.edits import Ablate
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import POSITIONS, Site

STIMULI, MAX_TOKENS = 3, 48
SHOWN = 8


@dataclass(frozen=True)
class _Reading:
    """How a kind of output is compared: ``size`` for each stimulus, ``profile`` over named outputs."""

    name: str  # what size is, with its unit
    unit: str  # of the profile's values
    size: Callable[[Tensor, Tensor, Batch], Tensor]
    profile: Callable[[Tensor, Tensor], Tensor] | None = None


def ablation_effect(
    network: Network, activity: Activity, unit: int, others: Sequence[int], *, nulls: int = 8, seed: int = 0
) -> Outputs:
    """The effect of the unit on the output, on its strongest stimuli and, for classifiers, on random ones."""
    picks = top_picks(activity, unit, STIMULI)
    if not picks:
        return Outputs(
            "none", "Nothing was measured.", reason="it is active on no stimulus, so there is nothing to ablate"
        )
    rows = [each.row for each in picks]
    compared = list(others[:nulls])
    trial = _Trial.of(network, activity, rows, [activity.position(each.place) for each in picks])
    measured = _against_peers(trial, unit, compared, seed)
    measures = [(f"{trial.reading.name}, strongest stimuli", measured)]
    if network.task == "classifier":
        chosen = np.random.default_rng([seed, unit]).choice(len(activity), min(STIMULI, len(activity)), replace=False)
        random = _Trial.of(network, activity, chosen.tolist(), [()] * len(chosen))
        measures.append((f"{trial.reading.name}, random stimuli", _against_peers(random, unit, compared, seed)))
    raised, lowered = trial.profile(unit)
    return Outputs(
        "ablation", _sentence(measured), trial.reading.unit, raised, lowered, tuple(measures),
        f"ablation of {len(compared)} random other units of the site on the same stimuli" if compared else "",
    )  # fmt: skip


def _sentence(measured: Measurement) -> str:
    if np.isnan(measured.z):
        return f"Setting it to its mean changes the output by {measured.value:.3g}."
    compared = "more than" if measured.z > 2 else "less than" if measured.z < -2 else "about as much as"
    changes = f"Setting it to its mean changes the output by {measured.value:.3g}"
    return f"{changes}, {compared} other units (z {measured.z:+.1f})."


@dataclass(frozen=True, eq=False)
class _Trial:
    """One batch of stimuli with its unedited output, on which units are ablated one after another."""

    network: Network
    batch: Batch
    output: Tensor
    where: tuple[tuple[int, ...], ...]
    site: Site
    mean: Tensor | None
    reading: _Reading

    @classmethod
    def of(cls, network: Network, activity: Activity, rows: Sequence[int], where: Sequence[tuple[int, ...]]) -> _Trial:
        batch = prepared(network, [activity.stimuli[row].loaded() for row in rows], _length(activity, where))
        site, mean = _ablated_site(network, activity)
        with torch.no_grad():
            output = network.run(batch).logits
        return cls(network, batch, output, tuple(where), site, mean, _reading(network))

    def without(self, unit: int) -> Tensor:
        edit = Ablate(self.site.name, [unit], to="mean", reference=self.mean)
        with torch.no_grad():
            return self.network.run(self.batch, edits=[edit]).logits

    def sizes(self, unit: int) -> Float[np.ndarray, " stimulus"]:
        return self.reading.size(self.output, self.without(unit), self.batch).double().cpu().numpy()

    def profile(self, unit: int) -> tuple[tuple[Effect, ...], tuple[Effect, ...]]:
        """Outputs that the unit's presence raises and lowers most."""
        if self.reading.profile is None:
            return (), ()
        change = self.reading.profile(self.output, self.without(unit))
        if change.ndim == 3:  # [batch pos vocab]: at the position where the unit is strongest
            rows = torch.arange(len(change))
            change = change[rows, torch.tensor([min(p[0] if p else 0, change.shape[1] - 1) for p in self.where])]
        mean = change.mean(0)
        count = min(SHOWN, len(mean))
        return tuple(self._named(mean, index) for index in mean.topk(count).indices if mean[index] > 0), tuple(
            self._named(mean, index) for index in (-mean).topk(count).indices if mean[index] < 0
        )

    def _named(self, values: Tensor, index: Tensor) -> Effect:
        place, labels = int(index), self.network.labels
        if self.network.task == "causal-lm":
            return Effect(token_text(self.network, place), float(values[place]))
        return Effect(labels[place] if place < len(labels) else f"output {place}", float(values[place]))


def _length(activity: Activity, where: Sequence[tuple[int, ...]]) -> int:
    """Texts are cut to 48 tokens, or so that the strongest position is still in."""
    if not activity.tokens:
        return MAX_TOKENS
    return max(MAX_TOKENS, *(position[0] + 1 for position in where if position), 1)


def _ablated_site(network: Network, activity: Activity) -> tuple[Site, Tensor | None]:
    """The site whose units are set to their mean: a head as a whole for what lies inside attention."""
    site = activity.site
    if site.kind in ("pattern", "query"):
        return network.site(site.name.rpartition(".")[0] + ".heads"), None
    return site, activity.mean


def _against_peers(trial: _Trial, unit: int, others: Sequence[int], seed: int) -> Measurement:
    sizes = trial.sizes(unit)
    interval = mean_interval(sizes, seed=seed)
    low, high = max(interval.low, 0.0), interval.high
    if not others:
        return Measurement(float(sizes.mean()), low, high, n=len(sizes), seed=seed)
    null = [float(trial.sizes(other).mean()) for other in others]
    against = measure_against_null(float(sizes.mean()), null, n=len(sizes), alternative="greater", seed=seed)
    return Measurement(against.value, low, high, against.null_mean, against.null_std, against.p, len(sizes), seed)


def _reading(network: Network) -> _Reading:
    if network.task == "causal-lm":
        return _Reading(
            "mean KL divergence of the next token, nats", "change of log probability, nats", _kl, _log_ratio
        )
    if network.task == "classifier":
        return _Reading("RMS change of centred class logits", "change of centred logit", _rms_change, _centred_change)
    if network.task == "edges":
        return _Reading("mean absolute change of the edge logit", "edge logit", _absolute_change)
    return _Reading("change of the output relative to its norm", "relative norm", _relative_change)


def _kl(base: Tensor, edited: Tensor, batch: Batch) -> Tensor:
    p, q = base.float().log_softmax(-1), edited.float().log_softmax(-1)
    each = (p.exp() * (p - q)).sum(-1).clamp(min=0)
    return _mean_over_tokens(each, batch)


def _mean_over_tokens(values: Float[Tensor, "batch pos"], batch: Batch) -> Float[Tensor, " batch"]:
    if batch.mask is None:
        return values.mean(1)
    return (values * batch.mask).sum(1) / batch.mask.sum(1)


def _log_ratio(base: Tensor, edited: Tensor) -> Tensor:
    return base.float().log_softmax(-1) - edited.float().log_softmax(-1)


def _centred_change(base: Tensor, edited: Tensor) -> Tensor:
    change = (base - edited).float()
    return change - change.mean(-1, keepdim=True)


def _rms_change(base: Tensor, edited: Tensor, _batch: Batch) -> Tensor:
    return _centred_change(base, edited).square().mean(-1).sqrt().flatten(1).mean(1) if base.ndim > 2 else (
        _centred_change(base, edited).square().mean(-1).sqrt()
    )  # fmt: skip


def _absolute_change(base: Tensor, edited: Tensor, _batch: Batch) -> Tensor:
    return (base - edited).abs().flatten(1).mean(1)


def _relative_change(base: Tensor, edited: Tensor, batch: Batch) -> Tensor:
    if base.ndim == len(POSITIONS.split()) and batch.mask is not None and base.shape[1] == batch.mask.shape[1]:
        base, edited = base * batch.mask[:, :, None], edited * batch.mask[:, :, None]
    return (base - edited).flatten(1).norm(dim=1) / base.flatten(1).norm(dim=1).clamp(min=1e-12)
