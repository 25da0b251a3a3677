"""Rows straight from a network: nothing is stored, every epoch runs the stimuli again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from cutaway.bases.activations.order import shuffled
from cutaway.bases.activations.passes import Passes, Reading
from cutaway.bases.activations.source import Rows
from cutaway.errors import BadInput
from cutaway.networks.network import Network


class StreamSource:
    """The rows that :func:`~cutaway.bases.activations.shards.cache` would store, as a
    :class:`~cutaway.bases.activations.source.Source` without a folder.

    The options are those of ``cache``; ``together`` forward passes are mixed at a time. Going on at a batch runs no
    pass before it. Pictures of several sizes need ``per_image``, because the rows of a pass must be known before
    it is run.
    """

    def __init__(
        self,
        network: Network,
        stimuli: Any,
        reads: str,
        writes: str | None = None,
        *,
        window: int | None = 128,
        skip: int = 0,
        per_image: int | None = None,
        batch: int = 8,
        together: int = 16,
        seed: int = 0,
    ) -> None:
        if together < 1:
            raise BadInput(f"{together} passes were to be mixed at a time; mix at least 1.")
        self.together = together
        self.passes = Passes(network, stimuli, Reading(reads, writes or reads, window, skip, per_image, batch, seed))

    @cached_property
    def _widths(self) -> tuple[int, int]:
        reading, network = self.passes.reading, self.passes.network
        read, written = network.site(reading.reads), network.site(reading.writes)
        if read.width is not None and written.width is not None and not (read.heads or written.heads):
            return read.width, written.width
        x, y = self.passes.run(0)
        return x.shape[1], y.shape[1]

    @property
    def d_in(self) -> int:
        """Width of what is read."""
        return self._widths[0]

    @property
    def d_out(self) -> int:
        """Width of what is written."""
        return self._widths[1]

    @cached_property
    def counts(self) -> list[int]:
        """The rows of each pass."""
        return [self.passes.rows(number) for number in range(len(self.passes))]

    @property
    def count(self) -> int:
        """Rows in one epoch."""
        return sum(self.counts)

    @property
    def fingerprint(self) -> str:
        """A hash of the network, the stimuli and the options (64 hex digits)."""
        return self.passes.fingerprint

    def batches(self, size: int, *, seed: int = 0, start: int = 0) -> Iterator[Rows]:
        """Float32 batches without end; what is left at the end of an epoch and fills no batch is left out."""
        return shuffled(self.counts, self._rows, size, together=self.together, seed=seed, start=start)

    def _rows(self, number: int) -> Rows:
        rows = self.passes.run(number)
        if len(rows[0]) != self.counts[number]:
            raise BadInput(
                f"Pass {number} gave {len(rows[0])} rows where {self.counts[number]} were foreseen; give stimuli that "
                "can all be loaded and are of one size, or per_image=, or cache the activations first."
            )
        return rows
