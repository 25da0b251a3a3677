"""From addresses to cards: everything that is known about features, measured together where they share a site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from cutaway.errors import BadInput
from cutaway.evidence import Measurement, mean_interval, permutation_p
from cutaway.features.activity import Activity
from cutaway.features.card import Distribution, FeatureCard
from cutaway.features.collect import (
    MAX_TOKENS,
    Progress,
    as_stimulus_set,
    check_address,
    collect,
    known_width,
    peers,
    prepared,
    silent,
)
from cutaway.features.examples import Counts, pick, show
from cutaway.features.outputs import Downstream
from cutaway.features.pictures import Pictures
from cutaway.features.polysemanticity import polysemanticity
from cutaway.features.portray import check_wish, portraits, preferences
from cutaway.features.stored import Choice, choose, observed, stored_distribution
from cutaway.features.weights import strongest_weights
from cutaway.networks.network import Network
from cutaway.networks.sites import Address, Site
from cutaway.observe import Observation
from cutaway.stimuli import StimulusSet

BINS = 40
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1.0)
PEERS = 24
SIGNED_THRESHOLD = 0.1
"""Where activations can be negative, a unit fires above this share of its own maximum; elsewhere above zero."""


@dataclass(frozen=True)
class Effort:
    """How much a card may cost; ``visualize`` (with so many ``steps``) and ``tune`` (a kind of drawing) cost extra."""

    counts: Counts = field(default_factory=Counts)
    stimuli: int = 48  # drawn at random from a larger set
    peers: int = PEERS  # random other units that every number is compared with
    nulls: int = 8  # of these, how many are ablated one by one
    batch_size: int = 8
    max_tokens: int = MAX_TOKENS
    visualize: bool = False
    steps: int = 64
    tune: str | None = None


def explain(
    network: Network,
    address: str | Address,
    *,
    stimuli: Any,
    atlas: Any = None,
    seed: int = 0,
    effort: Effort = Effort(),
    progress: Progress | None = None,
) -> FeatureCard:
    """One feature's card. See :func:`explain_many`."""
    options = {"stimuli": stimuli, "atlas": atlas, "seed": seed, "effort": effort, "progress": progress}
    return explain_many(network, [address], **options)[0]


def explain_many(
    network: Network,
    addresses: Sequence[str | Address],
    *,
    stimuli: Any,
    atlas: Any = None,
    seed: int = 0,
    effort: Effort = Effort(),
    progress: Progress | None = None,
) -> list[FeatureCard]:
    """Cards of several features, in the given order; features of one site share their forward passes.

    ``stimuli`` is a stimulus set or a list of texts, pictures or tensors. All addresses are checked before anything
    is run: an unknown site or basis raises :class:`UnknownName`, a unit out of range or an empty set :class:`BadInput`.
    A picture or tuning of a site that has none raises as :func:`cutaway.features.portray.check_wish` says.
    """
    shown = as_stimulus_set(stimuli)
    checked = [check_address(network, address, _bases(atlas)) for address in addresses]
    for name in dict.fromkeys(address.site for address in checked):
        check_wish(network, name, visualize=effort.visualize, tune=effort.tune, steps=effort.steps)
    sites = {name: known_width(network, network.site(name), shown) for name in dict.fromkeys(a.site for a in checked)}
    for address in checked:
        _check_unit(sites[address.site], address)
    cards: dict[Address, FeatureCard] = {}
    for name, site in sites.items():
        units = [address.unit for address in checked if address.site == name]
        cards |= _cards_of_site(network, site, units, shown, atlas, seed, effort, progress or silent)
    return [cards[address] for address in checked]


def _bases(atlas: Any) -> list[str]:
    return list(getattr(atlas, "bases", None) or ())


def _check_unit(site: Site, address: Address) -> None:
    if address.unit >= (site.width or 0):
        raise BadInput(f"Unit {address.unit} of {site.name} was asked for; it has units 0 to {(site.width or 1) - 1}.")


