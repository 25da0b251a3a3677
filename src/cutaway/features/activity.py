"""What units did on a set of stimuli: exact extremes, and a sample of positions, for each stimulus."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cutaway.networks.network import Batch
from cutaway.networks.sites import PATTERN, POSITIONS, Site
from cutaway.observe.positions import as_positions, decode_place
from cutaway.stimuli import Stimulus

MOST_SAMPLES = 1024
"""Positions kept of one stimulus; one with fewer positions is kept whole."""


@dataclass(frozen=True, eq=False)
class Activity:
    """What ``units`` of a site did on each stimulus.

    ``values`` holds the sampled positions (all positions, in order, where a stimulus has at most
    :data:`MOST_SAMPLES`), NaN beyond the end of a shorter stimulus; ``highest`` and ``lowest`` are exact, over all
    positions. Places are place codes of :mod:`cutaway.observe.positions`. ``tokens`` are the token ids of texts.
    ``mean`` is the mean over everything shown of the *whole* site, in the form that ``Ablate(reference=)`` takes.
    """

    site: Site
    units: tuple[int, ...]
    stimuli: tuple[Stimulus, ...]
    values: Float[np.ndarray, "stimulus sample unit"]
    places: Int[np.ndarray, "stimulus sample"]
    highest: Float[np.ndarray, "stimulus unit"]
    highest_place: Int[np.ndarray, "stimulus unit"]
    lowest: Float[np.ndarray, "stimulus unit"]
    lowest_place: Int[np.ndarray, "stimulus unit"]
    grid_axes: int
    mean: Tensor
    tokens: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.stimuli)

    def restricted(self, ids: Set[str]) -> Activity:
        """The activity on the stimuli with these ids only."""
        rows = np.array([row for row, stimulus in enumerate(self.stimuli) if stimulus.id in ids], dtype=int)
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        stimuli = tuple(self.stimuli[row] for row in rows)
        tokens = tuple(self.tokens[row] for row in rows) if self.tokens else ()
        return dataclasses.replace(self, stimuli=stimuli, tokens=tokens, **arrays)

    def column(self, unit: int) -> int:
        """The place of a unit among :attr:`units`."""
        return self.units.index(unit)

    def position(self, place: int) -> tuple[int, ...]:
        """A place code as indices along the site's position axes."""
        return decode_place(int(place), self.grid_axes) if self.grid_axes else ()

    @property
    def entities(self) -> list[str]:
        """The origin of each stimulus: stimuli with the same origin are not independent."""
        return [stimulus.group or stimulus.id for stimulus in self.stimuli]


