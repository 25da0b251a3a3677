"""What was found about every head of a network."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from cutaway.evidence.measurement import Measurement


@dataclass(frozen=True)
class HeadScores:
    """One head's scores; None where a detector does not apply to the network.

    Attention scores are mean probabilities in [0, 1]; ``copying`` lies in [-1, 1]; ``successor`` and ``positional`` are
    shares in [0, 1]; ``subword_merge`` is a difference of mean probabilities. ``docs/heads.md`` defines each.
    """

    layer: int
    head: int
    induction: Measurement | None = None
    previous_token: Measurement | None = None
    next_token: Measurement | None = None
    duplicate_token: Measurement | None = None
    copying: Measurement | None = None
    successor: Measurement | None = None
    bos_sink: Measurement | None = None
    positional: Measurement | None = None
    subword_merge: Measurement | None = None

    @property
    def name(self) -> str:
        """``18.6``: layer and head."""
        return f"{self.layer}.{self.head}"

    def score(self, detector: str) -> Measurement | None:
        """One detector's measurement."""
        return getattr(self, detector)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; what does not apply is null."""
        scores = {name: self.score(name) for name in DETECTORS}
        return {"layer": self.layer, "head": self.head} | {
            name: None if found is None else found.to_json() for name, found in scores.items()
        }


DETECTORS: tuple[str, ...] = tuple(field.name for field in fields(HeadScores) if field.name not in ("layer", "head"))

UNRELATED = "the same tokens behind other ones; sequences change sign together, p corrected over heads (max-T)"
TWIN = "the heads of untrained twins; p is the share that reach as much"
NULLS: dict[str, str] = {
    "induction": UNRELATED,
    "previous_token": TWIN,
    "next_token": TWIN,
    "duplicate_token": UNRELATED,
    "copying": "value maps joined with output maps of other heads",
    "successor": "orders shuffled, p corrected over heads (max-T)",
    "bos_sink": TWIN,
    "positional": TWIN,
    "subword_merge": "labels of tokens shuffled within texts, p corrected over heads (max-T)",
}


@dataclass(frozen=True)
class HeadReport:
    """All heads in order, and how they were measured: ``sequences`` of [start, r, r] with ``length`` = |r|."""

    network: str
    heads: tuple[HeadScores, ...]
    sequences: int
    length: int
    start: int
    seed: int

    def strongest(self, detector: str, count: int = 5) -> list[HeadScores]:
        """Heads by one detector's value, the highest first; empty where it does not apply."""
        scored = [(found.value, head) for head in self.heads if (found := head.score(detector)) is not None]
        return [head for _, head in sorted(scored, key=lambda each: -each[0])[:count]]

    def to_json(self) -> dict[str, Any]:
        """Settings, the null of each detector, and all heads."""
        return {
            "sequences": self.sequences,
            "length": self.length,
            "start_token": self.start,
            "nulls": NULLS,
            "heads": [head.to_json() for head in self.heads],
        }
