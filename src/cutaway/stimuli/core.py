"""Stimuli and sets of stimuli: inputs for a network, with a stable identity, loaded only when needed."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cutaway.errors import BadInput

Kind = Literal["image", "text", "tensor"]
ID_DIGITS = 16
_BLOCK = 1 << 20


def content_id(content: bytes | str) -> str:
    """The identity of a piece of content: the first 16 hex digits of its SHA-256 (text as UTF-8)."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()[:ID_DIGITS]


def file_id(path: Path) -> str:
    """:func:`content_id` of a file's bytes, read in blocks; a file that cannot be read raises ``OSError``."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()[:ID_DIGITS]


@dataclass(frozen=True)
class Stimulus:
    """One input that can be shown to a network.

    ``id`` depends on the content only; ``source`` tells a reader where it comes from; ``group`` names the
    origin that several stimuli share (crops of one photograph, passages of one file), because such stimuli
    are not independent. ``load`` gives a ``str``, an RGB ``PIL.Image.Image`` or a ``torch.Tensor`` according
    to ``kind``, reads anew at every call, and raises :class:`~cutaway.errors.BadInput` where the content
    cannot be used.
    """

    id: str
    kind: Kind
    source: str
    load: Callable[[], Any] = field(compare=False, repr=False)
    group: str = ""

    def loaded(self) -> "Stimulus":
        """The same stimulus with its content in memory: loading it again costs nothing and cannot fail."""
        content = self.load()
        return replace(self, load=lambda: content)


@dataclass(frozen=True)
class Skipped:
    """Something that was offered and could not be used, and why."""

    source: str
    reason: str


class StimulusSet(Sequence[Stimulus]):
    """Stimuli in a fixed order under one name.

    A second stimulus with the same content is skipped: an id names one input. ``len`` and ``fingerprint``
    describe the set as it was built; what turns out unusable on loading is left out of :meth:`batches` and
    entered once in ``skipped``.
    """

    def __init__(self, name: str, stimuli: Iterable[Stimulus], *, skipped: Iterable[Skipped] = ()) -> None:
        self.name = name
        self.skipped: list[Skipped] = list(skipped)
        unique: dict[str, Stimulus] = {}
        for stimulus in stimuli:
            twin = unique.setdefault(stimulus.id, stimulus)
            if twin is not stimulus:
                self.skipped.append(Skipped(stimulus.source, f"the same content as {twin.source}"))
        self._stimuli = tuple(unique.values())
        self._failed: set[str] = set()
        self.fingerprint = hashlib.sha256("\n".join(unique).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._stimuli)

    def __iter__(self) -> Iterator[Stimulus]:
        return iter(self._stimuli)

    def __getitem__(self, index: Any) -> Any:
        return self._stimuli[index]

    def __repr__(self) -> str:
        return f"StimulusSet({self.name!r}, {len(self)} stimuli, {len(self.skipped)} skipped)"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids in order."""
        return tuple(stimulus.id for stimulus in self._stimuli)

    def batches(self, size: int) -> Iterator[list[Stimulus]]:
        """Lists of ``size`` loaded stimuli (the last may be shorter); only one list is held in memory."""
        if size < 1:
            raise BadInput(f"A batch of {size} stimuli was asked for; give a size of at least 1.")
        batch: list[Stimulus] = []
        for stimulus in self._stimuli:
            usable = self._loaded(stimulus)
            if usable is not None:
                batch.append(usable)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def take(self, n: int, *, seed: int = 0) -> "StimulusSet":
        """At most ``n`` stimuli drawn without replacement, in this set's order."""
        if n < 1:
            raise BadInput(f"A sample of {n} stimuli was asked for; ask for at least 1.")
        if n >= len(self):
            return self
        chosen = np.random.default_rng(seed).choice(len(self), size=n, replace=False)
        return self._subset(f"{self.name}[{n} of {len(self)}, seed {seed}]", set(chosen.tolist()))

    def split(self, share: float, *, seed: int = 0) -> tuple["StimulusSet", "StimulusSet"]:
        """Two disjoint sets; the first gets ``share`` (between 0 and 1) of the groups; neither is empty.

        Stimuli of one ``group`` stay together, so that the second set is held out in the sense that matters:
        no photograph or document is in both. A stimulus without a group is its own.
        """
        groups = list(dict.fromkeys(stimulus.group or stimulus.id for stimulus in self._stimuli))
        if not 0 < share < 1 or len(groups) < 2:
            raise BadInput(
                f"A split of {share} was asked for in a set of {len(groups)} groups; "
                "give a share between 0 and 1 and at least two groups."
            )
        order = np.random.default_rng(seed).permutation(len(groups))
        first_count = min(max(math.floor(share * len(groups) + 0.5), 1), len(groups) - 1)
        first_groups = {groups[index] for index in order[:first_count]}
        first = {i for i, s in enumerate(self._stimuli) if (s.group or s.id) in first_groups}
        rest = set(range(len(self))) - first
        label = f"split {share:g}, seed {seed}"
        return self._subset(f"{self.name}[{label}]", first), self._subset(f"{self.name}[rest of {label}]", rest)

    def _subset(self, name: str, indices: set[int]) -> "StimulusSet":
        return StimulusSet(name, [s for i, s in enumerate(self._stimuli) if i in indices])

    def _loaded(self, stimulus: Stimulus) -> Stimulus | None:
        try:
            return stimulus.loaded()
        except BadInput as error:
            if stimulus.id not in self._failed:
                self._failed.add(stimulus.id)
                self.skipped.append(Skipped(stimulus.source, str(error)))
            return None
