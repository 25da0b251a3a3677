"""Which MLP units tell an attribute apart, on markers that did not choose them?

For each unit: the change from the contrasting to the marked side at the sentence's last token, averaged over templates
for each marker pair, and its t over pairs. The null keeps the changes and gives pairs random signs; since eight pairs
have only 127 other sign patterns, the null t's of all units of a site are pooled (Tusher, Tibshirani and Chu 2001, with
their small constant in the denominator against units that hardly vary), and q is Benjamini-Hochberg over all units.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.evidence import Measurement, benjamini_hochberg, mean_interval
from cutaway.stimuli import AttributePrompt


@dataclass(frozen=True)
class RankedUnit:
    """One unit's change with one attribute; ``held_out`` is the share of minimal pairs that it orders right.

    Right is the order that the other marker pairs have on average.
    """

    attribute: str
    address: str
    change: Measurement  # in the unit's own scale; p against pooled random signs
    q: float
    held_out: float


def rank_units(
    attribute: str,
    prompts: Sequence[AttributePrompt],
    acts: dict[str, Float[Tensor, "prompt unit"]],
    *,
    keep: int,
) -> list[RankedUnit]:
    """The ``keep`` units with the smallest q (the largest |t| first) over all sites of ``acts``."""
    rows = [r for r, prompt in enumerate(prompts) if prompt.attribute == attribute and prompt.side == "marked"]
    pairs = list(dict.fromkeys(prompts[row].pair for row in rows))
    member = np.array([[prompts[row].pair == pair for row in rows] for pair in pairs])
    changes = {site: (v[rows] - v[[row + 1 for row in rows]]).double().numpy() for site, v in acts.items()}
    means = {site: (member @ change) / member.sum(1, keepdims=True) for site, change in changes.items()}
    tested = {site: _tested(value) for site, value in means.items()}
    q = benjamini_hochberg(np.concatenate([p for _, p in tested.values()]))
    scores = np.concatenate([np.abs(t) for t, _ in tested.values()])
    places = [(site, unit) for site, value in means.items() for unit in range(value.shape[1])]
    order = np.lexsort((-scores, q))[:keep]
    found = []
    for i in order:
        site, unit = places[i]
        p = float(tested[site][1][unit])
        change = _change(means[site][:, unit], changes[site][:, unit], member, p)
        right = _held_out(means[site][:, unit], changes[site][:, unit], member)
        found.append(RankedUnit(attribute, f"{site}:{unit}", change, float(q[i]), right))
    return found


def _tested(means: Float[np.ndarray, "pair unit"]) -> tuple[Float[np.ndarray, " unit"], Float[np.ndarray, " unit"]]:
    """t of every unit with the small constant, and its p against the t's of all units under random signs."""
    count = len(means)
    signs = np.array([(1, *rest) for rest in itertools.product((1, -1), repeat=min(count, 10) - 1)][1:])
    signs = np.hstack([signs, np.ones((len(signs), count - signs.shape[1]))])  # more pairs than ten keep their sign
    total = (means**2).sum(0)
    error = np.sqrt(np.maximum(total - count * means.mean(0) ** 2, 0) / max(count - 1, 1) / count)
    small = float(np.median(error)) + 1e-30
    null = signs @ means / count
    null_error = np.sqrt(np.maximum(total - count * null**2, 0) / max(count - 1, 1) / count)
    observed, drawn = means.mean(0) / (error + small), np.sort(np.abs(null / (null_error + small)).ravel())
    beaten = len(drawn) - np.searchsorted(drawn, np.abs(observed) * (1 - 1e-12), side="left")
    return observed, (1 + beaten) / (1 + len(drawn))


def _change(
    means: Float[np.ndarray, " pair"],
    changes: Float[np.ndarray, " row"],
    member: Bool[np.ndarray, "pair row"],
    p: float,
) -> Measurement:
    entities = [int(np.flatnonzero(column)[0]) for column in member.T]
    spread = float(np.sqrt((means**2).sum()) / len(means))
    return Measurement(float(means.mean()), *mean_interval(changes, entities), 0.0, spread, p, len(means))


def _held_out(
    means: Float[np.ndarray, " pair"], changes: Float[np.ndarray, " row"], member: Bool[np.ndarray, "pair row"]
) -> float:
    """Share of rows whose change has the sign of the other pairs' mean, averaged over pairs; no change counts half."""
    signs = np.sign(means.sum() - means)
    shares = [((s * changes[row] > 0) + 0.5 * (changes[row] == 0)).mean() for s, row in zip(signs, member, strict=True)]
    return float(np.mean(shares))
