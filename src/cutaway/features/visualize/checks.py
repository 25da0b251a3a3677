"""Is an image what its unit looks for? Its activation among natural images, and its company against other units'.

Geirhos et al. 2023 (arXiv:2306.04719) show that visualizations can be made to show anything, and compare what a layer
does on a visualization with what it does on the unit's own natural examples; an image that passes is not proof, one
that fails is a warning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.evidence import Measurement, mean_interval, permutation_p
from cutaway.features.collect import Progress, prepared, silent
from cutaway.features.visualize.ascent import activations
from cutaway.features.visualize.result import Visualization
from cutaway.networks.network import Network
from cutaway.networks.sites import Address, parse_address
from cutaway.stimuli import StimulusSet

TOP = 5
"""Natural images of a unit that its visualization is compared with."""


@dataclass(frozen=True, eq=False)
class Natural:
    """What a site does on natural images: extremes of every unit, its mean and deviation over all positions.

    ``company`` holds for each of ``units`` what the whole site does where that unit peaks, mean over its ``TOP``
    images. ``groups`` names the origin of each image (crops of one photograph share it).
    """

    site: str
    units: tuple[int, ...]
    groups: tuple[str, ...]
    highest: Float[np.ndarray, "image every"]
    lowest: Float[np.ndarray, "image every"]
    mean: Float[np.ndarray, " every"]
    std: Float[np.ndarray, " every"]
    company: Float[np.ndarray, "unit every"]


@dataclass(frozen=True)
class Sanity:
    """One image against natural images and against other units.

    ``rank``: share of natural images whose best position the image exceeds (for a minimum image: undercuts); null: the
    images made for other units, shown to this one. ``sigma`` is its activation in deviations of the unit over natural
    positions, ``others_sigma`` the mean of that over all other units on the same image, ``beats`` the share of them
    that it excites less. ``likeness``: rank correlation over units between the site where the unit peaks on the image
    and where it peaks on its own strongest natural images; null: other units' strongest images.
    """

    address: str
    rank: Measurement
    sigma: float
    others_sigma: float
    beats: float
    likeness: Measurement

    def to_json(self) -> dict[str, object]:
        """Plain values; what could not be measured is null."""
        numbers = {"sigma": self.sigma, "others_sigma": self.others_sigma, "beats": self.beats}
        plain = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
        return {"rank": self.rank.to_json(), **plain, "likeness": self.likeness.to_json()}


def natural_activity(
    network: Network,
    site: str,
    units: Sequence[int],
    stimuli: StimulusSet,
    *,
    progress: Progress = silent,
) -> Natural:
    """One pass over natural images that stops at the site; raises ``BadInput`` if none of them can be used."""
    at_once = 8 if isinstance(getattr(network.preprocess, "size", None), int) else 1
    unique = tuple(dict.fromkeys(units))
    sums, groups, parts = _Sums(), [], []
    peak, company = np.zeros((0, len(unique))), np.zeros((0, len(unique), 0))
    for group in stimuli.batches(at_once):
        maps = _maps(_moved(network, site, network.run(prepared(network, group), capture=[site], stop_at=True)[site]))
        parts.append((maps.amax(2).cpu().double().numpy(), maps.amin(2).cpu().double().numpy()))
        sums.add(maps)
        here, beside = _peaks(maps, unique)
        company, peak = _joined(peak, company, here, beside), _kept(peak, here)
        groups += [each.group or each.id for each in group]
        progress(len(groups), len(stimuli), f"natural images for {site}")
    if not parts:
        raise BadInput(f"None of the {len(stimuli)} natural images of {stimuli.name} can be used.")
    highest, lowest = (np.concatenate(each) for each in zip(*parts))
    mean, std = sums.moments()
    return Natural(site, unique, tuple(groups), highest, lowest, mean, std, company.mean(0))


def sanity(
    network: Network, visualizations: Sequence[Visualization], natural: Natural, *, seed: int = 0
) -> tuple[Sanity, ...]:
    """Every image of one site against natural images and against the other units; see :class:`Sanity`."""
    addresses = [parse_address(each.address) for each in visualizations]
    if any(address.site != natural.site for address in addresses):
        raise BadInput(f"Images of another site were to be compared with {natural.site}; give one site at a time.")
    units = [address.unit for address in addresses]
    maps = [_maps(activations(network, natural.site, each.shown()[None].to(network.device))) for each in visualizations]
    minimum = [bool(each.settings.get("minimum", False)) for each in visualizations]
    found = []
    for row, (unit, low) in enumerate(zip(units, minimum)):
        others = [maps[other] for other, name in enumerate(units) if name != unit]
        found.append(_one(addresses[row], maps[row], others, natural, low, seed))
    return tuple(found)


def _one(address: Address, own: Tensor, others: list[Tensor], natural: Natural, minimum: bool, seed: int) -> Sanity:
    unit, sign = address.unit, -1.0 if minimum else 1.0
    best = (sign * own).amax(2)[0].cpu().double().numpy()
    limits = sign * (natural.lowest if minimum else natural.highest)
    strangers = [float((sign * maps)[0, unit].max()) for maps in others]
    sigma = _sigma(best, sign * natural.mean, natural.std)
    rest = np.delete(sigma, unit)
    rest = rest[np.isfinite(rest)]
    known = math.isfinite(sigma[unit]) and len(rest) > 0
    place = int((sign * own)[0, unit].argmax())
    return Sanity(
        str(address),
        _rank(float(best[unit]), limits[:, unit], natural.groups, strangers, seed),
        float(sigma[unit]),
        float(rest.mean()) if len(rest) else math.nan,
        float((rest < sigma[unit]).mean()) if known else math.nan,
        _likeness(own[0, :, place].cpu().double().numpy(), unit, natural, seed),
    )


def _rank(
    value: float, limits: Float[np.ndarray, " image"], groups: Sequence[str], strangers: Sequence[float], seed: int
) -> Measurement:
    """Share of images that ``value`` exceeds; interval over groups of images, null over other units' images."""
    exceeded = (value > limits).astype(float)
    share = float(exceeded.mean())
    interval = mean_interval(exceeded, list(groups), seed=seed)
    low, high = (float(np.clip(end, 0, 1)) for end in interval)
    null = [float((other > limits).mean()) for other in strangers]
    return _measured(share, low, high, null, len(set(groups)), seed)