@dataclass
class ActivityBuilder:
    """Gathers an :class:`Activity` batch by batch."""

    site: Site
    units: tuple[int, ...]
    samples: int = MOST_SAMPLES
    seed: int = 0
    _parts: list[dict[str, np.ndarray]] = field(default_factory=list)
    _stimuli: list[Stimulus] = field(default_factory=list)
    _tokens: list[tuple[int, ...]] = field(default_factory=list)
    _sum: Tensor | None = None
    _count: int = 0
    _axes: int = 0

    def add(self, stimuli: Sequence[Stimulus], batch: Batch, tensor: Tensor) -> None:
        """Takes in the captured tensor of one batch."""
        self._add_to_mean(tensor, batch.mask)
        shown = as_positions(*_strongest_attention(self.site, tensor), batch.mask)
        acts = shown.acts[:, :, list(self.units)].cpu()
        valid = None if shown.valid is None else shown.valid.cpu()
        self._axes = len(shown.grid)
        self._parts.append(self._extremes(acts, valid, shown.places.cpu()) | self._sample(acts, valid, shown.places))
        self._stimuli += stimuli
        self._tokens += _token_ids(batch)

    def done(self) -> Activity:
        """Everything that was added, as one value."""
        if self._sum is None:
            raise ValueError("no batch was added")
        width = max(part["places"].shape[1] for part in self._parts)
        joined = {
            key: np.concatenate([_padded(part[key], width) if key in _SAMPLED else part[key] for part in self._parts])
            for key in self._parts[0]
        }
        mean = self._sum / self._count
        return Activity(
            self.site, self.units, tuple(self._stimuli), grid_axes=self._axes, mean=mean.float(),
            tokens=tuple(self._tokens), **joined,
        )  # fmt: skip

    def _extremes(
        self,
        acts: Float[Tensor, "batch pos unit"],
        valid: Bool[Tensor, "batch pos"] | None,
        places: Int[Tensor, " pos"],
    ) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for name, extreme, hidden in (("highest", torch.max, -torch.inf), ("lowest", torch.min, torch.inf)):
            shown = acts if valid is None else acts.masked_fill(~valid[:, :, None], hidden)
            value, index = extreme(shown, dim=1)
            found[name] = value.double().numpy()
            found[f"{name}_place"] = places[index].long().numpy()
        return found

    def _sample(
        self,
        acts: Float[Tensor, "batch pos unit"],
        valid: Bool[Tensor, "batch pos"] | None,
        places: Int[Tensor, " pos"],
    ) -> dict[str, np.ndarray]:
        count = acts.shape[1]
        chosen = np.arange(count)
        if count > self.samples:
            rng = np.random.default_rng([self.seed, len(self._stimuli)])
            chosen = np.sort(rng.choice(count, self.samples, replace=False))
        index = torch.from_numpy(chosen)
        values = acts[:, index].double()
        if valid is not None:
            values = values.masked_fill(~valid[:, index, None], torch.nan)
        row = places.cpu()[index].long().numpy()
        return {"values": values.numpy(), "places": np.tile(row, (len(acts), 1))}

    def _add_to_mean(self, tensor: Tensor, mask: Bool[Tensor, "batch pos"] | None) -> None:
        axes = self.site.layout.split()
        tensor = tensor.detach().double()
        count = 1
        if mask is not None and "pos" in axes:
            real = mask.reshape([size if axis in ("batch", "pos") else 1 for axis, size in zip(axes, tensor.shape)])
            tensor, count = tensor * real, int(mask.sum())
        else:
            count = tensor[:, *(slice(None) if a == "unit" else slice(1) for a in axes[1:])].shape[0]
            count *= int(np.prod([s for a, s in zip(axes, tensor.shape) if a not in ("batch", "unit", "d_head")]))
        over = [axis for axis, name in enumerate(axes) if name not in ("unit", "d_head")]
        total = tensor.sum(over, keepdim=True)[0].cpu()
        self._sum = total if self._sum is None else self._sum + total
        self._count += count


_SAMPLED = ("values", "places")
_ARRAYS = (*_SAMPLED, "highest", "highest_place", "lowest", "lowest_place")


def _padded(array: np.ndarray, width: int) -> np.ndarray:
    gap = [(0, 0)] * array.ndim
    gap[1] = (0, width - array.shape[1])
    return np.pad(array, gap, constant_values=np.nan if array.dtype.kind == "f" else 0)


def _strongest_attention(site: Site, tensor: Tensor) -> tuple[str, Tensor]:
    """A pattern [batch unit query key] as the strongest weight of each query on a key other than the first.

    Attention to the first token is mostly what a head does when it has nothing to do (Xiao et al. 2024, "attention
    sinks"), and the first query has no other choice.
    """
    if site.layout != PATTERN:
        return site.layout, tensor
    weights = tensor.detach().clone()
    weights[..., 0] = 0
    return POSITIONS, weights.amax(-1).transpose(1, 2)


def _token_ids(batch: Batch) -> Iterator[tuple[int, ...]]:
    ids = batch.inputs.get("input_ids")
    if ids is None:
        return
    for row, real in zip(ids.tolist(), (batch.mask if batch.mask is not None else ids >= 0).tolist()):
        yield tuple(token for token, is_real in zip(row, real) if is_real)
