"""How much of what removing a site costs its reconstruction saves: cross-entropy and KL recovered.

Both with two references, because they tell different stories: the site at its mean over the reference stimuli, and at
zero. The second is the published one and flatters where zero is far from anything that the network has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cutaway.bases.evaluation.contenders import ABLATIONS
from cutaway.bases.unfolding.behaviour import Behaviour
from cutaway.bases.unfolding.sums import statistic
from cutaway.errors import NotTestable
from cutaway.evidence import Measurement
from cutaway.evidence.metrics import kl_recovered, loss_recovered


@dataclass(frozen=True)
class Recovered:
    """Shares of the way from the ablated to the original network, 1 is all of it; None where undefined.

    ``loss_*`` of the cross-entropy of the next token, ``kl_*`` of KL(original | changed); over mean and zero ablation.
    """

    loss_mean: Measurement | None
    loss_zero: Measurement | None
    kl_mean: Measurement | None
    kl_zero: Measurement | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: None if value is None else value.to_json() for name, value in vars(self).items()}


def recovered(behaviours: Mapping[str, Behaviour], *, seed: int = 0) -> dict[str, Recovered]:
    """For each compared network but the ablated ones; empty where these are not among them, or have no loss or KL."""
    ablated = [behaviours.get(name) for name in ABLATIONS]
    if None in ablated or behaviours[ABLATIONS[0]].kl is None:
        return {}
    names = [name for name in behaviours if name not in ABLATIONS]
    return {name: _recovered(behaviours[name], behaviours, seed) for name in names}


def _recovered(own: Behaviour, others: Mapping[str, Behaviour], seed: int) -> Recovered:
    mean, zero = (others[name] for name in ABLATIONS)
    return Recovered(
        *(_loss(own, each, seed) for each in (mean, zero)), *(_kl(own, each, seed) for each in (mean, zero))
    )


def _loss(own: Behaviour, ablated: Behaviour, seed: int) -> Measurement | None:
    assert own.sums is not None and ablated.sums is not None
    if own.loss is None or ablated.loss is None or own.loss_original is None:
        return None
    clean, mine, without = own.loss_original.value, own.loss.value, ablated.loss.value
    value = _defined(lambda: loss_recovered(clean=clean, reconstructed=mine, ablated=without))
    columns = (own.sums.of("loss_original"), own.sums.of("loss"), ablated.sums.of("loss"))
    return None if value is None else statistic(_share, *columns, value=value, seed=seed)


def _kl(own: Behaviour, ablated: Behaviour, seed: int) -> Measurement | None:
    assert own.sums is not None and ablated.sums is not None
    if own.kl is None or ablated.kl is None:
        return None
    mine, without = own.kl.value, ablated.kl.value
    value = _defined(lambda: kl_recovered(reconstructed=mine, ablated=without))
    columns = (0 * own.sums.of("kl"), own.sums.of("kl"), ablated.sums.of("kl"))
    return None if value is None else statistic(_share, *columns, value=value, seed=seed)


def _share(clean: Any, mine: Any, without: Any) -> Any:
    """The same of totals: the counts of rows cancel."""
    return (without - mine) / (without - clean)


def _defined(metric: Callable[[], float]) -> float | None:
    try:
        return metric()
    except NotTestable:
        return None
