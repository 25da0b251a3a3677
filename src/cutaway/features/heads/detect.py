"""Every detector on every head: what a head looks at, and what it does to what it sees.

1. Patterns on [start, r, r] against [start, s, r] (Olsson et al. 2022): induction, duplicate token.
2. Patterns on [start, s, r] against untrained twins: previous and next token, rest at the start, dependence on the
offset. 3. Weights: copying (Elhage et al. 2021), successor (Gould et al. 2023).
4. Patterns on text: pieces of one word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats

from cutaway.errors import NotTestable
from cutaway.evidence.measurement import Measurement
from cutaway.evidence.permutation import familywise_p, permutation_p_units
from cutaway.evidence.twins import untrained_twin
from cutaway.features.heads.patterns import Statistic, attention_at, measured, offset_share, start_attention
from cutaway.features.heads.report import HeadReport, HeadScores
from cutaway.features.heads.tokens import Pieces, Repeats, repeated_tokens, word_pieces
from cutaway.features.heads.writes import copying, ordinals, successor
from cutaway.networks.anatomy import Anatomy, anatomy
from cutaway.networks.network import Network
from cutaway.stimuli import builtin_text

SEQUENCES, LENGTH, TEXTS = 16, 32, 8
FLIPS = 1999
_TWIN_HEADS = 99  # at least so many null heads
_TWIN_SEQUENCES = 8

Progress = Callable[[int, int, str], None]
Columns = dict[str, list[Measurement]]


def detect_heads(
    network: Network,
    *,
    sequences: int = SEQUENCES,
    length: int = LENGTH,
    texts: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> HeadReport:
    """Scores of every head of a transformer, each with its null; see :class:`HeadScores` and ``docs/heads.md``.

    ``texts`` are passages for word pieces (default: the package's own). Detectors that the network cannot be asked
    (copying without an unembedding, word pieces without a tokenizer) are None. Raises ``NotTestable`` for networks
    without attention heads over tokens.
    """
    body = anatomy(network)
    if network.modality != "text":
        raise NotTestable(
            f"Attention heads over tokens were asked about; {network.name} takes {network.modality} input."
        )
    shown = repeated_tokens(network, count=sequences, length=length, seed=seed)
    columns = _by_pattern(network, body, shown, seed, progress)
    columns |= _by_weights(network, body, seed)
    columns |= _by_words(network, texts, seed)
    places = [(layer.index, head) for layer in body.layers for head in range(layer.heads)]
    heads = tuple(
        HeadScores(layer, head, **{name: column[index] for name, column in columns.items()})
        for index, (layer, head) in enumerate(places)
    )
    return HeadReport(network.name, heads, sequences, shown.length, shown.start, seed)


def _by_pattern(network: Network, body: Anatomy, shown: Repeats, seed: int, progress: Progress | None) -> Columns:
    content = _content_statistics(shown.length, body.causal)
    place = _place_statistics(body.causal)

    def tell(what: str) -> Callable[[int, int], None]:
        told = progress or (lambda _done, _total, _what: None)
        return lambda done, total: told(done, total, what)

    repeated = measured(network, shown.repeated, list(content.values()), tell("repeated tokens"))
    unrelated = measured(network, shown.unrelated, [*content.values(), *place.values()], tell("unrelated tokens"))
    columns: Columns = {}
    for index, name in enumerate(content):
        columns[name] = against_unrelated(repeated[index].numpy(), unrelated[index].numpy(), seed=seed)
    heads = unrelated.shape[2]
    twins = [untrained_twin(network, seed=seed + k) for k in range(-(-_TWIN_HEADS // heads))] if heads else []
    null = [
        measured(twin, shown.unrelated[:_TWIN_SEQUENCES], list(place.values()), tell("untrained twin")).mean(1)
        for twin in twins
    ]
    for index, name in enumerate(place):
        values = unrelated[len(content) + index].numpy()
        columns[name] = against_twins(values, torch.cat([each[index] for each in null]).numpy(), seed=seed)
    return columns


def _content_statistics(length: int, causal: bool) -> dict[str, Statistic]:
    """Scores that need the tokens to be the same. Where a position may look ahead, repeats are seen from both sides and
    no head needs to remember what came next: induction does not apply."""
    found: dict[str, Statistic] = {"duplicate_token": lambda pattern: attention_at(pattern, length, length + 1)}
    if causal:
        found["induction"] = lambda pattern: attention_at(pattern, length - 1, length + 1)
    return found


def _place_statistics(causal: bool) -> dict[str, Statistic]:
    found: dict[str, Statistic] = {
        "previous_token": lambda pattern: attention_at(pattern, 1),
        "bos_sink": start_attention,
        "positional": lambda pattern: offset_share(pattern, causal=causal),
    }
    if not causal:
        found["next_token"] = lambda pattern: attention_at(pattern, -1, 0)
    return found


def _by_weights(network: Network, body: Anatomy, seed: int) -> Columns:
    columns: Columns = {}
    if body.unembed is None or not body.pre_norm or network.task != "causal-lm":
        return columns
    try:
        scores, null = copying(network, seed=seed)
    except NotTestable:  # it answers with other tokens than it reads
        return columns
    if len(null):
        p = permutation_p_units(scores, np.repeat(null[:, None], len(scores), 1), alternative="greater")
        columns["copying"] = _columns(scores, null.mean(), null.std(ddof=1), p, len(null), seed)
    words = ordinals(network)
    if words is not None:
        shares, shuffles = successor(network, words, seed=seed)
        corrected = familywise_p(shares, shuffles, alternative="greater")
        columns["successor"] = _columns(
            shares, shuffles.mean(0), shuffles.std(0, ddof=1), corrected, len(words.pairs), seed
        )
    return columns


def _by_words(network: Network, texts: Sequence[str] | None, seed: int) -> Columns:
    if not getattr(network.tokenizer, "is_fast", False):
        return {}
    passages = [each.load() for each in builtin_text(count=TEXTS, seed=seed)] if texts is None else list(texts)
    pieces = word_pieces(network, passages)
    if pieces is None:
        return {}
    values, labels, origin = _previous_attention(network, pieces)
    if not 0 < labels.sum() < len(labels):
        return {}
    return {"subword_merge": against_shuffled_labels(values, labels, origin, seed=seed)}


def _previous_attention(
    network: Network, pieces: Pieces
) -> tuple[Float[np.ndarray, "token head"], Bool[np.ndarray, " token"], np.ndarray]:
    """Attention of every token from the third on to the one before, whether it goes on with a word, and its text."""
    sites = [f"layers.{layer.index}.attn.pattern" for layer in anatomy(network).layers]
    values, labels, origin = [], [], []
    for index, (ids, continues) in enumerate(zip(pieces.ids, pieces.continues)):
        if len(ids) < 3:
            continue
        run = network.run(ids[None], capture=sites, stop_at=sites[-1])
        pattern = torch.cat([run[site][0] for site in sites])
        values.append(pattern.diagonal(-1, 1, 2)[:, 1:].T.cpu().double().numpy())
        labels.append(continues[2:].numpy())
        origin += [index] * (len(ids) - 2)
    return np.concatenate(values), np.concatenate(labels), np.array(origin)


def against_unrelated(
    repeated: Float[np.ndarray, "sequence head"], unrelated: Float[np.ndarray, "sequence head"], *, seed: int = 0
) -> list[Measurement]:
    """Means over sequences; under the null a sequence's difference has a random sign, the same for all heads."""
    difference = repeated.astype(float) - unrelated
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(FLIPS, len(difference)))
    p = familywise_p(difference.mean(0), signs @ difference / len(difference), alternative="greater")
    low, high = mean_bounds(repeated)
    return [
        Measurement(float(v), float(a), float(b), float(mean), float(std), float(q), len(repeated), seed)
        for v, a, b, mean, std, q in zip(repeated.mean(0), low, high, unrelated.mean(0), unrelated.std(0, ddof=1), p)
    ]


