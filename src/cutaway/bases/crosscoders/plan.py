"""What a coder of several places is made of, as plain values: what it reads, what it writes, how it selects."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from cutaway.errors import BadInput

CROSSCODER, CROSS_LAYER = "crosscoder", "cross-layer-transcoder"
L1, TOPK, BATCHTOPK, JUMPRELU = "l1", "topk", "batchtopk", "jumprelu"
SELECTIONS = (L1, TOPK, BATCHTOPK, JUMPRELU)
MOST_PLACES, MOST_LATENTS, MOST_UNITS = 1024, 2**26, 2**24


@dataclass(frozen=True)
class Plan:
    """Sizes and selection of a coder.

    Attributes:
        form: ``crosscoder`` (one place reads everything and writes every block) or ``cross-layer-transcoder`` (place l
            reads layer l and writes the blocks l, l + 1, ...).
        blocks: names of what is written: networks or layers.
        reads: width of what each place reads.
        writes: width of each written block.
        latents: number of latents of each place.
        selection: ``l1``, ``topk`` (k of a row), ``batchtopk`` (n k of n rows), ``jumprelu`` (a threshold each).
        k: active latents of a row, for the two that count them; a mean, and no whole number, for ``batchtopk`` only.
    """

    form: str
    blocks: tuple[str, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    latents: int
    selection: str = BATCHTOPK
    k: float | int | None = None

    def __post_init__(self) -> None:
        _check_names(self)
        _check_sizes(self)
        counted = self.selection in (TOPK, BATCHTOPK)
        wrong = self.k is not None and not (
            0 < self.k <= self.width and (self.selection != TOPK or self.k == int(self.k))
        )
        if counted != (self.k is not None) or wrong:
            wanted = f"a k up to {self.width}, whole for topk" if counted else "no k"
            raise BadInput(f"The selection {self.selection!r} takes {wanted}, found k = {self.k}.")

    @property
    def places(self) -> int:
        """Number of places that latents are read at."""
        return len(self.reads)

    @property
    def width(self) -> int:
        """Number of latents of all places."""
        return self.places * self.latents

    def first(self, place: int) -> int:
        """The first block that a place writes."""
        return place if self.form == CROSS_LAYER else 0

    def columns(self, block: int) -> slice:
        """Where a block lies in joined rows of what is written."""
        ends = (0, *accumulate(self.writes))
        return slice(ends[block], ends[block + 1])

    def written(self, place: int) -> slice:
        """The columns that a place writes: its first block's and all after it."""
        return slice(self.columns(self.first(place)).start, sum(self.writes))

    def block(self, name: str) -> int:
        """Number of a block; raises ``BadInput`` for a name that is not there."""
        if name not in self.blocks:
            raise BadInput(f"There is no block {name!r} in this {self.form}; it has {', '.join(self.blocks)}.")
        return self.blocks.index(name)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "blocks": list(self.blocks), "reads": list(self.reads), "writes": list(self.writes)}


def _check_names(plan: Plan) -> None:
    if plan.form not in (CROSSCODER, CROSS_LAYER):
        raise BadInput(f"There is no form {plan.form!r}; take {CROSSCODER} or {CROSS_LAYER}.")
    if plan.selection not in SELECTIONS:
        raise BadInput(f"There is no selection {plan.selection!r}; take one of {', '.join(SELECTIONS)}.")
    if len(set(plan.blocks)) != len(plan.blocks) or not 2 <= len(plan.blocks) <= MOST_PLACES:
        raise BadInput(f"A {plan.form} needs two or more blocks of different names, found {list(plan.blocks)}.")


def _check_sizes(plan: Plan) -> None:
    places = len(plan.blocks) if plan.form == CROSS_LAYER else 1
    if len(plan.writes) != len(plan.blocks) or len(plan.reads) != places:
        raise BadInput(
            f"A {plan.form} of {len(plan.blocks)} blocks reads {places} widths and writes {len(plan.blocks)}, "
            f"found {list(plan.reads)} and {list(plan.writes)}."
        )
    if plan.form == CROSSCODER and plan.reads[0] != sum(plan.writes):
        raise BadInput(f"A crosscoder reads what it writes, found {plan.reads[0]} and {sum(plan.writes)} units.")
    if not all(1 <= size <= MOST_UNITS for size in (*plan.reads, *plan.writes)):
        raise BadInput(f"Widths of {list(plan.reads)} and {list(plan.writes)} were asked for; each must be positive.")
    if not 1 <= plan.latents <= MOST_LATENTS:
        raise BadInput(f"{plan.latents} latents were asked for; take 1 to {MOST_LATENTS}.")
