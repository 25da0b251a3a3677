"""Polysemanticity of a site before and after: its units, and the latents that stand for it, judged alike."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from cutaway.bases import Basis
    from cutaway.bases.evaluation import Evaluation
    from cutaway.evidence import Measurement
    from cutaway.features.polysemanticity import LayerModes
    from cutaway.networks import Network
    from cutaway.stimuli import StimulusSet

MOST_STIMULI = 256
FEWEST_ROWS = 16  # held-out rows on which a latent fired, for it to be looked at


@dataclass(frozen=True, eq=False)
class Purity:
    """The scores of units and of latents, and how far apart their medians are (negative: latents mean fewer things).

    ``difference`` is of the medians (null: units exchange sides), ``rank_p`` the two-sided Mann-Whitney test of the
    same scores; both None where fewer than two units or latents of a side have examples enough.
    """

    before: "LayerModes"
    after: "LayerModes"
    difference: "Measurement | None"
    rank_p: float | None
    stimuli: str

    @property
    def values(self) -> "dict[str, np.ndarray]":
        """The scores to be drawn."""
        return {"units": self.before.values("score"), "latents": self.after.values("score")}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "before": self.before.to_json(), "after": self.after.to_json(), "stimuli": self.stimuli,
            "difference": None if self.difference is None else self.difference.to_json(), "rank_p": self.rank_p,
        }  # fmt: skip


def purity(
    network: "Network", basis: "Basis", evaluation: "Evaluation", stimuli: Any, *, count: int, skip_first: int,
    seed: int, progress: Callable[[int, int, str], None],
) -> Purity:  # fmt: skip
    """Scores of ``count`` random units of the site, and of as many random latents that fire, on the same stimuli.

    Examples of both are compared in the same representation of the input. A latent of a transcoder is held against
    the units that it writes.
    """
    import numpy as np

    from cutaway.bases.unfolding import view
    from cutaway.features.collect import collect, known_width
    from cutaway.features.polysemanticity import input_space, measure_layer

    shown = independent(stimuli.take(min(MOST_STIMULI, len(stimuli)), seed=seed))
    rng = np.random.default_rng(seed)
    units = {evaluation.origin.writes: None, f"{evaluation.origin.writes}@{basis.name}": _alive(evaluation)}
    seen = view(network, [basis], skip_first=skip_first)
    layers, representation = [], None
    for name, pool in units.items():
        site = known_width(seen, seen.site(name), shown)
        pool = np.arange(site.width or 0) if pool is None else pool
        drawn = np.sort(rng.permutation(pool)[:count]).tolist()
        activity = collect(seen, site, drawn, shown, seed=seed, progress=progress)
        representation = input_space(seen, activity) if representation is None else representation
        layers.append(measure_layer(activity, representation, seed=seed, progress=progress))
    difference, rank_p = _compared(*layers, seed=seed)
    return Purity(layers[0], layers[1], difference, rank_p, shown.name)


def independent(stimuli: "StimulusSet") -> "StimulusSet":
    """The same stimuli grouped by what counts as independent: passages of a corpus in one file are."""
    from cutaway.bases.unfolding.showing import entities_of
    from cutaway.stimuli import StimulusSet

    entities = entities_of(stimuli)
    return StimulusSet(stimuli.name, [replace(each, group=entities[each.id]) for each in stimuli])


def _alive(evaluation: "Evaluation") -> "np.ndarray":
    """Latents that fire often enough to have examples; all of them if none does."""
    import numpy as np

    fired = evaluation.own.reconstruction.fired
    often = np.flatnonzero(fired >= FEWEST_ROWS)
    return often if len(often) else np.arange(len(fired))


def _compared(before: "LayerModes", after: "LayerModes", *, seed: int) -> "tuple[Measurement | None, float | None]":
    from scipy.stats import mannwhitneyu

    from cutaway.errors import NotTestable
    from cutaway.features.polysemanticity import compare_layers

    try:
        difference = compare_layers(before, after, seed=seed)
    except NotTestable:
        return None, None
    return difference, float(mannwhitneyu(before.values("score"), after.values("score")).pvalue)