def _cards_of_site(
    network: Network,
    site: Site,
    units: Sequence[int],
    stimuli: StimulusSet,
    atlas: Any,
    seed: int,
    effort: Effort,
    progress: Progress,
) -> dict[Address, FeatureCard]:
    observation = observed(atlas, network, site, stimuli)
    choice = choose(stimuli, observation, site, units, effort.stimuli, seed=seed)
    others = peers(site, units, effort.peers, seed)
    activity = collect(
        network,
        site,
        [*units, *others],
        choice.shown,
        batch_size=effort.batch_size,
        max_tokens=effort.max_tokens,
        seed=seed,
        progress=progress,
    )
    maker = _Maker.of(network, activity, observation, choice, others, stimuli, seed, effort)
    cards = {}
    for done, unit in enumerate(dict.fromkeys(units)):
        progress(done, len(units), f"explaining {site.name}:{unit}")
        cards[Address(site.name, unit)] = maker.card(unit)
    return _with_looks(network, site, cards, stimuli, seed, effort, progress)


def _with_looks(
    network: Network,
    site: Site,
    cards: dict[Address, FeatureCard],
    stimuli: StimulusSet,
    seed: int,
    effort: Effort,
    progress: Progress,
) -> dict[Address, FeatureCard]:
    """The cards with the pictures and the tuning that were asked for; all units of the site share the passes."""
    units = [address.unit for address in cards]
    looks, prefers = {}, {}
    if effort.visualize:
        natural = stimuli.take(effort.stimuli, seed=seed)
        counts = {"others": effort.nulls, "compared": effort.peers, "steps": effort.steps}
        looks = portraits(network, site, units, natural, **counts, seed=seed, progress=progress)
    if effort.tune is not None:
        prefers = preferences(network, site, units, effort.tune, stimuli, seed=seed, progress=progress)
    return {
        address: replace(card, portrait=looks.get(address.unit), tuning=prefers.get(address.unit))
        for address, card in cards.items()
    }


@dataclass(frozen=True, eq=False)
class _Maker:
    """Turns the activity of a site into cards, one unit at a time.

    ``activity`` has all stimuli that were shown, ``fair`` those that were drawn without looking at the features.
    """

    network: Network
    activity: Activity
    fair: Activity
    observation: Observation | None
    note: str
    pictures: tuple[Pictures, Pictures] | tuple[None, None]
    downstream: Downstream
    others: tuple[int, ...]
    stimuli: StimulusSet
    seed: int
    effort: Effort

    @classmethod
    def of(
        cls,
        network: Network,
        activity: Activity,
        observation: Observation | None,
        choice: Choice,
        others: tuple[int, ...],
        stimuli: StimulusSet,
        seed: int,
        effort: Effort,
    ) -> _Maker:
        fair = activity.restricted(choice.fair)
        fair = fair if len(fair) else activity
        pictures = (
            (Pictures(network, activity), Pictures(network, fair)) if network.modality == "image" else (None, None)
        )
        downstream = Downstream(network, activity, nulls=effort.nulls, seed=seed)
        return cls(
            network, activity, fair, observation, choice.note, pictures, downstream, others, stimuli, seed, effort
        )

    def card(self, unit: int) -> FeatureCard:
        network, activity, site = self.network, self.activity, self.activity.site
        batch = prepared(network, [activity.stimuli[0].loaded()])
        picks = pick(activity, unit, self.effort.counts, seed=self.seed)
        return FeatureCard(
            address=f"{site.name}:{unit}",
            network=network.name,
            fingerprint=network.fingerprint,
            site_kind=site.kind,
            site_layout=site.layout,
            stimuli=(self.stimuli.name, self.stimuli.fingerprint, len(activity)),
            seed=self.seed,
            examples=show(network, activity, unit, picks, self.pictures[0]),
            firing_rate=firing_rate(self.fair, unit, self.others, seed=self.seed),
            firing_threshold=firing_threshold(self.fair, unit),
            distribution=self._distribution(unit),
            outputs=self.downstream.of(unit, self.others),
            weights=strongest_weights(network, site, unit, batch),
            polysemanticity=polysemanticity(network, self.fair, unit, self.others, self.pictures[1], seed=self.seed),
            receptive_field=self._field(),
            notes=(*network.notes, *filter(None, [self.note]), *_notes(activity, unit, picks)),
            reproduce=f"cutaway feature {network.source or network.name} {site.name}:{unit} --seed {self.seed}"
            + _wishes(self.effort),
        )

    def _distribution(self, unit: int) -> Distribution:
        if self.observation is not None:
            return stored_distribution(self.observation, self.activity.site, unit, BINS, QUANTILES)
        return distribution(self.activity.values[:, :, self.activity.column(unit)])

    def _field(self) -> tuple[int, int] | None:
        found = self.pictures[0].field(0) if self.pictures[0] is not None else None
        return None if found is None else found.first.size


