"""Signed causal edges inside the network: e(A -> c) = E[m_c(x; h + shift of A) - m_c(x)].

The shift is estimated on attribute sentences of one template half and added, at the marker and after it, to the
contrasting side of decisions or occupations of the other half. The same edit with random directions of the same norm
is the null; what the edit does to sentences that have no person in them is its specificity.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int

from cutaway.audits.protected_attributes.reading import Prompts, Reading, added, read, tokenized
from cutaway.audits.protected_attributes.shifts import ESTIMATORS, PairShifts, Shift, observed_shifts, random_shifts
from cutaway.audits.protected_attributes.sinks import Markers
from cutaway.audits.protected_attributes.swaps import Swap, case_pairs, cases_of, measure_pairs
from cutaway.evidence import Measurement, Multiverse, Specification, run_multiverse, specifications
from cutaway.networks.network import Network
from cutaway.stimuli import AttributePrompt

OTHER = {"A": "B", "B": "A"}
#: Sentences without a person: their loss must not change when a person's attribute is moved (CC0, written here).
NEUTRAL = (
    "Water boils at a lower temperature on high mountains.",
    "The train from the coast arrives at the station at noon.",
    "Iron rusts when it is left in the rain for a long time.",
    "The library is closed on Sunday and opens on Monday morning.",
    "A square has four equal sides and four right angles.",
    "The river flows through the valley and into the sea.",
    "Bread is made from flour, water, salt and yeast.",
    "The moon goes around the earth in about one month.",
)


@dataclass(frozen=True, eq=False)
class Observed:
    """What the attribute sentences showed: where the shifts are estimated, and the covariance of the nulls."""

    prompts: tuple[AttributePrompt, ...]
    reading: Reading

    def shifts(self, markers: Markers, site: str, half: str | None) -> PairShifts:
        """The shifts of an attribute's marker pairs."""
        return observed_shifts(self.prompts, self.reading, markers, site, half)

    def others(self, markers: Markers) -> list[int]:
        """Rows of the sentences about other attributes."""
        return [row for row, prompt in enumerate(self.prompts) if prompt.attribute != markers.attribute]


@dataclass(frozen=True, eq=False)
class Steerer:
    """Adds shifts to the contrasting side of a sink's cases, and remembers what each run gave."""

    network: Network
    observed: Observed
    swap: Swap
    _runs: dict[tuple[object, ...], Float[np.ndarray, "case word"]] = field(default_factory=dict, repr=False)

    def effects(
        self,
        markers: Markers,
        *,
        site: str,
        half: str,
        estimator: str = "mean",
        amount: float = 1.0,
        metric: str = "log-odds",
    ) -> tuple[Float[np.ndarray, "case target"], list[str]]:
        """Effects on every target, by case, of the shift from the templates of ``half`` in those of the other half."""
        rows = cases_of(self.swap.sink, markers, OTHER[half])
        pairs = case_pairs(self.swap.sink.cases, rows)
        key = (markers, site, half, estimator, amount)
        if key not in self._runs:
            shift = self.observed.shifts(markers, site, half).held_out(pairs, estimator)
            self._runs[key] = self.run(rows, site, shift, amount)
        return self._change(self._runs[key], rows, metric), pairs

    def null_effects(
        self,
        markers: Markers,
        *,
        site: str,
        half: str,
        count: int,
        seed: int,
    ) -> Float[np.ndarray, "draw target"]:
        """Mean effects of random directions of the same norm on the same cases, in the first metric.

        All draws run together, as one long list of prompts: small batches would waste most of the time.
        """
        rows = cases_of(self.swap.sink, markers, OTHER[half])
        like = self.observed.shifts(markers, site, half).overall()
        drawn = random_shifts(self.observed.reading, self.observed.others(markers), site, like, count, seed)
        parts = [torch.cat([getattr(shift, part) for shift in drawn]) for part in ("marker", "after")]
        shift = Shift(*(part.repeat_interleave(len(rows), 0) for part in parts))
        repeated = rows * count
        effects = self._change(self.run(repeated, site, shift, 1.0), repeated, "log-odds")
        return effects.reshape(count, len(rows), -1).mean(1)

    def run(self, rows: Sequence[int], site: str, shift: Shift, amount: float) -> Float[np.ndarray, "case word"]:
        """Log-probabilities after the contrasting side of these cases with the shift added."""
        prompts = self.swap.sink.prompts.select([2 * row + 1 for row in rows])

        def edit(chunk: Int[np.ndarray, " row"]) -> list:
            if len(shift.marker) == 1:
                marker, after = (part.expand(len(chunk), -1) for part in (shift.marker, shift.after))
            else:
                marker, after = shift.marker[chunk], shift.after[chunk]
            return [added(site, prompts, chunk, amount * marker, amount * after)]

        log_probs = read(self.network, prompts, words=self.swap.sink.words, edit=edit).log_probs
        assert log_probs is not None
        return log_probs

    def _change(
        self, log_probs: Float[np.ndarray, "case word"], rows: Sequence[int], metric: str
    ) -> Float[np.ndarray, "case target"]:
        return self.swap.sink.metrics[metric](log_probs) - self.swap.contrast[metric][list(rows)]