def _likeness(profile: Float[np.ndarray, " every"], unit: int, natural: Natural, seed: int) -> Measurement:
    """Rank correlation with the company on the unit's own natural images; null: on those of other units."""
    # The unit itself is left out: it is high on both by construction.
    kept = np.delete(np.arange(len(profile)), unit)
    if unit not in natural.units:
        return Measurement(math.nan, seed=seed)
    scores = [rank_correlation(profile[kept], company[kept]) for company in natural.company]
    own = scores[natural.units.index(unit)]
    null = [score for other, score in zip(natural.units, scores) if other != unit and math.isfinite(score)]
    return _measured(own, math.nan, math.nan, null, min(TOP, len(natural.groups)), seed)


def _measured(value: float, low: float, high: float, null: Sequence[float], n: int, seed: int) -> Measurement:
    if not len(null) or not math.isfinite(value):
        return Measurement(value, low, high, n=n, seed=seed)
    p = permutation_p(value, np.asarray(null, dtype=float), alternative="greater")
    return Measurement(value, low, high, float(np.mean(null)), float(np.std(null)), p, n, seed)


def rank_correlation(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Spearman's correlation, ties at their mean rank; NaN where either is constant or there are fewer than three."""
    ranks = [rankdata(each) for each in (first, second)]
    if len(first) < 3 or any(np.ptp(each) == 0 for each in ranks):
        return math.nan
    return float(np.corrcoef(*ranks)[0, 1])


def _sigma(values: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Deviations from the natural mean; NaN for a unit that never changes."""
    return (values - mean) / np.where(std > 0, std, np.nan)


class _Sums:
    """Running first and second moments over images and positions."""

    def __init__(self) -> None:
        self._count, self._first, self._second = 0, 0.0, 0.0

    def add(self, maps: Float[Tensor, "batch unit place"]) -> None:
        values = maps if maps.device.type == "mps" else maps.double()  # MPS has no doubles
        self._count += values.shape[0] * values.shape[2]
        self._first = self._first + values.sum((0, 2)).cpu().numpy()
        self._second = self._second + values.square().sum((0, 2)).cpu().numpy()

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        mean = self._first / self._count
        return np.asarray(mean), np.sqrt(np.maximum(self._second / self._count - mean**2, 0))


def _moved(network: Network, site: str, acts: Tensor) -> Tensor:
    return acts.movedim(network.site(site).unit_axis, 1)


def _maps(acts: Tensor) -> Float[Tensor, "batch unit place"]:
    """One axis of positions, of length 1 where a site has none."""
    return acts.unsqueeze(-1) if acts.ndim == 2 else acts.flatten(2)


def _peaks(maps: Tensor, units: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """For each image and unit its peak [batch unit] and what the whole site does there [batch unit every]."""
    peak, place = maps[:, list(units)].max(2)
    rows = torch.arange(len(maps), device=maps.device)[:, None]
    return peak.cpu().double().numpy(), maps[rows, :, place].cpu().double().numpy()


def _kept(peak: np.ndarray, more: np.ndarray) -> np.ndarray:
    """The ``TOP`` highest of each unit, in no order."""
    both = np.concatenate([peak, more])
    return np.take_along_axis(both, _strongest(both), 0)


def _joined(peak: np.ndarray, company: np.ndarray, more: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """The company of those that :func:`_kept` keeps."""
    if not len(company):
        company = np.zeros((0, *beside.shape[1:]))
    both = np.concatenate([company, beside])
    return np.take_along_axis(both, _strongest(np.concatenate([peak, more]))[:, :, None], 0)


def _strongest(peaks: np.ndarray) -> np.ndarray:
    return np.argsort(-peaks, axis=0, kind="stable")[:TOP]
