"""What is at a position of an input, as numbers that owe nothing to the site under study.

Pictures: what the unit can see, as gradient orientations in cells (after Dalal and Triggs 2005), a thumbnail of
brightness, and colour. Texts: the mean of the input embeddings around the token, near ones weighing more; where the
site *is* the embedding, random vectors for the tokens instead. Anything else: the input itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from cutaway.features.activity import Activity
from cutaway.features.examples import Pick
from cutaway.features.pictures import Pictures, resized
from cutaway.networks.network import Network

SIDE, CELLS, ORIENTATIONS = 32, 4, 8
REACH = 3.0
"""Tokens over which the weight of context falls to 1/e."""
_RANDOM_WIDTH = 64

Rows = Float[np.ndarray, "example feature"]


def describe(
    network: Network, activity: Activity, picks: Sequence[Pick], pictures: Pictures | None
) -> tuple[Rows, str]:
    """One row of numbers for each pick, and what they are, in words."""
    if pictures is not None:
        for each in picks:
            if (each.row, each.place) not in pictures.described:
                crop = pictures.crop(each.row, activity.position(each.place))
                pictures.described[each.row, each.place] = describe_picture(crop)
        rows = [pictures.described[each.row, each.place] for each in picks]
        return np.stack(rows), "orientation, brightness and colour of the receptive field"
    if activity.tokens and activity.grid_axes:
        table, what = _token_vectors(network, activity)
        both = network.task != "causal-lm"
        rows = [_context(table, activity.tokens[e.row], activity.position(e.place)[0], both) for e in picks]
        return np.stack(rows), what
    return np.stack([_raw(activity, each.row) for each in picks]), "the input itself"


def describe_picture(crop: Float[np.ndarray, "y x 3"]) -> Float[np.ndarray, " feature"]:
    """Orientation histograms in 4 x 4 cells (128), a 4 x 4 thumbnail without its mean (16), colour (3 + 3).

    Each of the three blocks has unit norm at most, so that none of them rules.
    """
    small = resized(crop, SIDE)
    grey = small.mean(axis=2)
    cell = SIDE // CELLS
    thumbnail = grey.reshape(CELLS, cell, CELLS, cell).mean(axis=(1, 3)).ravel()
    colour = small.reshape(-1, 3)
    tint = colour.mean(axis=0) - colour.mean()
    blocks = (_orientations(grey), thumbnail - thumbnail.mean(), np.concatenate([2 * tint, colour.std(axis=0)]))
    return np.concatenate([_at_most_unit(block) for block in blocks])


def _orientations(grey: Float[np.ndarray, "y x"]) -> Float[np.ndarray, " bin"]:
    """Gradient magnitude by unsigned orientation, cell by cell."""
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    angle = np.arctan2(down, right) % np.pi
    place = np.arange(SIDE) // (SIDE // CELLS)
    cell = place[:, None] * CELLS + place[None, :]
    # Soft bins: a small turn must make a small change.
    exact = angle / np.pi * ORIENTATIONS
    lower = np.floor(exact).astype(int)
    histogram = np.zeros(CELLS * CELLS * ORIENTATIONS)
    for step, share in ((0, 1 - (exact - lower)), (1, exact - lower)):
        bins = cell * ORIENTATIONS + (lower + step) % ORIENTATIONS
        histogram += np.bincount(bins.ravel(), (strength * share).ravel(), len(histogram))
    return np.sqrt(histogram)


def _at_most_unit(block: Float[np.ndarray, " feature"]) -> Float[np.ndarray, " feature"]:
    # The small constant keeps noise in an empty block from being blown up to unit size.
    return block / (np.linalg.norm(block) + 0.05)


def _token_vectors(network: Network, activity: Activity) -> tuple[dict[int, np.ndarray], str]:
    """A vector for each token that occurs, centred over them."""
    used = sorted({token for row in activity.tokens for token in row})
    embedding = getattr(network.module, "get_input_embeddings", lambda: None)()
    if embedding is None or activity.site.kind == "embed":
        vectors = np.random.default_rng(0).standard_normal((max(used) + 1, _RANDOM_WIDTH))[used]
        what = "random vectors of the tokens around"
    else:
        vectors = embedding.weight.detach()[torch.tensor(used, device=embedding.weight.device)].double().cpu().numpy()
        what = "input embeddings of the tokens around"
    vectors = vectors - vectors.mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return dict(zip(used, vectors)), what


def _context(
    table: dict[int, np.ndarray], tokens: Sequence[int], position: int, both_sides: bool
) -> Float[np.ndarray, " feature"]:
    end = len(tokens) if both_sides else position + 1
    weights = np.exp(-np.abs(np.arange(end) - position) / REACH)
    return weights @ np.stack([table[token] for token in tokens[:end]]) / np.sqrt((weights**2).sum())


def _raw(activity: Activity, row: int) -> Float[np.ndarray, " feature"]:
    content = activity.stimuli[row].load()
    array = torch.as_tensor(np.asarray(content) if not isinstance(content, torch.Tensor) else content)
    return array.double().flatten().cpu().numpy()
