"""Examples at every level of a unit's activation, and what labels of them say about the whole distribution.

The strongest examples alone flatter a unit. An activation-interval quilt (Cammarata et al., "Curve Detectors", Distill
2020) cuts the range from the lowest to the highest activation into uniform bins, negative ones included, and shows a
random sample of each. Labelled blind, it answers how much of the unit's activation is due to what it is said to detect:

    share(label) = sum_x x p(x) P(label | x) / sum_x x p(x)         over positive x, bin by bin

Positions of one origin (crops of one photograph) are not independent; intervals resample origins.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFont
from scipy import stats

from cutaway.errors import BadInput, NotTestable, UnknownName
from cutaway.evidence import Measurement, measure_against_null
from cutaway.features.activity import Activity
from cutaway.features.collect import as_stimulus_set, check_address, collect
from cutaway.features.pictures import Pictures, resized
from cutaway.networks.network import Network
from cutaway.networks.sites import Address

FEWEST_EXCEEDANCES = 20
_LABEL_WIDTH, _GAP = 132, 3


@dataclass(frozen=True, eq=False)
class Patch:
    """One sampled position: what the unit could see there (RGB, 0..1) and what it did."""

    key: str  # stimulus id and position; the name under which it is labelled
    source: str
    origin: str
    position: tuple[int, int]
    value: float
    crop: Float[np.ndarray, "y x 3"]


@dataclass(frozen=True, eq=False)
class Bin:
    """Activations from ``low`` to ``high``: the share of all positions, their mean of max(x, 0), and examples."""

    low: float
    high: float
    share: float
    mean_positive: float
    patches: tuple[Patch, ...]


@dataclass(frozen=True, eq=False)
class Quilt:
    """The bins of one unit, from the lowest to the highest, over ``positions`` sampled positions."""

    address: str
    bins: tuple[Bin, ...]
    positions: int
    seed: int

    @property
    def patches(self) -> tuple[Patch, ...]:
        """All examples, from the lowest bin to the highest."""
        return tuple(patch for each in self.bins for patch in each.patches)

    def blinded(self, *, seed: int = 0) -> tuple[Patch, ...]:
        """All examples in a random order that says nothing about their activations; number 1 is the first."""
        patches = self.patches
        return tuple(patches[index] for index in np.random.default_rng(seed).permutation(len(patches)))

    def labels_of(self, numbered: Mapping[int, str], *, seed: int = 0) -> dict[str, str]:
        """Labels given to the numbers of :meth:`blinded` (of the same seed) as labels of examples."""
        order = self.blinded(seed=seed)
        wrong = [number for number in numbered if not 1 <= number <= len(order)]
        if wrong:
            raise BadInput(f"Number {wrong[0]} was labelled; this quilt has the numbers 1 to {len(order)}.")
        return {order[number - 1].key: label for number, label in numbered.items()}


def quilt(
    network: Network,
    address: str | Address,
    stimuli: Any,
    *,
    bins: int = 10,
    per_bin: int = 8,
    per_stimulus: int = 1,
    batch_size: int = 8,
    seed: int = 0,
) -> Quilt:
    """Random examples of every activation interval of one unit of a feature map, with receptive-field crops.

    ``bins`` uniform intervals run from the lowest to the highest sampled activation; each shows at most ``per_bin``
    random positions, at most ``per_stimulus`` of one stimulus. Raises ``NotTestable`` for a site without a map or a
    unit that never changes.
    """
    if bins < 2 or per_bin < 1 or per_stimulus < 1:
        raise BadInput(f"{bins} bins of {per_bin} examples were asked for; ask for at least 2 bins of 1 example.")
    checked = check_address(network, address)
    site = network.site(checked.site)
    if not site.spatial:
        raise NotTestable(f"{site.name} is not a feature map, so its units see no crop; choose a site with y and x.")
    activity = collect(network, site, [checked.unit], as_stimulus_set(stimuli), batch_size=batch_size, seed=seed)
    values = activity.values[:, :, 0]
    edges = _edges(values, bins, checked)
    pictures = Pictures(network, activity)
    rng = np.random.default_rng([seed, checked.unit])
    cells = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
    real = np.isfinite(values)
    made = tuple(
        _bin(activity, pictures, np.argwhere(real & (cells == cell)), (edges[cell], edges[cell + 1]), int(real.sum()),
             (per_bin, per_stimulus), rng)
        for cell in range(bins)
    )  # fmt: skip
    return Quilt(str(checked), made, int(real.sum()), seed)


def _edges(values: Float[np.ndarray, "stimulus sample"], bins: int, address: Address) -> Float[np.ndarray, " edge"]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low == high:
        raise NotTestable(f"{address} is {low:g} everywhere on these stimuli, so it has no intervals.")
    return np.linspace(low, high, bins + 1)


def _bin(
    activity: Activity,
    pictures: Pictures,
    inside: Int[np.ndarray, "position 2"],
    bounds: tuple[float, float],
    total: int,
    counts: tuple[int, int],
    rng: np.random.Generator,
) -> Bin:
    """The bin of the positions ``inside`` (rows of stimulus and sample)."""
    per_bin, per_stimulus = counts
    used: dict[int, int] = {}
    patches: list[Patch] = []
    for row, sample in rng.permutation(inside).tolist():
        if used.get(row, 0) < per_stimulus and len(patches) < per_bin:
            used[row] = used.get(row, 0) + 1
            patches.append(_patch(activity, pictures, row, sample))
    values = activity.values[inside[:, 0], inside[:, 1], 0]
    mean = float(np.maximum(values, 0).mean()) if len(values) else 0.0
    return Bin(float(bounds[0]), float(bounds[1]), len(values) / total, mean, tuple(patches))


def _patch(activity: Activity, pictures: Pictures, row: int, sample: int) -> Patch:
    y, x = activity.position(int(activity.places[row, sample]))
    stimulus = activity.stimuli[row]
    return Patch(
        key=f"{stimulus.id}@{y},{x}",
        source=stimulus.source,
        origin=activity.entities[row],
        position=(y, x),
        value=float(activity.values[row, sample, 0]),
        crop=pictures.crop(row, (y, x)),
    )


# -- what labels say -----------------------------------------------------------------------------------------------


def expected_value_shares(
    found: Quilt, labels: Mapping[str, str], *, shuffles: int = 999, seed: int = 0
) -> dict[str, Measurement]:
    """The share of the unit's expected (positive) activation that falls on each label, over labelled intervals.

    ``labels`` maps :attr:`Patch.key` to a label. P(label | x) is the label's frequency among the labelled examples of a
    bin; a bin without any is left out of both sums. Shares add up to 1. Interval: bootstrap of labelled examples within
    bins. Null: labels exchanged among all labelled examples, so that a label's share is its frequency. n counts
    labelled examples.
    """
    known = {patch.key for patch in found.patches}
    for key in labels:
        if key not in known:
            raise UnknownName("example of this quilt", key, known)
    weights, bins, given = _labelled(found, labels)
    names = sorted(set(given))
    codes = np.array([names.index(label) for label in given])
    rng = np.random.default_rng(seed)
    shuffled = np.array([_shares(weights, bins, rng.permutation(codes), len(names)) for _ in range(shuffles)])
    resampled = np.array(
        [_shares(weights, bins, codes[_within(bins, rng)], len(names)) for _ in range(shuffles)]
    )  # fmt: skip
    observed = _shares(weights, bins, codes, len(names))
    return {
        name: measure_against_null(
            float(observed[place]), shuffled[:, place], bootstrap=resampled[:, place], n=len(codes), seed=seed
        )
        for place, name in enumerate(names)
    }


def _labelled(
    found: Quilt, labels: Mapping[str, str]
) -> tuple[Float[np.ndarray, " bin"], Int[np.ndarray, " example"], list[str]]:
    """x p(x) of every bin, and bin and label of every labelled example."""
    bins = [place for place, each in enumerate(found.bins) for patch in each.patches if patch.key in labels]
    given = [labels[patch.key] for patch in found.patches if patch.key in labels]
    weights = np.array([each.mean_positive * each.share for each in found.bins])
    if not bins or weights[sorted(set(bins))].sum() == 0:
        raise BadInput("No example with a positive activation was labelled, so there is no expected value to share.")
    return weights, np.array(bins), given


def _shares(
    weights: Float[np.ndarray, " bin"],
    bins: Int[np.ndarray, " example"],
    codes: Int[np.ndarray, " example"],
    names: int,
) -> Float[np.ndarray, " name"]:
    counts = np.zeros((len(weights), names))
    np.add.at(counts, (bins, codes), 1)
    totals = counts.sum(axis=1)
    seen = totals > 0
    return weights[seen] @ (counts[seen] / totals[seen, None]) / weights[seen].sum()


def _within(bins: Int[np.ndarray, " example"], rng: np.random.Generator) -> Int[np.ndarray, " example"]:
    """Examples drawn with replacement, as many from each bin as it has."""
    drawn = np.empty(len(bins), dtype=int)
    for place in np.unique(bins):
        members = np.flatnonzero(bins == place)
        drawn[members] = rng.choice(members, len(members))
    return drawn


# -- the tail ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tail:
    """The distribution above ``threshold``: excesses over it have the mean 1 / rate.

    ``rate`` is the maximum-likelihood rate of an exponential tail, in 1 / activation; ``variation`` the excesses'
    standard deviation over their mean: 1 for an exponential tail, below 1 for a normal one (0.87 above the 90th
    percentile), above 1 for a heavier one. Null of both: the same positions with their values replaced by normal scores
    of the same ranks, mean and spread. Intervals and null resample origins. n counts origins.
    """

    threshold: float
    exceedances: int
    rate: Measurement
    variation: Measurement


def exponential_tail(
    values: Float[np.ndarray, " position"],
    origins: Sequence[str] | None = None,
    *,
    quantile: float = 0.9,
    upper: bool = True,
    draws: int = 499,
    seed: int = 0,
) -> Tail:
    """Whether a unit's tail is exponential or normal: the share ``1 - quantile`` of the largest values.

    ``values`` are activations at positions (best before the rectifier), ``origins`` says which positions belong
    together. ``upper=False`` looks at the lower tail. Raises ``NotTestable`` with fewer than 20 values in the tail.
    """
    if not 0 < quantile < 1:
        raise BadInput(f"The quantile {quantile:g} was asked for; give one between 0 and 1.")
    sample = np.asarray(values if upper else -values, dtype=float)
    names = np.arange(len(sample)) if origins is None else np.unique(np.asarray(origins), return_inverse=True)[1]
    threshold = float(np.quantile(sample, quantile))
    exceedances = int((sample > threshold).sum())
    if exceedances < FEWEST_EXCEEDANCES:
        raise NotTestable(
            f"Only {exceedances} values lie above the threshold {threshold:g}; a tail needs {FEWEST_EXCEEDANCES}: "
            "show more stimuli or lower the quantile."
        )
    normal = _normal_scores(sample)
    members = [np.flatnonzero(names == name) for name in range(int(names.max()) + 1)]
    rng = np.random.default_rng(seed)
    picks = [np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]) for _ in range(draws)]
    resampled, null = (
        np.array([numbers for pick in picks if np.isfinite(numbers := _tail_numbers(which[pick], quantile)).all()])
        for which in (sample, normal)
    )
    rate, variation = (
        measure_against_null(value, null[:, place], bootstrap=resampled[:, place], n=len(members), seed=seed)
        for place, value in enumerate(_tail_numbers(sample, quantile))
    )
    return Tail(threshold if upper else -threshold, exceedances, rate, variation)


def _tail_numbers(sample: Float[np.ndarray, " position"], quantile: float) -> tuple[float, float]:
    """Rate and coefficient of variation of the excesses over the sample's own quantile."""
    threshold = np.quantile(sample, quantile)
    excess = sample[sample > threshold] - threshold
    if len(excess) < 2:
        return math.nan, math.nan
    return float(1 / excess.mean()), float(excess.std() / excess.mean())


