"""How units answer to the orbits of natural crops, and which answer alike up to a transformation.

For a crop x and a transformation g let a_i(g x) be unit i's activation at the middle; with a window, its strongest
around it, as in tuning, for members that do not sit in the middle of their receptive fields. What a
unit says of g is left when its mean over the orbit of each crop is taken away: r_i(x, g) = a_i(g x) - mean_g a_i(g x).
Two units are one family if r_j(x, g + s) follows r_i(x, g) for some shift s:

    E_ij(s) = corr over x, g of r_i(x, g) and r_j(x, g + s),      s_ij = max_s E_ij(s)

Without the subtraction any two units that answer to contrast look alike at every s. A unit whose r is a small part of
its variance is invariant, and in no family of this group. For cyclic groups E is a cross-spectrum, one product of
matrices for each frequency.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.features.receptive_field import receptive_field
from cutaway.features.tuning.responses import PROBE, spatial_site, view_of
from cutaway.networks.network import Network
from cutaway.stimuli import StimulusSet, builtin_photographs
from cutaway.structure.families.transforms import Group

BATCH = 48
ENOUGH = 8  # crops that must carry a unit's answer for it to be compared
INVARIANT = 0.1  # a unit with less of its variance within orbits is called invariant


@dataclass(frozen=True, eq=False)
class Orbits:
    """Activations around the middle of every crop under every transformation."""

    site: str
    group: Group
    acts: Float[np.ndarray, "unit element crop"]

    @property
    def variant_share(self) -> Float[np.ndarray, " unit"]:
        """The share of each unit's variance that lies within orbits; 0 for a unit that never varies."""
        total = self.acts.var((1, 2))
        within = (self.acts - self.acts.mean(1, keepdims=True)).var((1, 2))
        return np.divide(within, total, out=np.zeros(len(total)), where=total > 1e-12)

    @property
    def active_crops(self) -> Float[np.ndarray, " unit"]:
        """How many crops carry a unit's answer to the transformation: the participation ratio (sum e)^2 / sum e^2 of
        its energy within orbits, 1 to the number of crops; 0 for a silent unit.
        """
        energy = ((self.acts - self.acts.mean(1, keepdims=True)) ** 2).sum(1)
        total, squares = energy.sum(1), (energy**2).sum(1)
        return np.divide(total**2, squares, out=np.zeros(len(total)), where=squares > 0)

    @property
    def usable(self) -> Bool[np.ndarray, " unit"]:
        """Units that vary within orbits on enough crops; similarity on a handful of crops is an accident."""
        return ~self.invariant & (self.active_crops >= ENOUGH)

    @property
    def invariant(self) -> Bool[np.ndarray, " unit"]:
        """Units whose answer hardly depends on the transformation."""
        return self.variant_share < INVARIANT