def _wishes(effort: Effort) -> str:
    """The options of the command line that ask for what this effort adds."""
    picture = f" --visualize --steps {effort.steps}" if effort.visualize else ""
    return picture if effort.tune is None else f"{picture} --tune {effort.tune}"


def distribution(values: Float[np.ndarray, "stimulus sample"]) -> Distribution:
    """Histogram (40 equal bins from the least to the greatest value), quantiles, mean and deviation."""
    real = values[~np.isnan(values)]
    low, high = float(real.min()), float(real.max())
    counts, edges = (
        np.histogram(real, BINS, (low, high)) if high > low else (np.array([len(real)]), np.array([low, high]))
    )
    shares = tuple((share, float(value)) for share, value in zip(QUANTILES, np.quantile(real, QUANTILES)))
    return Distribution(
        tuple(counts.tolist()), tuple(edges.tolist()), shares, float(real.mean()), float(real.std()), len(real)
    )


def firing_threshold(activity: Activity, unit: int) -> float:
    """Above what the unit fires: zero where no unit of the site is ever negative, else 10 % of its own maximum."""
    if float(activity.lowest.min()) >= 0:
        return 0.0
    return max(0.0, SIGNED_THRESHOLD * float(activity.highest[:, activity.column(unit)].max()))


def firing_rate(activity: Activity, unit: int, others: Sequence[int], *, seed: int = 0) -> Measurement:
    """Share of positions at which the unit fires: interval over origins of stimuli, null = ``others`` of the site."""
    fires, entities = _fires(activity, unit)
    interval = mean_interval(fires, entities, seed=seed)
    value, n = float(fires.mean()), len(set(entities))
    low, high = max(0.0, interval.low), min(1.0, interval.high)
    rates = [float(_fires(activity, other)[0].mean()) for other in others]
    if len(rates) < 2:
        return Measurement(value, low, high, n=n, seed=seed)
    p = permutation_p(value, rates)
    return Measurement(value, low, high, float(np.mean(rates)), float(np.std(rates, ddof=1)), p, n, seed)


def _fires(activity: Activity, unit: int) -> tuple[Float[np.ndarray, " position"], list[str]]:
    values = activity.values[:, :, activity.column(unit)]
    rows, _ = np.nonzero(~np.isnan(values))
    entities = activity.entities
    fires = (values[~np.isnan(values)] > firing_threshold(activity, unit)).astype(float)
    return fires, [entities[row] for row in rows]


def _notes(activity: Activity, unit: int, picks: Sequence[Any]) -> list[str]:
    column = activity.column(unit)
    highest, lowest = float(activity.highest[:, column].max()), float(activity.lowest[:, column].min())
    if highest == lowest:
        return [f"dead on these stimuli: its activation is {highest:.3g} everywhere"]
    notes = []
    if highest <= 0:
        notes.append("it is never above zero on these stimuli; only its lowest activations are shown")
    tops = [each for each in picks if each.level == "top"]
    first = [each for each in tops if activity.tokens and activity.position(each.place) == (0,)]
    if tops and len(first) > len(tops) / 2:
        notes.append("most of its strongest activations are on the first token of a text, whatever that token is")
    if activity.site.layout.endswith("d_head"):
        notes.append("a head's activation is the Euclidean norm of its output")
    if activity.site.kind == "pattern":
        notes.append("a pattern's activation is the query's strongest attention to any token but the first")
    return notes