def _normal_scores(sample: Float[np.ndarray, " position"]) -> Float[np.ndarray, " position"]:
    """Values of a normal distribution at the ranks of the sample, with its mean and standard deviation."""
    shares = (stats.rankdata(sample) - 0.5) / len(sample)
    return sample.mean() + sample.std() * stats.norm.ppf(shares)


# -- pictures ------------------------------------------------------------------------------------------------------


def draw_quilt(found: Quilt, *, tile: int = 64) -> bytes:
    """The quilt as a PNG: one row for each bin, the highest on top, with its bounds and its share of positions."""
    columns = max(len(each.patches) for each in found.bins)
    rows = found.bins[::-1]
    canvas = Image.new("RGB", (_LABEL_WIDTH + columns * (tile + _GAP), len(rows) * (tile + _GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for row, each in enumerate(rows):
        top = row * (tile + _GAP)
        text = f"{each.low:.3g} to {each.high:.3g}\n{100 * each.share:.2g} % of positions"
        draw.multiline_text((4, top + tile // 2 - 12), text, fill="black", font=ImageFont.load_default())
        for column, patch in enumerate(each.patches):
            canvas.paste(_tile(patch, tile), (_LABEL_WIDTH + column * (tile + _GAP), top))
    return _png(canvas)


def draw_blinded(found: Quilt, *, tile: int = 64, columns: int = 10, seed: int = 0) -> bytes:
    """The examples as a numbered PNG in the order of :meth:`Quilt.blinded`, without their activations."""
    order = found.blinded(seed=seed)
    step = tile + 14
    canvas = Image.new("RGB", (columns * (tile + _GAP), math.ceil(len(order) / columns) * step), "white")
    draw = ImageDraw.Draw(canvas)
    for place, patch in enumerate(order):
        left, top = place % columns * (tile + _GAP), place // columns * step
        draw.text((left + 2, top), str(place + 1), fill="black", font=ImageFont.load_default())
        canvas.paste(_tile(patch, tile), (left, top + 12))
    return _png(canvas)


def _tile(patch: Patch, size: int) -> Image.Image:
    pixels = resized(patch.crop, size)
    return Image.fromarray(np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8))


def _png(canvas: Image.Image) -> bytes:
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
