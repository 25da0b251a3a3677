"""Do single latents stand for things that have names? Sparse probing and absorption on properties of tokens.

A concept is a property of a token's text: it starts with a given letter, it starts a word, it is a number. Rows that
have it and as many that do not are drawn from the reference stimuli (to choose latents and fit probes) and from the
held-out ones (to score them). Published warning: random directions come close, so read the number beside theirs.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.bases.basis import Basis
from cutaway.bases.evaluation.site_rows import SiteRows
from cutaway.evidence import Measurement, mean_interval, probe_direction
from cutaway.evidence.metrics import absorption_fraction, absorption_terms, sparse_probing, sparse_probing_latents
from cutaway.networks.network import Network

KS = (1, 2, 5)
PER_CLASS = 256
"""Rows with a concept, and rows without, at most, in each of the two sets."""
FEWEST = 24  # rows of a class below which a concept is left out
SPLIT_GAIN = 0.03  # another latent is a main one if it adds so much accuracy (Chanin et al. 2024: feature splitting)
MOST_MAIN = 5


@dataclass(frozen=True)
class Concept:
    """A property of a token, told from its text."""

    name: str
    holds: Callable[[str], bool]


def token_concepts() -> tuple[Concept, ...]:
    """First letters of words (any case), and: starts a word, capitalised, a number, punctuation."""
    letters = [Concept(f"first letter {letter}", _starts_with(letter)) for letter in string.ascii_lowercase]
    return (
        *letters,
        Concept("starts a word", lambda text: text[:1].isspace() and text.strip()[:1].isalpha()),
        Concept("capitalised", lambda text: text.strip()[:1].isupper()),
        Concept("number", lambda text: text.strip().isdigit()),
        Concept("punctuation", lambda text: bool(text.strip()) and all(c in string.punctuation for c in text.strip())),
    )


def _starts_with(letter: str) -> Callable[[str], bool]:
    return lambda text: text[:1].isspace() and text.strip()[:1].lower() == letter


@dataclass(frozen=True)
class Probing:
    """Mean over concepts of held-out accuracy on balanced classes (chance 0.5), by the number of latents.

    ``absorption`` is the mean share of a concept that other latents carry in place of its main ones, 0 to 1. Intervals
    and n are over concepts.
    """

    accuracy: tuple[tuple[int, Measurement], ...]
    absorption: Measurement | None
    concepts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "accuracy": {str(k): value.to_json() for k, value in self.accuracy},
            "absorption": None if self.absorption is None else self.absorption.to_json(),
            "concepts": list(self.concepts),
        }


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows of one concept: what is read and written, and whether the row has it."""

    x: Float[Tensor, "row d_in"]
    y: Float[Tensor, "row d_out"]
    has: Bool[np.ndarray, " row"]


def examples(network: Network, rows: SiteRows, concepts: Sequence[Concept], *, seed: int = 0) -> dict[str, Examples]:
    """Balanced rows of each concept that has enough of both kinds; empty for a network without a tokenizer."""
    if network.tokenizer is None:
        return {}
    kept = {each.name: (_Reservoir(), _Reservoir()) for each in concepts}
    texts: dict[int, list[bool]] = {}
    rng = np.random.default_rng([seed, 2])
    for part in rows:
        if part.tokens is None:
            return {}
        has = np.array([_properties(network, int(token), concepts, texts) for token in part.tokens])
        rank = rng.random(len(part.x))
        for column, concept in enumerate(concepts):
            for side, chosen in zip(kept[concept.name], (has[:, column], ~has[:, column])):
                side.add(part.x, part.y, rank, chosen)
    made = {name: _balanced(*sides) for name, sides in kept.items()}
    return {name: each for name, each in made.items() if each is not None}


class _Reservoir:
    """The rows with the lowest random ranks seen so far."""

    def __init__(self) -> None:
        self.x, self.y, self.rank = torch.zeros(0), torch.zeros(0), np.zeros(0)

    def add(self, x: Tensor, y: Tensor, rank: np.ndarray, chosen: np.ndarray) -> None:
        most = self.rank.max(initial=0.0) if len(self.rank) >= PER_CLASS else np.inf
        places = np.flatnonzero(chosen & (rank < most))
        if not len(places):
            return
        ranks = np.concatenate([self.rank, rank[places]])
        best = np.argsort(ranks, kind="stable")[:PER_CLASS]
        self.x, self.y = (
            (torch.cat([old, new[places]]) if len(old) else new[places])[best]
            for old, new in ((self.x, x), (self.y, y))
        )
        self.rank = ranks[best]