def against_twins(
    values: Float[np.ndarray, "sequence head"], null: Float[np.ndarray, " null_head"], *, seed: int = 0
) -> list[Measurement]:
    """Means over sequences, each against the means of all heads of untrained twins."""
    means = values.mean(0).astype(float)
    p = permutation_p_units(means, np.repeat(null[:, None].astype(float), len(means), 1), alternative="greater")
    low, high = mean_bounds(values)
    spread = float(null.std(ddof=1)) if len(null) > 1 else float("nan")
    return [
        Measurement(float(mean), float(a), float(b), float(null.mean()), spread, float(each), len(values), seed)
        for mean, a, b, each in zip(means, low, high, p)
    ]


def against_shuffled_labels(
    values: Float[np.ndarray, "token head"], labels: Bool[np.ndarray, " token"], origin: np.ndarray, *, seed: int = 0
) -> list[Measurement]:
    """mean(labelled) - mean(others) per head; under the null labels move among the tokens of a text."""
    rng = np.random.default_rng(seed)
    draws = np.tile(labels, (199, 1))
    for text in np.unique(origin):
        members = np.flatnonzero(origin == text)
        draws[:, members] = rng.permuted(draws[:, members], axis=1)
    weights = np.vstack([labels, draws]).astype(float)
    gaps = (weights @ values) / weights.sum(1, keepdims=True) - ((1 - weights) @ values) / (1 - weights).sum(
        1, keepdims=True
    )
    p = familywise_p(gaps[0], gaps[1:], alternative="greater")
    return _columns(gaps[0], gaps[1:].mean(0), gaps[1:].std(0, ddof=1), p, len(np.unique(origin)), seed)


def mean_bounds(
    values: Float[np.ndarray, "sequence head"],
) -> tuple[Float[np.ndarray, " head"], Float[np.ndarray, " head"]]:
    """The 95 % t interval of each column's mean."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / np.sqrt(len(values))
    return values.mean(0) - half, values.mean(0) + half


def _columns(values: np.ndarray, mean: object, std: object, p: np.ndarray, n: int, seed: int) -> list[Measurement]:
    rows = zip(
        values, np.broadcast_to(np.asarray(mean), values.shape), np.broadcast_to(np.asarray(std), values.shape), p
    )
    return [
        Measurement(float(v), null_mean=float(m), null_std=float(s), p=float(q), n=n, seed=seed) for v, m, s, q in rows
    ]
