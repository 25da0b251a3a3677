"""From stimuli to activity: one pass over the stimuli for all features of one site."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.errors import BadInput, UnknownName
from cutaway.features.activity import MOST_SAMPLES, Activity, ActivityBuilder
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import Address, Site
from cutaway.stimuli import Stimulus, StimulusSet, content_id

Progress = Callable[[int, int, str], None]
MAX_TOKENS = 64
"""Longer texts are cut to their first tokens."""
_MOST_VALUES = 32_000_000  # sampled values held at once: 256 MB


def silent(_done: int, _total: int, _what: str) -> None:
    """A progress listener that says nothing."""


def as_stimulus_set(stimuli: Any) -> StimulusSet:
    """A stimulus set, or a list of texts, pictures or tensors as one; :class:`BadInput` if there is nothing in it."""
    if not isinstance(stimuli, StimulusSet):
        items = [stimuli] if isinstance(stimuli, str) else list(stimuli)
        stimuli = StimulusSet("given", [_as_stimulus(item, row) for row, item in enumerate(items)])
    if len(stimuli) == 0:
        raise BadInput("A feature card needs stimuli, and the set is empty; give at least one text, picture or tensor.")
    return stimuli


def _as_stimulus(item: Any, row: int) -> Stimulus:
    if isinstance(item, Stimulus):
        return item
    if isinstance(item, str):
        return Stimulus(content_id(item), "text", f"text {row}", lambda: item)
    if isinstance(item, Tensor):
        content = item.detach().cpu().contiguous().numpy().tobytes()
        return Stimulus(content_id(content), "tensor", f"tensor {row}", lambda: item)
    return Stimulus(content_id(item.tobytes()), "image", f"picture {row}", lambda: item)


def check_address(network: Network, address: str | Address, bases: Iterable[str] = ()) -> Address:
    """The address if this network (and atlas, for ``bases``) has it; otherwise one sentence that says what it has."""
    checked = network.address(address)
    if checked.basis is not None:
        raise UnknownName("basis", checked.basis, bases, f"Without a basis: {checked.site}:{checked.unit}.")
    return checked


def prepared(network: Network, stimuli: Sequence[Stimulus], max_tokens: int = MAX_TOKENS) -> Batch:
    """The stimuli as a batch; of texts only the first ``max_tokens`` tokens."""
    batch = network.prepare(list(stimuli))
    if batch.mask is None or batch.mask.shape[1] <= max_tokens:
        return batch
    inputs = {key: value[:, :max_tokens] if value.ndim == 2 else value for key, value in batch.inputs.items()}
    return dataclasses.replace(batch, inputs=inputs, mask=batch.mask[:, :max_tokens])


def peers(site: Site, units: Sequence[int], count: int, seed: int) -> tuple[int, ...]:
    """At most ``count`` random other units of the site, against which ``units`` are compared."""
    width = site.width or 0
    others = np.setdiff1d(np.arange(width), np.asarray(units, dtype=int))
    drawn = np.random.default_rng([seed, site.depth]).permutation(others)[:count]
    return tuple(int(unit) for unit in np.sort(drawn))


def known_width(network: Network, site: Site, stimuli: StimulusSet) -> Site:
    """The site with its number of units, seen in a forward pass where the network does not name it."""
    if site.width is not None:
        return site
    first = next(stimuli.batches(1), None)
    if first is None:
        raise _nothing_usable(stimuli)
    with torch.no_grad():
        run = network.run(prepared(network, first), capture=[site.name], stop_at=True)
    return dataclasses.replace(site, width=int(run[site.name].shape[site.unit_axis]))


def collect(
    network: Network,
    site: Site,
    units: Sequence[int],
    stimuli: StimulusSet,
    *,
    batch_size: int = 8,
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
    progress: Progress = silent,
) -> Activity:
    """What ``units`` of ``site`` do on every stimulus; each forward pass stops at the site.

    Stimuli that turn out unusable are left out and entered in ``stimuli.skipped``.
    """
    wanted = tuple(dict.fromkeys(units))
    samples = max(16, min(MOST_SAMPLES, _MOST_VALUES // (len(stimuli) * len(wanted))))
    builder = ActivityBuilder(site, wanted, samples, seed)
    done = 0
    for group in stimuli.batches(batch_size):
        batch = prepared(network, group, max_tokens)
        run = network.run(batch, capture=[site.name], stop_at=True)
        builder.add(group, batch, run[site.name])
        done += len(group)
        progress(done, len(stimuli), f"showing stimuli to {site.name}")
    if done == 0:
        raise _nothing_usable(stimuli)
    return builder.done()


def _nothing_usable(stimuli: StimulusSet) -> BadInput:
    reason = f"; the first: {stimuli.skipped[0].reason}" if stimuli.skipped else ""
    return BadInput(f"None of the {len(stimuli)} stimuli of {stimuli.name} can be used{reason}")
