"""Null worlds for labels, directions and sets of units (for whole networks see
:mod:`cutaway.evidence.twins`).

shuffled_labels     the concept is not there: labels move between entities, all rows of an entity together
control_labels      Hewitt and Liang's control task (2019): each entity keeps one arbitrary label
random_directions   any direction would do: drawn from N(0, covariance of the activations)
random_sets         any units would do: same number, same sites, none of the chosen ones
"""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.evidence._arrays import Names, Numbers, as_codes, as_labels, as_stratum

T = TypeVar("T", bound=Hashable)


def shuffled_labels(
    labels: Numbers, entities: Names | None = None, *, count: int, strata: Names | None = None, seed: int = 0
) -> Bool[np.ndarray, "draw row"]:
    """``count`` permutations of the labels that respect how the data came about.

    If every entity has one label (a marker word is female or male), entities exchange labels within their
    stratum and all rows of an entity move together. If entities hold both labels (a template shown with
    either word), rows exchange labels within their entity and stratum. Class counts of entities are kept in
    every stratum.
    """
    rows = len(np.asarray(labels))
    truth, codes = as_labels(labels, rows), as_codes(entities, rows, "Entities")
    stratum = as_stratum(strata, rows)
    mixed = bool(np.intersect1d(codes[truth], codes[~truth]).size)
    units = np.arange(rows) if mixed else codes
    cells = as_codes(list(zip(codes.tolist(), stratum.tolist())), rows, "Cells") if mixed else stratum
    first = np.unique(units, return_index=True)[1]  # a row of each unit
    if not mixed and (cells != cells[first][units]).any():
        raise BadInput("An entity lies in more than one stratum; make strata unions of entities.")
    return _permuted_within(truth[first], cells[first], count, np.random.default_rng(seed))[:, units]


def _permuted_within(
    values: Bool[np.ndarray, " unit"], cells: Int[np.ndarray, " unit"], count: int, rng: np.random.Generator
) -> Bool[np.ndarray, "draw unit"]:
    drawn = np.tile(values, (count, 1))
    for cell in np.unique(cells):
        members = np.flatnonzero(cells == cell)
        drawn[:, members] = rng.permuted(drawn[:, members], axis=1)
    return drawn


def control_labels(
    labels: Numbers, entities: Names | None = None, *, count: int, seed: int = 0
) -> Bool[np.ndarray, "draw row"]:
    """``count`` control tasks: every entity draws one label, with the class shares of the data, and keeps it.

    A probe that does well here has memorised entities. Unlike :func:`shuffled_labels` the draws are
    independent coin tosses, as in the paper, and a class may be missing from a draw.
    """
    rows = len(np.asarray(labels))
    truth, codes = as_labels(labels, rows), as_codes(entities, rows, "Entities")
    tosses = np.random.default_rng(seed).random((count, codes.max() + 1)) < truth.mean()
    return tosses[:, codes]


def random_directions(
    acts: Float[Tensor, "row d"], count: int, *, norm: float | None = None, seed: int = 0
) -> Float[Tensor, "count d"]:
    """``count`` directions from N(0, S), S the covariance of ``acts``; each scaled to ``norm`` if one is
    given.

    Isotropic directions mostly miss the few dimensions in which activations vary, so they are too easy to
    beat. A Gaussian mixture of centred rows has exactly this covariance, without a d x d factor.
    """
    if len(acts) < 2:
        raise BadInput(f"A covariance needs two rows of activations, found {len(acts)}.")
    centred = acts.detach() - acts.detach().mean(dim=0)
    mixing = torch.randn(count, len(acts), generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    drawn = mixing.to(centred) @ centred / (len(acts) - 1) ** 0.5
    if norm is None:
        return drawn
    lengths = drawn.norm(dim=1, keepdim=True)
    if bool((lengths == 0).any()):
        raise BadInput("The activations are constant, so no direction of theirs can be scaled to a norm.")
    return drawn * (norm / lengths)


def random_sets(
    chosen: Sequence[T],
    pool: Sequence[T],
    count: int,
    *,
    stratum: Callable[[T], Hashable] | None = None,
    seed: int = 0,
) -> list[tuple[T, ...]]:
    """``count`` sets the size of ``chosen``, drawn without replacement from ``pool`` less ``chosen``.

    With ``stratum`` (for example the site of an address) each set has as many members of every stratum as
    ``chosen`` has. :class:`BadInput` if a stratum is too small.
    """
    label = stratum or (lambda _: "the pool")
    taken, rng = set(chosen), np.random.default_rng(seed)
    rest: dict[Hashable, list[T]] = {}
    for member in dict.fromkeys(pool):
        if member not in taken:
            rest.setdefault(label(member), []).append(member)
    needed: dict[Hashable, int] = {}
    for member in dict.fromkeys(chosen):
        needed[label(member)] = needed.get(label(member), 0) + 1
    for name, size in needed.items():
        if len(rest.get(name, ())) < size:
            found = len(rest.get(name, ()))
            raise BadInput(f"A random set needs {size} members of {name}, only {found} are not chosen; choose fewer.")
    return [
        tuple(rest[name][i] for name, size in needed.items() for i in rng.choice(len(rest[name]), size, replace=False))
        for _ in range(count)
    ]
