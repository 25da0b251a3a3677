"""In what examples are compared: another network, or the input; never the site that is being judged.

A site's own vectors hold the unit that chose the examples, and every unit that was trained beside it: kinds found there
say how the site is laid out, not what the unit answers to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.features.activity import Activity
from cutaway.features.card import TOP
from cutaway.features.collect import prepared
from cutaway.features.descriptors import describe
from cutaway.features.examples import Pick
from cutaway.features.pictures import Pictures
from cutaway.networks.network import Network

Vectors = Float[np.ndarray, "example axis"]
Lookup = Callable[[Sequence[tuple[int, int]]], Vectors]


@dataclass(frozen=True, eq=False)
class Representation:
    """A vector for every (row, place) of an activity, and in words what it is. Looked up once, then remembered.

    ``directions``: vectors are scaled to unit length, because in a network's own vectors length is mostly how strong
    or rich in contrast an input is, not of which kind.
    """

    what: str
    lookup: Lookup
    directions: bool = False
    _known: dict[tuple[int, int], Float[np.ndarray, " axis"]] = field(default_factory=dict, repr=False)

    def of(self, pairs: Sequence[tuple[int, int]]) -> Vectors:
        """One row for each pair."""
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if missing:
            found = self.lookup(missing)
            if not np.isfinite(found).all():
                raise BadInput(
                    f"The representation ({self.what}) holds NaN or infinite values; look for what made them."
                )
            if self.directions:
                found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
            self._known.update(zip(missing, found))
        return np.stack([self._known[pair] for pair in pairs])


def given(
    activity: Activity, vectors: Float[np.ndarray, "stimulus axis"], *, what: str = "the given vectors"
) -> Representation:
    """One vector for each stimulus of the activity, whatever the place."""
    if len(vectors) != len(activity):
        raise BadInput(f"{len(vectors)} vectors were given for {len(activity)} stimuli; give one for each.")
    return Representation(what, lambda pairs: vectors[[row for row, _ in pairs]])


def input_space(network: Network, activity: Activity) -> Representation:
    """What is at the position of the input: :mod:`cutaway.features.descriptors` (pictures: of the receptive field)."""
    pictures = Pictures(network, activity) if network.modality == "image" else None
    what = describe(network, activity, [Pick(TOP, 0, int(activity.highest_place[0, 0]), 0.0)], pictures)[1]

    def lookup(pairs: Sequence[tuple[int, int]]) -> Vectors:
        return describe(network, activity, [Pick(TOP, row, place, 0.0) for row, place in pairs], pictures)[0]

    return Representation(what, lookup)


def elsewhere(
    network: Network, activity: Activity, other: Network, site: str, *, max_tokens: int | None = None
) -> Representation:
    """What another network makes of the same stimuli at its ``site``.

    Feature maps and token sites are read at the same relative position. A site without positions is shown what the
    unit can see: crops of its receptive field (pictures), or the whole stimulus. ``BadInput`` for the same network at
    any site, and for another tokenization.
    """
    check_independent(network, activity.site.name, other, site)
    what = f"{site} of {other.name}"
    layout = other.site(site).layout
    if activity.tokens and "pos" in layout:
        return Representation(what, _TokenVectors(activity, other, site, max_tokens), directions=True)
    if activity.grid_axes == 2 and other.site(site).spatial:
        return Representation(what, _MapVectors(activity, other, site), directions=True)
    pictures = Pictures(network, activity) if network.modality == "image" and activity.grid_axes == 2 else None
    return Representation(what, _WholeVectors(activity, other, site, pictures), directions=True)


def check_independent(network: Network, site: str, other: Network, other_site: str) -> None:
    """``BadInput`` if the representation is the judged site, or any site of the judged network.

    A network with a dictionary built in has another fingerprint than the one around it: there the names tell
    (``NAME+suffix``, ``SITE@BASIS``).
    """
    family = [each.name.split("+")[0] for each in (network, other)]
    places = [each.split("@")[0] for each in (site, other_site)]
    if network.fingerprint == other.fingerprint or (family[0] == family[1] and places[0] == places[1]):
        raise BadInput(
            f"{site} of {network.name} was to be judged in {other_site} of {other.name}, which is no independent "
            "representation; take another network, or the input."
        )


@dataclass(frozen=True, eq=False)
class _TokenVectors:
    """Vectors of another network at the same token."""

    activity: Activity
    other: Network
    site: str
    max_tokens: int | None
    _rows: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, pairs: Sequence[tuple[int, int]]) -> Vectors:
        found = [self._row(row)[self.activity.position(place)[0]] for row, place in pairs]
        return torch.stack(found).double().numpy()

    def _row(self, row: int) -> Tensor:
        if row not in self._rows:
            expected = len(self.activity.tokens[row])
            value = _captured(self.other, self.site, [self.activity.stimuli[row].loaded()], self.max_tokens or expected)
            if value.shape[1] != expected:
                raise BadInput(
                    f"{self.other.name} reads {value.shape[1]} tokens where the judged network reads {expected}; take "
                    "a network with the same tokenizer, or the input."
                )
            self._rows[row] = value[0].flatten(1)
        return self._rows[row]


@dataclass(frozen=True, eq=False)
class _MapVectors:
    """Vectors of another network's feature map at the same relative position."""

    activity: Activity
    other: Network
    site: str
    _maps: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, pairs: Sequence[tuple[int, int]]) -> Vectors:
        return torch.stack([self._at(row, place) for row, place in pairs]).double().numpy()

    def _at(self, row: int, place: int) -> Tensor:
        if row not in self._maps:
            self._maps[row] = _captured(self.other, self.site, [self.activity.stimuli[row].loaded()])[0]
        found = self._maps[row]
        here, size = self.activity.position(place), self._size(row)
        y, x = (int((here[axis] + 0.5) / size[axis] * found.shape[1 + axis]) for axis in (0, 1))
        return found[:, min(y, found.shape[1] - 1), min(x, found.shape[2] - 1)]

    def _size(self, row: int) -> tuple[int, int]:
        """Rows and columns of the judged map, from the furthest places that were seen."""
        codes = np.concatenate([self.activity.places[row], self.activity.highest_place[row]])
        y, x = np.array([self.activity.position(code) for code in np.unique(codes)]).max(axis=0)
        return int(y) + 1, int(x) + 1


@dataclass(frozen=True, eq=False)
class _WholeVectors:
    """Vectors of another network for the crop that the unit can see, or for the whole stimulus."""

    activity: Activity
    other: Network
    site: str
    pictures: Pictures | None

    def __call__(self, pairs: Sequence[tuple[int, int]]) -> Vectors:
        return np.stack([self._one(*pair) for pair in pairs])

    def _one(self, row: int, place: int) -> Float[np.ndarray, " axis"]:
        shown: Any = self.activity.stimuli[row].loaded()
        if self.pictures is not None:
            from PIL import Image

            crop = self.pictures.crop(row, self.activity.position(place))
            shown = Image.fromarray(np.clip(np.rint(crop * 255), 0, 255).astype(np.uint8))
        value = _captured(self.other, self.site, [shown])[0]
        return value.flatten(1).mean(dim=1).double().numpy() if value.ndim > 1 else value.double().numpy()


def _captured(other: Network, site: str, stimuli: list[Any], max_tokens: int | None = None) -> Tensor:
    batch = prepared(other, stimuli) if max_tokens is None else prepared(other, stimuli, max_tokens)
    with torch.no_grad():
        return other.run(batch, capture=[site], stop_at=True)[site].detach().cpu()
