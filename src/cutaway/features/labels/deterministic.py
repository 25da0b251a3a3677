"""Labels without a language model: token sets and shapes, promoted tokens, tuning, clusters of examples."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cutaway.errors import NotTestable
from cutaway.features.card import Outputs
from cutaway.features.descriptors import describe_picture
from cutaway.features.labels.cases import Case, Cases
from cutaway.features.polysemanticity import FeatureModes, Representation
from cutaway.features.taxonomy import Battery, UnitLabel

NAMED = 6
PROTOTYPES = 8


@dataclass(frozen=True)
class TokenSet:
    """Fires on these tokens, or else on tokens of these shapes: ``rates`` and ``shapes`` are chances of firing."""

    rates: dict[str, float]
    shapes: dict[str, float]
    base: float
    text: str
    method: str = "tokens"

    def predict(self, cases: Sequence[Case]) -> Sequence[float]:
        """The chance of the token; of its shape where the token was never seen."""
        return [self.rates.get(case.token, self.shapes.get(token_shape(case.token), self.base)) for case in cases]


def token_set(cases: Cases) -> TokenSet:
    """Which tokens, and which shapes of tokens, the feature fires on, from cases to make labels from.

    Chances are shrunk: a token seen n times counts its shape's chance as two more sightings, a shape the overall one.
    Raises ``NotTestable`` for inputs without tokens.
    """
    if not cases.fires or cases.fires[0].at is None:
        raise NotTestable("A token label was asked for, and these stimuli hold no tokens; use example clusters.")
    on, off = cases.fires, [*cases.silent, *cases.others]
    base = len(on) / (len(on) + len(off))
    shapes = _rates(
        Counter(token_shape(c.token) for c in on), Counter(token_shape(c.token) for c in off), lambda _: base
    )
    hits = Counter(case.token for case in on)
    rates = _rates(hits, Counter(case.token for case in off), lambda token: shapes[token_shape(token)])
    named = sorted((t for t in hits if rates[t] > 0.5), key=lambda t: (-hits[t], t))[:NAMED]
    likely = [shape for shape, rate in sorted(shapes.items(), key=lambda item: -item[1]) if rate > 0.5][:2]
    words = ", ".join(f"{token!r} ({hits[token]})" for token in named) or "no token more than once in two"
    return TokenSet(rates, shapes, base, f"fires on {words}" + (f"; on {' and '.join(likely)}" if likely else ""))


def _rates(on: Counter[str], off: Counter[str], prior: Callable[[str], float]) -> dict[str, float]:
    return {name: (on[name] + 2 * prior(name)) / (on[name] + off[name] + 2) for name in {*on, *off}}


def token_shape(token: str) -> str:
    """What kind of token it is, in words: by its characters, its case, and whether a space comes before it."""
    core = token.strip()
    if not core:
        return "line breaks" if "\n" in token else "spaces"
    start = "" if token[0].isspace() else "continuing "
    if any(character.isdigit() for character in core):
        return f"{start}digits"
    if all(unicodedata.category(character)[0] in "PS" for character in core):
        return "punctuation"
    if not core.isascii():
        return f"{start}non-ASCII words"
    if len(core) > 1 and core.isupper():
        return f"{start}capitals"
    return f"{start}capitalized words" if core[0].isupper() else f"{start}lower-case words"


@dataclass(frozen=True)
class PromotedTokens:
    """Fires where one of the tokens that it raises comes next (it says what follows, not what is there)."""

    raised: frozenset[str]
    text: str
    method: str = "promoted tokens"

    def predict(self, cases: Sequence[Case]) -> Sequence[float]:
        """1 where a raised token comes next, 0 elsewhere."""
        return [float(case.next_token is not None and _core(case.next_token) in self.raised) for case in cases]


def promoted_tokens(outputs: Outputs) -> PromotedTokens:
    """The tokens that the presence of the feature raises (:mod:`cutaway.features.outputs`), as a label."""
    if outputs.method != "direct" or not outputs.raised:
        raise NotTestable(f"A promoted-token label needs a direct effect on tokens; found {outputs.method!r}.")
    names = [effect.name for effect in outputs.raised]
    return PromotedTokens(frozenset(map(_core, names)), "raises " + ", ".join(repr(name) for name in names[:NAMED]))


def _core(token: str) -> str:
    return token.strip().lower()


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Fires where the input looks like one of its prototypes: the chance grows with the cosine to the nearest.

    The chance is one half at ``border``, and ``width`` is the step in cosine that changes the odds by e.
    """

    shown: Representation
    prototypes: Float[np.ndarray, "prototype axis"]
    centre: Float[np.ndarray, " axis"]
    border: float
    width: float
    text: str
    method: str

    def predict(self, cases: Sequence[Case]) -> Sequence[float]:
        """A logistic function of the cosine to the nearest prototype."""
        nearest = _nearest(self.shown.of([(c.row, c.place) for c in cases]), self.prototypes, self.centre)
        return [1 / (1 + math.exp(-max(-50.0, min(50.0, (each - self.border) / self.width)))) for each in nearest]


