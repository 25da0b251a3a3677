"""The observed counterfactual shift of an attribute, as something that can be added to the residual stream.

In a minimal pair the marked phrase changes the stream at the marker and at the tokens after it. The shift of an
attribute is the mean of that change over marker pairs and templates: one vector for the marker's last token, one for
the tokens after it (as seen at the sentence's last token). Both are added at those places of another sentence. What
is added for a person is estimated without that person's marker pair, so the word itself cannot come along.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.audits.protected_attributes.reading import Reading
from cutaway.audits.protected_attributes.sinks import Markers
from cutaway.errors import NotTestable
from cutaway.evidence import random_directions
from cutaway.stimuli import AttributePrompt

ESTIMATORS = ("mean", "median")


@dataclass(frozen=True, eq=False)
class Shift:
    """Vectors to add at the marker's last token and after it; rows are prompts, or one row for all."""

    marker: Float[Tensor, "row unit"]
    after: Float[Tensor, "row unit"]


@dataclass(frozen=True, eq=False)
class PairShifts:
    """The shift of each marker pair of one attribute at one site, averaged over templates of one half."""

    site: str
    pairs: tuple[str, ...]
    marker: Float[Tensor, "pair unit"]
    after: Float[Tensor, "pair unit"]

    def overall(self, estimator: str = "mean") -> Shift:
        """The attribute's shift over all pairs."""
        return Shift(_pooled(self.marker, estimator)[None], _pooled(self.after, estimator)[None])

    def held_out(self, pairs: Sequence[str], estimator: str = "mean") -> Shift:
        """For each of ``pairs`` the shift over the other pairs."""
        without = {pair: [other != pair for other in self.pairs] for pair in dict.fromkeys(pairs)}
        marker = {pair: _pooled(self.marker[kept], estimator) for pair, kept in without.items()}
        after = {pair: _pooled(self.after[kept], estimator) for pair, kept in without.items()}
        return Shift(torch.stack([marker[p] for p in pairs]), torch.stack([after[p] for p in pairs]))


def _pooled(shifts: Float[Tensor, "pair unit"], estimator: str) -> Float[Tensor, " unit"]:
    return shifts.mean(0) if estimator == "mean" else shifts.median(0).values


def observed_shifts(
    prompts: Sequence[AttributePrompt], reading: Reading, markers: Markers, site: str, half: str | None
) -> PairShifts:
    """Marked minus contrast of these markers at one site, over the templates of ``half`` (None: of both)."""
    rows = [
        row
        for row, prompt in enumerate(prompts)
        if markers.include(prompt) and prompt.side == "marked" and half in (None, prompt.half)
    ]
    if not rows:
        raise NotTestable(f"No prompts of half {half} about {markers} were read.")
    pairs = tuple(dict.fromkeys(prompts[row].pair for row in rows))
    contrast = [row + 1 for row in rows]  # the two sides of a minimal pair follow each other

    def mean(values: Float[Tensor, "prompt unit"]) -> Float[Tensor, "pair unit"]:
        change = values[rows] - values[contrast]
        return torch.stack([change[[prompts[row].pair == pair for row in rows]].mean(0) for pair in pairs])

    return PairShifts(site, pairs, mean(reading.marker[site]), mean(reading.last[site]))


def random_shifts(reading: Reading, rows: Sequence[int], site: str, like: Shift, count: int, seed: int) -> list[Shift]:
    """Shifts of the same norms in random directions, drawn from the covariance of the activations at each place.

    ``rows`` are the sentences that the covariance comes from: those about other attributes, since an attribute that
    dominates the covariance would be its own null.
    """
    drawn = [
        random_directions(acts[site][list(rows)], count, norm=float(wanted.norm(dim=1).mean()), seed=seed + number)
        for number, (acts, wanted) in enumerate([(reading.marker, like.marker), (reading.last, like.after)])
    ]
    return [Shift(marker[None], after[None]) for marker, after in zip(*drawn, strict=True)]
