"""The feature card: everything measured about one feature, as one frozen value that can be read three ways."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cutaway.evidence.measurement import Measurement
from cutaway.features.portrait import Portrait, Preference

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Levels of activation in the order in which a card shows them.
TOP, NEGATIVE = "top", "negative"
INTERVALS = (("75-100 %", 0.75, 1.0), ("50-75 %", 0.5, 0.75), ("25-50 %", 0.25, 0.5), ("0-25 %", 0.0, 0.25))
LEVELS = (TOP, *(name for name, _, _ in INTERVALS), NEGATIVE)


@dataclass(frozen=True)
class Example:
    """One stimulus, at the position where the feature has ``value``.

    ``position`` is the index along the site's axes (``(y, x)``, ``(pos,)`` or nothing). Pictures have ``crop``: a
    PNG of what the feature can see from there. Texts have ``tokens`` around the position, the feature's
    ``activations`` on them, and ``highlight``, the index of the token at the position.
    """

    stimulus: str
    source: str
    value: float
    level: str
    position: tuple[int, ...] = ()
    crop: bytes | None = None
    tokens: tuple[str, ...] = ()
    activations: tuple[float, ...] = ()
    highlight: int | None = None

    @property
    def data_uri(self) -> str:
        """The crop as a ``data:`` URI; empty without a crop."""
        return "" if self.crop is None else "data:image/png;base64," + base64.b64encode(self.crop).decode()

    def to_json(self, *, pictures: bool = False) -> dict[str, Any]:
        """Plain values; the crop, as a ``data:`` URI, only if ``pictures`` are asked for."""
        return {
            "stimulus": self.stimulus,
            "source": self.source,
            "value": _number(self.value),
            "level": self.level,
            "position": list(self.position),
            "tokens": list(self.tokens),
            "activations": [_number(value) for value in self.activations],
            "highlight": self.highlight,
            **({"crop": self.data_uri} if pictures and self.crop is not None else {}),
        }


@dataclass(frozen=True)
class Distribution:
    """The feature's activations over ``samples`` positions (a uniform sample where there are very many).

    ``counts`` belong to the bins between ``edges``; ``quantiles`` maps shares in [0, 1] to activations.
    """

    counts: tuple[int, ...]
    edges: tuple[float, ...]
    quantiles: tuple[tuple[float, float], ...]
    mean: float
    std: float
    samples: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "counts": list(self.counts),
            "edges": [_number(edge) for edge in self.edges],
            "quantiles": {f"{share:g}": _number(value) for share, value in self.quantiles},
            "mean": _number(self.mean),
            "std": _number(self.std),
            "samples": self.samples,
        }


@dataclass(frozen=True)
class Effect:
    """One thing that the feature changes or is connected to, and by how much; ``norm`` where a weight is a kernel."""

    name: str
    value: float
    norm: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        norm = {} if self.norm is None else {"norm": _number(self.norm)}
        return {"name": self.name, "value": _number(self.value), **norm}


@dataclass(frozen=True)
class Outputs:
    """What the feature does downstream.

    ``method`` is ``direct`` (weights to the output, other paths left out), ``exact`` (a linear readout, nothing left
    out), ``ablation`` (measured by setting the feature to its mean) or ``none``, with ``reason``. ``raised`` and
    ``lowered`` are outputs that the *presence* of the feature raises and lowers, in ``unit``.
    """

    method: str
    summary: str
    unit: str = ""
    raised: tuple[Effect, ...] = ()
    lowered: tuple[Effect, ...] = ()
    measures: tuple[tuple[str, Measurement], ...] = ()
    null: str = ""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values; measurements as objects with their fixed fields."""
        return {
            "method": self.method,
            "summary": self.summary,
            "unit": self.unit,
            "raised": [effect.to_json() for effect in self.raised],
            "lowered": [effect.to_json() for effect in self.lowered],
            "measures": {name: measurement.to_json() for name, measurement in self.measures},
            "null": self.null,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class WeightTable:
    """The strongest of one kind of weight, the largest magnitude first; without rows, ``reason`` says why."""

    title: str
    rows: tuple[Effect, ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"title": self.title, "rows": [row.to_json() for row in self.rows], "reason": self.reason}


@dataclass(frozen=True)
class Weights:
    """Strongest input and output weights of the feature, table by table."""

    inputs: tuple[WeightTable, ...] = ()
    outputs: tuple[WeightTable, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"inputs": [t.to_json() for t in self.inputs], "outputs": [t.to_json() for t in self.outputs]}


@dataclass(frozen=True)
class Polysemanticity:
    """Whether the feature's examples fall into separate kinds, judged in a representation of the input.

    ``separation`` is the best balanced silhouette over 2 to 4 clusters (0 one cloud, 1 tight and far apart);
    its null is one cloud of the same shape, and ``modes`` is 1 unless that p is at most 0.05. ``among_units`` is the
    same number against the examples of random other units of the site (None at sites with few units): how unusual it
    is. ``representation`` says in which description of the input all this was measured.
    """

    separation: Measurement
    modes: int
    shares: tuple[float, ...] = (1.0,)
    representation: str = ""
    among_units: Measurement | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "separation": self.separation.to_json(),
            "modes": self.modes,
            "shares": [_number(share) for share in self.shares],
            "representation": self.representation,
            "among_units": self.among_units and self.among_units.to_json(),
        }