def _balanced(with_it: _Reservoir, without: _Reservoir) -> Examples | None:
    count = min(len(with_it.rank), len(without.rank))
    if count < FEWEST:
        return None
    x, y = (torch.cat([getattr(side, name)[:count] for side in (with_it, without)]) for name in ("x", "y"))
    return Examples(x, y, np.arange(2 * count) < count)


def _properties(network: Network, token: int, concepts: Sequence[Concept], known: dict[int, list[bool]]) -> list[bool]:
    if token not in known:
        text = network.tokenizer.decode([token])
        known[token] = [bool(concept.holds(text)) for concept in concepts]
    return known[token]


def probing(
    basis: Basis, fit: Mapping[str, Examples], held_out: Mapping[str, Examples], *, on_written: bool, seed: int = 0
) -> Probing | None:
    """Sparse probing and absorption of one basis; None without a concept that both sets have.

    ``on_written``: the basis encodes what lies at the written site (transcoders encode what is read).
    """
    shared = [name for name in fit if name in held_out]
    if not shared:
        return None
    found = [_concept(basis, fit[name], held_out[name], on_written) for name in shared]
    ks = [k for k in KS if k <= basis.width]
    accuracy = tuple((k, _mean([each[0][k] for each in found], seed)) for k in ks)
    absorbed = [each[1] for each in found if not np.isnan(each[1])]
    return Probing(accuracy, _mean(absorbed, seed) if absorbed else None, tuple(shared))


def _concept(basis: Basis, fit: Examples, test: Examples, on_written: bool) -> tuple[dict[int, float], float]:
    codes, test_codes = (_codes(basis, each, on_written) for each in (fit, test))
    accuracy = {k: sparse_probing(codes, fit.has, test_codes, test.has, k=k) for k in KS if k <= basis.width}
    return accuracy, _absorption(basis, fit, test, codes, test_codes)


def _absorption(
    basis: Basis, fit: Examples, test: Examples, codes: Float[np.ndarray, "row latent"],
    test_codes: Float[np.ndarray, "other latent"],
) -> float:  # fmt: skip
    """Mean absorption over held-out rows with the concept; NaN where the probe sees it nowhere."""
    main = _main_latents(codes, fit.has)
    direction = probe_direction(fit.y, fit.has).double().numpy()
    offset = basis.decode(torch.zeros(1, basis.width)).detach().double().numpy()
    acts = (test.y.double().numpy() - offset)[test.has]
    decoder = basis.directions().detach().cpu().double().numpy()
    fractions = absorption_fraction(absorption_terms(acts, test_codes[test.has], decoder, direction, main=main))
    return float("nan") if np.isnan(fractions).all() else float(np.nanmean(fractions))


def _main_latents(codes: Float[np.ndarray, "row latent"], has: Bool[np.ndarray, " row"]) -> list[int]:
    """The best latent, and further ones as long as each adds :data:`SPLIT_GAIN` to the accuracy of the probe."""
    most = min(MOST_MAIN, codes.shape[1])
    order = sparse_probing_latents(codes, has, k=most)
    best = sparse_probing(codes, has, codes, has, k=1)
    for count in range(2, most + 1):
        score = sparse_probing(codes, has, codes, has, k=count)
        if score < best + SPLIT_GAIN:
            return order[: count - 1].tolist()
        best = score
    return order.tolist()


def _codes(basis: Basis, given: Examples, on_written: bool) -> Float[np.ndarray, "row latent"]:
    with torch.no_grad():
        return basis.encode(given.y if on_written else given.x).cpu().float().numpy()


def _mean(values: Sequence[float], seed: int) -> Measurement:
    interval = mean_interval(values, seed=seed)
    return Measurement(float(np.mean(values)), *interval, n=len(values), seed=seed)
