"""Which rows are wanted, and the numbered forward passes that give them.

Every pass can be run by itself and gives the same rows again, which is what resuming and shuffling rest on. The
passes are dealt in an order drawn from the seed: a few neighbouring passes are a sample of all stimuli, not of one
document.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.bases.activations.source import Rows
from cutaway.bases.rows import real_rows, to_rows
from cutaway.errors import BadInput
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import Site
from cutaway.observe.plan import describe
from cutaway.stimuli import Stimulus, StimulusSet, content_id

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """Which rows are taken: what a basis reads at ``reads`` and what it is to write at ``writes``.

    ``window`` packs texts into windows of so many tokens (language models only; None: each text by itself), and the
    first ``skip`` positions of each text or window are left out: attention sinks have activations of their own kind.
    ``per_image`` takes so many positions of each picture, drawn by ``seed``, instead of all. ``batch`` counts the
    windows, texts or pictures of one pass.
    """

    reads: str
    writes: str
    window: int | None = 128
    skip: int = 0
    per_image: int | None = None
    batch: int = 8
    seed: int = 0

    def checked(self, network: Network) -> Reading:
        """The same, if ``network`` has such rows; ``BadInput`` says what does not fit."""
        for name in (self.reads, self.writes):
            network.site(name)
        counts = {"window": self.window, "per_image": self.per_image, "batch": self.batch}
        small = [f"{name}={value}" for name, value in counts.items() if value is not None and value < 1]
        if small or self.skip < 0 or (self.window is not None and self.skip >= self.window):
            found = ", ".join(small) or f"skip={self.skip} of window={self.window}"
            raise BadInput(f"Activations with {found} were asked for; give counts of at least 1 and skip fewer.")
        return self


def as_stimuli(stimuli: Any) -> StimulusSet:
    """A set of stimuli from one, or from a sequence of texts, pictures or tensors; each content counts once."""
    if isinstance(stimuli, StimulusSet):
        return stimuli
    items = [stimuli] if isinstance(stimuli, str) else list(stimuli)
    return StimulusSet("given", [each if isinstance(each, Stimulus) else _stimulus(each) for each in items])


def _stimulus(item: Any) -> Stimulus:
    if isinstance(item, str):
        return Stimulus(content_id(item), "text", "given", partial(str, item))
    if isinstance(item, Tensor):
        data = item.detach().cpu().contiguous()
        name = content_id(repr((data.dtype, tuple(data.shape))).encode() + data.view(-1).view(torch.uint8).numpy().data)
        return Stimulus(name, "tensor", "given", lambda: item)
    if hasattr(item, "tobytes") and hasattr(item, "convert"):
        return Stimulus(content_id(repr(item.size).encode() + item.tobytes()), "image", "given", lambda: item)
    raise BadInput(f"A stimulus of type {type(item).__name__} was given; give texts, pictures or tensors.")


class Passes:
    """The forward passes of one :class:`Reading`; ``skipped`` counts the stimuli that could not be used."""

    def __init__(self, network: Network, stimuli: Any, reading: Reading) -> None:
        self.network, self.reading = network, reading.checked(network)
        self.stimuli = as_stimuli(stimuli)
        self.skipped: set[str] = set()
        self.windows = _windows(network, self._texts(), reading) if self._packs() else None
        self.count = len(self.stimuli) if self.windows is None else len(self.windows)
        if not self.count:
            raise BadInput(f"No stimuli were given to {network.name}; give at least one.")
        self.order = np.random.default_rng(reading.seed).permutation(self.count)
        self._each: int | None = None  # rows of one picture, once it has been measured

    def __len__(self) -> int:
        return -(-self.count // self.reading.batch)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the rows, as plain values."""
        return {
            "network": self.network.name,
            "network_fingerprint": self.network.fingerprint,
            "stimuli_fingerprint": self.stimuli.fingerprint,
            "shown_as": self._shown_as(),
            **asdict(self.reading),
        }

    def _shown_as(self) -> str:
        """What lies between a stimulus and the network: the tokens themselves, or the preprocessing."""
        if self.windows is None:
            return describe(self.network.preprocess)
        return f"{self.windows.shape} tokens {hashlib.sha256(self.windows.tobytes()).hexdigest()[:16]}"

    @property
    def fingerprint(self) -> str:
        """A hash of :attr:`settings` (64 hex digits)."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    def members(self, number: int) -> np.ndarray:
        """Which windows or stimuli pass ``number`` shows."""
        return self.order[number * self.reading.batch : (number + 1) * self.reading.batch]

    def rows(self, number: int) -> int:
        """How many rows pass ``number`` will give, without running it.

        Known for windows, texts and ``per_image``; else every stimulus is taken to be as large as the first.
        """
        members = self.members(number)
        if self.windows is not None:
            return len(members) * (self.windows.shape[1] - self.reading.skip)
        if self.network.modality == "text":
            masks = [batch.mask for batch in self._batches(members) if batch.mask is not None]
            return sum(int((mask.sum(1) - self.reading.skip).clamp(min=0).sum()) for mask in masks)
        if self.reading.per_image is not None:
            return len(members) * self.reading.per_image
        if self._each is None:
            self._each = len(self._take(members[:1])[0])
        return len(members) * self._each

    def run(self, number: int) -> Rows:
        """The rows of pass ``number`` as float32 on the processor; the second is the first where one site is both."""
        return self._take(self.members(number))

    def _take(self, members: np.ndarray) -> Rows:
        taken = [take(self.network, batch, self.reading) for batch in self._batches(members)]
        if not taken:
            sites = (self.network.site(self.reading.reads), self.network.site(self.reading.writes))
            empty = [torch.empty(0, site.width or 0) for site in sites]
            return empty[0], empty[0] if self.reading.reads == self.reading.writes else empty[1]
        x = torch.cat([each[0] for each in taken])
        return x, x if self.reading.reads == self.reading.writes else torch.cat([each[1] for each in taken])

    def _packs(self) -> bool:
        network = self.network
        texts = network.modality == "text" and network.tokenizer is not None
        texts = texts and all(each.kind == "text" for each in self.stimuli)
        return texts and network.task == "causal-lm" and self.reading.window is not None

    def _texts(self) -> list[str]:
        return [text for each in self.stimuli if (text := self._load(each)) is not None]

    def _batches(self, members: np.ndarray) -> list[Batch]:
        if self.windows is not None:
            tokens = torch.from_numpy(self.windows[np.sort(members)].astype(np.int64))
            return [self.network.prepare(tokens)]
        chosen = [self.stimuli[int(place)] for place in np.sort(members)]
        loaded = [(each.id, content) for each in chosen if (content := self._load(each)) is not None]
        if not loaded:
            return []
        try:
            return [self.network.prepare([content for _, content in loaded], [name for name, _ in loaded])]
        except BadInput:
            alone = [self._alone(name, content) for name, content in loaded]
            return [batch for batch in alone if batch is not None]

    def _load(self, stimulus: Stimulus) -> Any:
        try:
            return stimulus.load()
        except BadInput as error:
            return self._skip(stimulus.id, error)

    def _alone(self, name: str, content: Any) -> Batch | None:
        try:
            return self.network.prepare([content], [name])
        except BadInput as error:
            return self._skip(name, error)

    def _skip(self, name: str, error: BadInput) -> None:
        if name not in self.skipped:
            _log.warning("Stimulus %s was skipped: %s", name, error)
            self.skipped.add(name)


def take(network: Network, batch: Batch, reading: Reading) -> Rows:
    """One pass up to the deeper of the two sites; padding and whatever is not wanted is left out."""
    read, written = network.site(reading.reads), network.site(reading.writes)
    run = network.run(batch, capture=[read.name, written.name], stop_at=True)
    x = to_rows(run[read.name], read)
    keep = _kept(len(x) // len(batch), run[read.name], read, batch, reading).flatten()
    if read == written:
        x = _finite(x, keep, read)
        return x, x
    y = to_rows(run[written.name], written)
    if len(y) != len(x):
        raise BadInput(
            f"{read.name} gives {len(x)} rows and {written.name} {len(y)} for the same stimuli; "
            "choose two sites with the same positions."
        )
    return _finite(x, keep, read), _finite(y, keep, written)


def _finite(rows: Tensor, keep: Tensor, site: Site) -> Tensor:
    """The wanted rows, in memory of their own."""
    rows = rows.detach()[keep].float().cpu()
    if bool(torch.isfinite(rows.sum())) or bool(torch.isfinite(rows).all()):
        return rows
    unit = int((~torch.isfinite(rows)).nonzero()[0, 1])
    raise BadInput(
        f"Unit {unit} of {site.name} is NaN or infinite on some stimulus; check the network's weights and "
        "preprocessing before its activations are stored."
    )


def _kept(positions: int, value: Tensor, site: Site, batch: Batch, reading: Reading) -> Tensor:
    """Which rows are wanted, [stimulus position]."""
    real = real_rows(batch.mask, value, site)
    keep = torch.ones(len(batch), positions, dtype=torch.bool, device=value.device)
    keep = keep if real is None else real.view(len(batch), positions)
    if reading.skip and positions > 1:
        if site.spatial:
            raise BadInput(f"Positions of {site.name} were to be skipped, which is a map; use per_image= there.")
        keep = keep & (keep.cumsum(1) > reading.skip)
    return keep if reading.per_image is None else _sampled(keep, batch.ids, site, reading)


def _sampled(keep: Tensor, ids: Sequence[str], site: Site, reading: Reading) -> Tensor:
    """So many of the wanted positions of each stimulus; what is drawn depends on the seed and the stimulus only."""
    chosen = torch.zeros_like(keep)
    for row, name in enumerate(ids):
        places = keep[row].nonzero().flatten().cpu().numpy()
        if len(places) < (reading.per_image or 0):
            raise BadInput(
                f"{reading.per_image} positions of {site.name} were asked for and stimulus {name} has {len(places)}; "
                "ask for fewer."
            )
        digest = hashlib.sha256(f"{reading.seed}|{name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        chosen[row, torch.from_numpy(rng.choice(places, reading.per_image, replace=False)).to(keep.device)] = True
    return chosen


def _windows(network: Network, texts: list[str], reading: Reading) -> np.ndarray:
    """The texts one behind the other, a separator between them, cut into windows: int32 [window token].

    A window begins with the token that this tokenizer begins texts with, if it does. What is left at the end and
    fills no window is left out, unless there is no other.
    """
    window = reading.window or 1
    longest = getattr(getattr(network.module, "config", None), "max_position_embeddings", None) or window
    if window > longest:
        raise BadInput(f"Windows of {window} tokens were asked for; {network.name} takes at most {longest}.")
    begin, separator = _special(network, texts)
    encode = partial(network.tokenizer.encode, add_special_tokens=False)
    tokens = np.concatenate([np.array([*encode(each), *separator], np.int32) for each in texts])
    room = min(window - len(begin), len(tokens))
    if room < 1 or room + len(begin) <= reading.skip:
        raise BadInput(
            f"{len(tokens)} tokens were given for windows of {window}, {reading.skip} of each skipped; "
            "give more text or longer windows."
        )
    cut = tokens[: len(tokens) // room * room].reshape(-1, room)
    return np.concatenate([np.tile(np.array(begin, np.int32), (len(cut), 1)), cut], 1).astype(np.int32)


def _special(network: Network, texts: list[str]) -> tuple[list[int], list[int]]:
    """The token that texts begin with, if this tokenizer sets one, and the one that ends them."""
    if not texts:
        raise BadInput(f"No text that can be used was given to {network.name}; give at least one.")
    tokenizer = network.tokenizer
    begin, end = getattr(tokenizer, "bos_token_id", None), getattr(tokenizer, "eos_token_id", None)
    leads = begin is not None and list(tokenizer.encode(texts[0]))[:1] == [begin]
    return [int(begin)] if begin is not None and leads else [], [] if end is None else [int(end)]