@dataclass(frozen=True)
class FeatureCard:
    """Everything measured about one feature of one network on one set of stimuli.

    ``docs/feature-card.md`` says what every number means, its unit and its null. ``portrait`` (a picture made for the
    feature) and ``tuning`` are None unless asked for, ``polysemanticity`` where there are too few examples.
    """

    address: str
    network: str
    fingerprint: str
    site_kind: str
    site_layout: str
    stimuli: tuple[str, str, int]  # name, fingerprint, how many were shown
    seed: int
    examples: tuple[Example, ...]
    firing_rate: Measurement
    firing_threshold: float
    distribution: Distribution
    outputs: Outputs
    weights: Weights
    polysemanticity: Polysemanticity | None
    portrait: Portrait | None = None
    tuning: Preference | None = None
    receptive_field: tuple[int, int] | None = None  # rows and columns of the input that the feature can see
    notes: tuple[str, ...] = ()
    reproduce: str = ""

    @property
    def visualization(self) -> bytes | None:
        """The picture made for the feature as PNG; None unless it was asked for."""
        return None if self.portrait is None else self.portrait.png

    @property
    def groups(self) -> list[tuple[str, list[Example]]]:
        """The examples by level, in the order of :data:`LEVELS`; levels without an example are left out."""
        grouped = [(level, [e for e in self.examples if e.level == level]) for level in LEVELS]
        return [(level, found) for level, found in grouped if found]

    @property
    def dead(self) -> bool:
        """True if the feature had one and the same value, everywhere, on everything that was shown."""
        return self.distribution.edges[0] == self.distribution.edges[-1]

    def to_json(self, *, pictures: bool = False) -> dict[str, Any]:
        """The whole card as JSON values; ``pictures`` adds crops as ``data:`` URIs."""
        name, fingerprint, count = self.stimuli
        return {
            "address": self.address,
            "network": {"name": self.network, "fingerprint": self.fingerprint},
            "site": {"kind": self.site_kind, "layout": self.site_layout},
            "stimuli": {"name": name, "fingerprint": fingerprint, "count": count},
            "seed": self.seed,
            "firing_rate": self.firing_rate.to_json(),
            "firing_threshold": _number(self.firing_threshold),
            "distribution": self.distribution.to_json(),
            "outputs": self.outputs.to_json(),
            "weights": self.weights.to_json(),
            "polysemanticity": self.polysemanticity and self.polysemanticity.to_json(),
            "visualization": self.portrait and self.portrait.to_json(),
            "tuning": self.tuning and self.tuning.to_json(),
            "receptive_field": self.receptive_field and list(self.receptive_field),
            "examples": [example.to_json(pictures=pictures) for example in self.examples],
            "notes": list(self.notes),
            "reproduce": self.reproduce,
        }

    def to_html(self) -> str:
        """A self-contained HTML fragment: its own styles, pictures inside, no scripts, all text escaped."""
        from cutaway.features.html import fragment

        return fragment(self)

    def page(self) -> str:
        """A whole HTML document around :meth:`to_html`."""
        from cutaway.features.html import page

        return page([self])

    def __rich__(self) -> RenderableType:
        from cutaway.features.terminal import render

        return render(self)


def page_of(cards: Sequence[FeatureCard]) -> str:
    """One HTML document that shows several cards, one below the other."""
    from cutaway.features.html import page

    return page(cards)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