def crops(stimuli: StimulusSet, count: int, side: int, *, seed: int = 0) -> Float[Tensor, "crop 3 side side"]:
    """Square crops at random places of natural pictures, four of a picture, the half with more contrast of them."""
    rng = np.random.default_rng(seed)
    stimuli = stimuli.take(min(len(stimuli), -(-count // 2)), seed=seed)
    kept: list[tuple[float, Tensor]] = []
    each = -(-2 * count // len(stimuli))
    for batch in stimuli.batches(8):
        for stimulus in batch:
            picture = np.asarray(stimulus.load().convert("RGB"), dtype=np.float32) / 255
            if min(picture.shape[:2]) < side:
                continue
            for _ in range(each):
                top, left = (int(rng.integers(0, extent - side + 1)) for extent in picture.shape[:2])
                crop = picture[top : top + side, left : left + side]
                kept.append((float(crop.std()), torch.from_numpy(crop.transpose(2, 0, 1).copy())))
    if len(kept) < 8:
        raise BadInput(f"Only {len(kept)} crops of {side} pixels could be cut; give more or larger pictures.")
    order = sorted(range(len(kept)), key=lambda index: -kept[index][0])[:count]
    return torch.stack([kept[index][1] for index in sorted(order)])


def window_of(network: Network, name: str) -> int:
    """Positions on each side of the middle that are taken in: those of :func:`cutaway.features.tuning.view_of`."""
    return view_of(network, name).window


def orbit_side(network: Network, name: str, *, window: int = 0) -> int:
    """The side of the crops that a site is shown: its receptive field over the window and a stride of margin, at least
    16 pixels.
    """
    field = receptive_field(network, spatial_site(network, name), (PROBE, PROBE))
    if field is None:
        return getattr(network.preprocess, "size", None) or PROBE
    stride = max(field.stride)
    return max(16, -(-(max(field.first.size) + 2 * (window + 1) * stride) // (2 * stride)) * 2 * stride)


def observe_orbits(
    network: Network,
    name: str,
    group: Group,
    *,
    stimuli: StimulusSet | None = None,
    count: int = 96,
    window: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    pictures: Float[Tensor, "crop 3 side side"] | None = None,
) -> Orbits:
    """Shows ``count`` crops under every transformation of the group; ``pictures`` replaces the crops.

    ``window`` is how many positions around the middle are taken in (:func:`window_of` is tuning's); 0 is the middle
    alone.
    """
    if pictures is None:
        chosen = stimuli if stimuli is not None else builtin_photographs()
        pictures = crops(chosen, count, orbit_side(network, name, window=window), seed=seed)
    found = []
    for index in range(group.size):
        shown = group.apply(pictures, index)
        found.append(np.concatenate([_around_middle(network, name, part, window) for part in shown.split(BATCH)]))
        if progress is not None:
            progress(index + 1, group.size)
    return Orbits(name, group, np.stack(found).transpose(2, 0, 1).astype(np.float64))


def _around_middle(network: Network, name: str, pixels: Tensor, window: int) -> np.ndarray:
    """The strongest activation up to ``window`` positions from the middle, [picture unit].

    The window is round, because a square one is another one when the picture turns by 45 degrees. Without a window that
    at the middle counts; there the mean of two where a map has no middle position.
    """
    acts = network.run(network.prepare_rgb(pixels), capture=[name], stop_at=True)[name].float()
    y, x = (torch.arange(side) - (side - 1) / 2 for side in acts.shape[-2:])
    # Half a diagonal more, so that four positions around a middle between them are all near it.
    near = acts[:, :, torch.hypot(y[:, None], x[None, :]) < window + 0.5**0.5 + 1e-6]
    return (near.amax(2) if window else near.mean(2)).cpu().numpy()


def similarity(orbits: Orbits, *, shuffle: np.random.Generator | None = None) -> Float[np.ndarray, "unit unit2 shift"]:
    """E_ij(s) for all pairs and shifts, in -1..1; with ``shuffle`` unit j sees other crops than unit i (a null)."""
    residual = orbits.acts - orbits.acts.mean(1, keepdims=True)
    scale = np.sqrt((residual**2).mean((1, 2), keepdims=True))
    unit = np.divide(residual, scale, out=np.zeros_like(residual), where=scale > 1e-9)
    other = unit if shuffle is None else unit[:, :, shuffle.permutation(unit.shape[2])]
    return _cyclic(unit, other) if orbits.group.cyclic else _ordered(unit, other)


def _cyclic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    steps, count = a.shape[1], a.shape[2]
    spectra = [np.fft.rfft(values, axis=1).transpose(1, 0, 2) for values in (a, b)]
    cross = np.matmul(spectra[0].conj(), spectra[1].transpose(0, 2, 1))
    return np.fft.irfft(cross, n=steps, axis=0).transpose(1, 2, 0) / (steps * count)


def _ordered(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Shifts from -(n // 2) to n // 2, each over the elements that both have; index n // 2 is no shift."""
    steps = a.shape[1]
    found = []
    for shift in range(-(steps // 2), steps // 2 + 1):
        first = a[:, max(-shift, 0) : steps - max(shift, 0)]
        second = b[:, max(shift, 0) : steps - max(-shift, 0)]
        one, two = (values.reshape(len(values), -1) for values in (first, second))
        one, two = (_standard(values) for values in (one, two))
        found.append(one @ two.T / one.shape[1])
    return np.stack(found, -1)


def _standard(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(1, keepdims=True)
    spread = centred.std(1, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9)


def shifts_of(group: Group) -> Sequence[int]:
    """What each index of the last axis of :func:`similarity` shifts by."""
    return range(group.size) if group.cyclic else range(-(group.size // 2), group.size // 2 + 1)