def edge_specifications(sites: Sequence[str]) -> tuple[Specification, ...]:
    """At least 24 ways to ask for an edge: site, template half, estimator, metric, and, with few sites, amount."""
    amounts = (1.0,) if len(sites) >= 3 else (0.5, 1.0, 1.5)
    return specifications(
        site=sites, half=("A", "B"), estimator=ESTIMATORS, metric=("log-odds", "share"), amount=amounts
    )


def edge_multiverse(
    steerer: Steerer,
    markers: Markers,
    sites: Sequence[str],
    *,
    summary: Callable[[Float[np.ndarray, "case target"], list[str]], Measurement],
    done: Callable[[], None] = lambda: None,
) -> Multiverse:
    """The edge under every specification; ``summary`` turns effects by case into one measurement."""

    def question(spec: Specification) -> Measurement:
        return summary(
            *steerer.effects(
                markers, site=str(spec["site"]), half=str(spec["half"]), estimator=str(spec["estimator"]),
                amount=float(str(spec["amount"])), metric=str(spec["metric"]),
            )
        )  # fmt: skip

    return run_multiverse(question, edge_specifications(sites), on_result=lambda _result: done())


def one_target(target: int) -> Callable[[Float[np.ndarray, "case target"], list[str]], Measurement]:
    """The summary of a single target: the mean over marker pairs."""
    return lambda effects, pairs: measure_pairs(effects[:, target], pairs)


def off_target(network: Network, site: str, shift: Shift) -> float:
    """Share by which the loss on sentences without a person grows when the shift is added after their first token.

    0.02 means two per cent more nats per token; never below 0.
    """
    prompts = tokenized(network, NEUTRAL)
    base = _loss(network, prompts, None)
    changed = _loss(network, prompts, (site, shift))
    return max(0.0, changed / base - 1) if base > 0 else float("nan")


def _loss(network: Network, prompts: Prompts, steer: tuple[str, Shift] | None) -> float:
    """Mean loss in nats of every token but the first."""
    batch = prompts.batch
    edits = []
    if steer is not None:
        rows = np.arange(len(prompts))
        first = Prompts(batch, prompts.lengths, np.zeros(len(prompts), dtype=int))
        after = steer[1].after.expand(len(prompts), -1)
        edits = [added(steer[0], first, rows, 0 * after, after)]
    log_probs = network.run(batch, edits=edits).logits[:, :-1].float().log_softmax(-1)
    tokens = batch.inputs["input_ids"][:, 1:]
    assert batch.mask is not None
    real = batch.mask[:, 1:]
    return float(-log_probs.gather(-1, tokens[..., None])[..., 0][real].mean())
