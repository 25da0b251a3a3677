"""What an image is optimized for: objectives that add and multiply, one score for each image of a batch.

``channel("conv3_3", [3, 7]) - 0.5 * neuron("conv4_1", 2)`` is an objective for a batch of two images: item i belongs to
the i-th unit where units are listed, one unit belongs to all. Scores of one item do not depend on the others unless a
term couples them (diversity, alignment), so an image comes out the same alone and in company.

The algebra is that of Lucid's objectives (Olah, Mordvintsev and Schubert 2017, "Feature Visualization", Distill).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.errors import BadInput

LEAST_COSINE = 0.1
"""Cosines are floored here before they are raised to a power, so that a start at a right angle has a gradient."""
_EPSILON = 1e-6


@dataclass(frozen=True, eq=False)
class Reference:
    """What a fixed picture does at a site under a step's transform: activations and, if asked for, a gradient."""

    acts: Float[Tensor, "1 unit *place"]
    gradient: Float[Tensor, "1 unit *place"] | None = None


#: Shows a fixed picture [3 y x] under the step's own transform: (picture, site, address to differentiate or None).
Show = Callable[[Tensor, str, str | None], Reference]


@dataclass(frozen=True, eq=False)
class Step:
    """One step as objectives see it: activations with units on axis 1, the output, the pixels, opacity, references."""

    acts: Mapping[str, Float[Tensor, "batch unit *place"]]
    pixels: Float[Tensor, "batch 3 y x"]
    output: Tensor | None = None
    alpha: Float[Tensor, "batch 1 y x"] | None = None
    show: Show | None = None

    def at(self, site: str) -> Float[Tensor, "batch unit *place"]:
        """The activations at a site that the objective named in ``sites``."""
        return self.acts[site]

    def reference(self, picture: Tensor, site: str, target: str | None = None) -> Reference:
        """A fixed picture's activations (and gradient of ``target``) under the transform of this step."""
        if self.show is None:
            raise BadInput("This objective compares with a picture, and nothing here can show one; use optimize().")
        return self.show(picture, site, target)


Score = Callable[[Step], Tensor]


@dataclass(frozen=True, eq=False)
class Objective:
    """Something to make large: ``score(step)`` is one number for each item of the batch.

    ``text`` says it in words, ``sites`` are captured for it, ``items`` is the batch size that it is made for (None:
    any), ``wants_output`` lets the pass run to its end. Objectives and numbers add, subtract and multiply.
    """

    text: str
    score: Score
    sites: frozenset[str] = frozenset()
    items: int | None = None
    wants_output: bool = False

    def __call__(self, step: Step) -> Float[Tensor, " batch"]:
        """The score of every item."""
        return self.score(step)

    def __add__(self, other: Objective | float | int) -> Objective:
        return _combined(self, other, "+", torch.add)

    def __radd__(self, other: float | int) -> Objective:
        return _combined(_constant(other), self, "+", torch.add)

    def __sub__(self, other: Objective | float | int) -> Objective:
        return _combined(self, other, "-", torch.sub)

    def __rsub__(self, other: float | int) -> Objective:
        return _combined(_constant(other), self, "-", torch.sub)

    def __mul__(self, other: Objective | float | int) -> Objective:
        return _combined(self, other, "*", torch.mul)

    def __rmul__(self, other: float | int) -> Objective:
        return _combined(_constant(other), self, "*", torch.mul)

    def __neg__(self) -> Objective:
        return Objective(
            f"-{_bracketed(self.text)}", lambda step: -self(step), self.sites, self.items, self.wants_output
        )


