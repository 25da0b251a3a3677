"""Objectives that compare: images with each other, with a picture, or with a facet of a concept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.features.visualize.objectives import Objective, Step, _check_width, _cosine_power


def diversity(site: str, *, groups: Sequence[int] | None = None) -> Objective:
    """Minus the similarity of an image's texture with that of the others of its group.

    Score of item i: ``-sum over j != i of <G_i, G_j>``, where G is the Gram matrix of the channels over positions,
    divided by its Frobenius norm; between -(n - 1) and 0 for activations that are not negative. ``groups`` numbers
    the images that must differ (default: all); Olah et al. 2017, "Feature Visualization", section "Diversity".
    """

    def score(step: Step) -> Tensor:
        maps = step.at(site).flatten(2)
        grams = (maps @ maps.transpose(1, 2)).flatten(1)
        grams = grams / grams.norm(dim=1, keepdim=True).clamp(min=1e-12)
        return -(grams @ grams.T * _others(groups, len(maps)).to(maps)).sum(1)

    return Objective(f"diversity {site}", score, frozenset({site}), None if groups is None else len(groups))


def interpolation(first: Objective, second: Objective, items: int) -> Objective:
    """From one objective to another over the batch: item i scores ``(1 - t) * first + t * second``, t from 0 to 1.

    Add :func:`alignment` to keep neighbouring images in register.
    """
    if items < 2:
        raise BadInput(f"An interpolation over {items} image was asked for; ask for at least 2.")

    def score(step: Step) -> Tensor:
        share = torch.linspace(0, 1, items, device=step.pixels.device)
        return (1 - share) * first(step) + share * second(step)

    both = first.sites | second.sites
    text = f"from {first.text} to {second.text} in {items} images"
    return Objective(text, score, both, items, first.wants_output or second.wants_output)


def alignment(site: str) -> Objective:
    """Minus the mean squared difference of activations between neighbours in the batch, half of it for each of two.

    Keeps features of an interpolation at the same place. Needs at least two images.
    """

    def score(step: Step) -> Tensor:
        maps = step.at(site).flatten(1)
        gap = (maps[1:] - maps[:-1]).square().mean(1) / 2
        none = gap.new_zeros(1)
        return -(torch.cat([gap, none]) + torch.cat([none, gap]))

    return Objective(f"alignment {site}", score, frozenset({site}))


def caricature(site: str, picture: Float[Tensor, "3 y x"], *, power: float | int = 1) -> Objective:
    """What a site sees in a picture (RGB, 0..1), exaggerated: ``dot(a(x), a(picture)) * max(0.1, cos) ** power``.

    The picture passes through the same transform as the image at every step; Lucid's ``dot_compare``.
    """

    def score(step: Step) -> Tensor:
        return _compared(step.at(site), step.reference(picture, site).acts, power)

    return Objective(f"caricature {site}, cosine power {power:g}", score, frozenset({site}))


def attributed(
    site: str,
    target: str,
    picture: Float[Tensor, "3 y x"],
    *,
    absolute: bool = True,
    power: float | int = 0,
) -> Objective:
    """What a target address makes use of at an earlier ``site`` in a picture: ``dot(a(x), |h * dt/dh|)``.

    h are the picture's activations and t is the target's strongest position, so h * dt/dh is how much each of them
    contributes to first order (Cammarata et al. 2020, "Curve Detectors", use |W * h| for the layer before).
    """

    def score(step: Step) -> Tensor:
        reference = step.reference(picture, site, target)
        assert reference.gradient is not None  # asked for by naming a target
        weight = reference.acts * reference.gradient
        return _compared(step.at(site), weight.abs() if absolute else weight, power)

    return Objective(f"attribution of {target} at {site}", score, frozenset({site}))


def faceted(objective: Objective, site: str, probe: Float[Tensor, " unit"], *, weight: float | int = 1.0) -> Objective:
    """The objective in the facet that a linear probe of an earlier ``site`` asks for.

    ``f(x) + weight * sum of probe . (g * stopgrad(relu(df/dg)))`` with g the activations at ``site``: what raises f by
    way of things that the probe knows (Goh et al. 2021, "Multimodal Neurons", faceted feature visualization).
    """

    def score(step: Step) -> Tensor:
        acts = step.at(site)
        _check_width(len(probe), acts.shape[1], site)
        value = objective(step)
        (gradient,) = torch.autograd.grad(value.sum(), acts, retain_graph=True)
        useful = (acts * gradient.clamp(min=0).detach()).flatten(2).sum(2)
        return value + weight * useful @ probe.to(acts)

    text = f"{objective.text} in a facet at {site}"
    return Objective(text, score, objective.sites | {site}, objective.items, objective.wants_output)


def _compared(acts: Tensor, wanted: Tensor, power: float | int) -> Tensor:
    """Dot product of whole maps times a power of their cosine, for each item, divided by the number of places."""
    places = acts[0, 0].numel()
    return _cosine_power(acts.flatten(1), wanted.flatten(1), power, axes=(1,)) / places


def _others(groups: Sequence[int] | None, count: int) -> Tensor:
    """True where two different items belong to one group, [batch batch]."""
    names = torch.zeros(count) if groups is None else torch.as_tensor(list(groups))
    if len(names) != count:
        raise BadInput(f"{len(names)} groups were given for {count} images; give one for each.")
    return (names[:, None] == names[None]) & ~torch.eye(count, dtype=torch.bool)
