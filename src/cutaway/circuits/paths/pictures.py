"""Natural inputs for what is measured on a circuit: batches of stimuli, and crops of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.networks.network import Batch, Network
from cutaway.stimuli import StimulusSet, builtin_photographs

BATCH = 8


def natural(network: Network, stimuli: Any, *, count: int, seed: int) -> Iterator[Batch]:
    """Batches of at most ``count`` stimuli: a set or list of pictures, a tensor, or None for built-in photographs.

    A network without preprocessing is shown photographs as RGB in 0..1. Raises ``BadInput`` if nothing is given.
    """
    if isinstance(stimuli, Tensor):
        if len(stimuli) == 0:
            raise BadInput("No stimuli were given; give at least one.")
        yield from (network.prepare(each) for each in stimuli[:count].split(BATCH))
        return
    chosen = stimuli if stimuli is not None else builtin_photographs()
    if isinstance(chosen, StimulusSet):
        for group in chosen.take(count, seed=seed).batches(BATCH):
            yield _shown(network, [each.load() for each in group])
        return
    items = list(chosen)[:count]
    if not items:
        raise BadInput("No stimuli were given; give at least one.")
    for start in range(0, len(items), BATCH):
        yield _shown(network, items[start : start + BATCH])


def _shown(network: Network, pictures: list[Any]) -> Batch:
    if network.preprocess is not None:
        return network.prepare(pictures)
    sides = {picture.size for picture in pictures if hasattr(picture, "size") and not isinstance(picture, Tensor)}
    if not sides:
        return network.prepare(torch.stack(pictures))
    side = min(min(size) for size in sides)
    arrays = [np.asarray(picture.convert("RGB").resize((side, side)), dtype=np.float32) / 255 for picture in pictures]
    return network.prepare_rgb(torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous())


def pixels_of(batch: Batch) -> Tensor:
    """The batch's only input, ``[batch channel y x]``."""
    return next(iter(batch.inputs.values()))


def with_pixels(batch: Batch, pixels: Tensor) -> Batch:
    """A batch of other pixels for the same network."""
    ids = tuple(str(row) for row in range(len(pixels)))
    return dataclasses.replace(batch, inputs=dict.fromkeys(batch.inputs, pixels), ids=ids)