def channel(site: str, units: int | Sequence[int], *, border: int = 0) -> Objective:
    """The mean activation of a channel over positions; item i has the i-th of ``units``.

    ``border`` rows and columns at each end of a map do not count (one position always does): what a unit sees there is
    mostly padding, and padding is easily exploited.
    """

    def score(step: Step) -> Tensor:
        own = _own(step.at(site), units, site)
        for axis in range(1, own.ndim):
            left_out = min(border, (own.shape[axis] - 1) // 2)
            own = own.narrow(axis, left_out, own.shape[axis] - 2 * left_out)
        return _mean(own)

    return Objective(_named("channel", site, units), score, frozenset({site}), _items(units))


def neuron(site: str, units: int | Sequence[int], *, position: Sequence[int] | None = None) -> Objective:
    """The activation of a unit at one position of the map: the centre, or ``position`` (row, column)."""

    def score(step: Step) -> Tensor:
        acts = step.at(site)
        return _at_position(_own(acts, units, site), position, site)

    where = "" if position is None else f" at {tuple(position)}"
    return Objective(_named("neuron", site, units) + where, score, frozenset({site}), _items(units))


def direction(
    site: str,
    vectors: Float[Tensor, " unit"] | Float[Tensor, "batch unit"],
    *,
    power: float | int = 0,
    centre: bool = False,
) -> Objective:
    """How far activations go along a vector: ``dot * max(0.1, cos) ** power``, mean over positions or at the centre.

    The power punishes what points elsewhere (Carter et al. 2019, "Activation Atlas", use up to 4).
    """

    def score(step: Step) -> Tensor:
        acts = step.at(site)
        wanted = vectors.to(acts)
        wanted = wanted[None] if wanted.ndim == 1 else wanted
        _check_width(wanted.shape[1], acts.shape[1], site)
        values = _cosine_power(acts, wanted.reshape(*wanted.shape, *[1] * (acts.ndim - 2)), power, axes=(1,))
        return _at_position(values, None, site) if centre else _mean(values)

    text = f"direction {site}{'' if not power else f', cosine power {power:g}'}{', centre' if centre else ''}"
    return Objective(text, score, frozenset({site}), len(vectors) if vectors.ndim == 2 else None)


def logit(units: int | Sequence[int]) -> Objective:
    """An output of the network before any softmax, mean over positions where the output is a map."""

    def score(step: Step) -> Tensor:
        if step.output is None:
            raise BadInput("A logit was asked for in a pass that was stopped before the output.")
        return _mean(_own(step.output, units, "the output"))

    return Objective(_named("logit", "output", units), score, frozenset(), _items(units), wants_output=True)


def gray_distance() -> Objective:
    """Mean squared distance of the pixels from middle gray; subtract it to keep early layers' images calm."""
    return Objective("gray distance", lambda step: (step.pixels - 0.5).square().flatten(1).mean(1))


def paid_by_opacity(objective: Objective) -> Objective:
    """The objective times (1 - mean alpha) where it is positive: what is opaque has to earn its place."""

    def score(step: Step) -> Tensor:
        if step.alpha is None:
            raise BadInput("An objective with transparency was given for an image without it; ask for alpha=True.")
        value = objective(step)
        return value.clamp(max=0) + value.clamp(min=0) * (1 - step.alpha.flatten(1).mean(1))

    text = f"{_bracketed(objective.text)} * (1 - mean alpha)"
    return Objective(text, score, objective.sites, objective.items, objective.wants_output)


def _own(acts: Tensor, units: int | Sequence[int], site: str) -> Tensor:
    """The unit of each item: [batch *place]."""
    wanted = [units] if isinstance(units, int) else list(units)
    width = acts.shape[1]
    wrong = [unit for unit in wanted if not 0 <= unit < width]
    if wrong:
        raise BadInput(f"Unit {wrong[0]} of {site} was asked for; it has units 0 to {width - 1}.")
    if isinstance(units, int):
        return acts[:, units]
    if len(wanted) != len(acts):
        raise BadInput(f"{len(wanted)} units were given for {len(acts)} images; give one for each.")
    return acts[torch.arange(len(acts), device=acts.device), torch.as_tensor(wanted, device=acts.device)]


def _mean(values: Tensor) -> Tensor:
    """Over all places of each item, none of them in a site without positions."""
    return values.reshape(len(values), -1).mean(1)


def _at_position(values: Tensor, position: Sequence[int] | None, site: str) -> Tensor:
    """[batch *place] at one place, the centre without a ``position``."""
    sizes = values.shape[1:]
    place = tuple(size // 2 for size in sizes) if position is None else tuple(position)
    if len(place) != len(sizes) or not all(0 <= index < size for index, size in zip(place, sizes)):
        raise BadInput(f"Position {place} of {site} was asked for; its map is {tuple(sizes)} on this canvas.")
    return values[(slice(None), *place)]


def _cosine_power(acts: Tensor, wanted: Tensor, power: float | int, axes: tuple[int, ...]) -> Tensor:
    """``dot * max(0.1, cos) ** power`` over ``axes``."""
    dot = (acts * wanted).sum(axes)
    if not power:
        return dot
    lengths = acts.square().sum(axes).add(_EPSILON**2).sqrt() * wanted.square().sum(axes).sqrt()
    return dot * (dot / (lengths + _EPSILON)).clamp(min=LEAST_COSINE) ** power


def _check_width(given: int, width: int, site: str) -> None:
    if given != width:
        raise BadInput(f"A direction of length {given} was given for {site}; it has {width} units.")


def _constant(value: float | int) -> Objective:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadInput(f"An objective was combined with {value!r}; give a finite number or an objective.")
    return Objective(
        f"{value:g}", lambda step: torch.full((len(step.pixels),), float(value), device=step.pixels.device)
    )


def _combined(
    first: Objective, second: Objective | float | int, sign: str, operation: Callable[..., Tensor]
) -> Objective:
    other = second if isinstance(second, Objective) else _constant(second)
    texts = [_bracketed(each.text) if sign == "*" else each.text for each in (first, other)]
    if sign == "-":
        texts[1] = _bracketed(texts[1])
    return Objective(
        f"{texts[0]} {sign} {texts[1]}",
        lambda step: operation(first(step), other(step)),
        first.sites | other.sites,
        _same_items(first.items, other.items),
        first.wants_output or other.wants_output,
    )


def _same_items(first: int | None, second: int | None) -> int | None:
    if first is not None and second is not None and first != second:
        raise BadInput(f"Objectives for {first} and for {second} images were combined; give both the same number.")
    return second if first is None else first


def _items(units: int | Sequence[int]) -> int | None:
    return None if isinstance(units, int) else len(units)


def _named(kind: str, site: str, units: int | Sequence[int]) -> str:
    listed = [units] if isinstance(units, int) else list(units)
    shown = ",".join(map(str, listed)) if len(listed) <= 4 else f"{listed[0]},...,{listed[-1]}"
    return f"{kind} {site}:{shown}"


def _bracketed(text: str) -> str:
    return f"({text})" if " + " in text or " - " in text else text