def example_clusters(found: FeatureModes, shown: Representation, cases: Cases) -> Prototypes:
    """Each mode of a feature's examples as a prototype; the border is set on ``cases`` to make labels from."""
    pairs = found.examples.pairs
    vectors = shown.of(pairs)
    prototypes = np.stack([vectors[list(mode.members)].mean(axis=0) for mode in found.modes])
    shares = ", ".join(f"{mode.share:.0%}" for mode in found.modes)
    kinds = "one kind" if found.count == 1 else f"{found.count} kinds"
    return prototype_label(prototypes, shown, cases, f"looks like {kinds} of example ({shares})", "example clusters")


def tuning_label(battery: Battery, label: UnitLabel, shown: Representation, cases: Cases) -> Prototypes:
    """The family of a vision unit with the drawings that excite it most as prototypes.

    ``shown`` must describe receptive fields (:func:`~cutaway.features.polysemanticity.input_space` of pictures).
    """
    found = [
        (float(sigma[label.unit, row]), kind, int(row))
        for kind, sigma in battery.sigma.items()
        for row in np.argsort(-sigma[label.unit])[:PROTOTYPES]
    ]
    best = sorted(found, reverse=True)[:PROTOTYPES]
    drawn = [battery.shown[kind].paint([row])[0].transpose(1, 2, 0).astype(float) for _, kind, row in best]
    kinds = ", ".join(dict.fromkeys(kind for _, kind, _ in best))
    text = f"{label.label} (margin {label.confidence:.2f}); best drawings: {kinds}"
    return prototype_label(np.stack([describe_picture(each) for each in drawn]), shown, cases, text, "tuning")


def prototype_label(
    prototypes: Float[np.ndarray, "prototype axis"], shown: Representation, cases: Cases, text: str, method: str
) -> Prototypes:
    """Prototypes with the border that separates the given cases best (balanced), and the spread of their cosines."""
    on, off = cases.fires, [*cases.silent, *cases.others]
    if not off:
        raise NotTestable("A label by prototypes needs cases at which the feature is silent; show more stimuli.")
    vectors = shown.of([(case.row, case.place) for case in [*on, *off]])
    centre = vectors.mean(axis=0)
    cosine = _nearest(vectors, prototypes, centre)
    fires = np.arange(len(cosine)) < len(on)
    steps = np.unique(cosine)
    borders = (steps[1:] + steps[:-1]) / 2 if len(steps) > 1 else steps
    accuracy = [(cosine[fires] > b).mean() + (cosine[~fires] <= b).mean() for b in borders]
    border = float(borders[int(np.argmax(accuracy))])
    return Prototypes(shown, prototypes, centre, border, max(float(cosine.std()), 1e-6) / 4, text, method)


def _nearest(vectors: np.ndarray, prototypes: np.ndarray, centre: np.ndarray) -> Float[np.ndarray, " case"]:
    sides = [rows - centre for rows in (vectors, prototypes)]
    units = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in sides]
    return (units[0] @ units[1].T).max(axis=1)
